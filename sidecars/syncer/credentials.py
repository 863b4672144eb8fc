"""How git gets in: its configuration, passwords, tokens and ssh, made once and refreshed before each pass."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from sidecars.core.errors import SidecarError, WrongSettings, redacted
from sidecars.core.git import BLACK, Git
from sidecars.core.units import Secret
from sidecars.syncer import gitconfig, ssh
from sidecars.syncer.gitconfig import ConfigurationFile, Pair
from sidecars.syncer.github_app import GitHubApp
from sidecars.syncer.logins import Login, LoginFiles, basic, best, taken_out
from sidecars.syncer.settings import Settings

_ASKPASS_PATIENCE = 1.0  # seconds
_DEFAULT_GIT = "git"
_TOKEN = 12  # characters; those of the forges have 20 and more
_T = TypeVar("_T")


class NoAccess(SidecarError):  # noqa: N818
    """Something that git needs to get in is not there."""


class _Entry(NamedTuple):
    url: str
    username: str
    secret: Secret


class Access:
    """How one repository's git gets in.

    start    once; writes the private configuration, and gives `git` its environment
    refresh  before each pass; passwords are read anew, servers asked for theirs
    close    at the end; the configuration is removed

    say              is told what an operator should know
    asked            is told success or error after each question to --askpass-url
    token_refreshed  likewise for a GitHub App's token

    All but `secrets`, `login` and `url` block: they are for a thread.
    """

    cookie_file = "/etc/git-secret/cookie_file"

    def __init__(self, settings: Settings, git: Git, environ: Mapping[str, str] = os.environ) -> None:
        self.say: Callable[[str], None] = lambda text: None
        self.asked: Callable[[str], None] = lambda status: None
        self.token_refreshed: Callable[[str], None] = lambda status: None
        self._settings = settings
        self._git = git
        self._environ = environ
        self._url, self._from_url = taken_out(settings.repo)
        # A Secret that is given by a file reads it anew when it has changed: each is made once.
        self._listed = [
            _Entry(
                taken_out(entry.url)[0],
                entry.username,
                Secret(file=entry.password_file) if entry.password_file else Secret(entry.password),
            )
            for entry in settings.credentials()
        ]
        key = settings.github_app_private_key
        wanted = settings.github_app_client_id or settings.github_app_application_id
        self._app = GitHubApp(settings, key, self.ca_file) if key and wanted else None
        self._keys = ssh.Keys(settings.ssh_key_file, lambda text: self.say(text))
        self._pairs: tuple[Pair, ...] = ()
        self._logins: tuple[Login, ...] = ()
        self._before: tuple[Login, ...] = ()
        self._files: LoginFiles | None = None
        self._configuration: ConfigurationFile | None = None

    @property
    def url(self) -> str:
        """The repository's URL as git is given it: without a password."""
        return self._url

    @property
    def ca_file(self) -> str:
        """The certificates that are trusted; those of the system when it is empty."""
        return self._settings.ca_file or self._environ.get("GIT_SSL_CAINFO", "")

    def login(self) -> tuple[str, str] | None:
        """Give user and password that git would use for the repository, for who asks the server in git's place."""
        login = best(self._logins, self._url)
        return (login.username, login.password) if login else None

    def secrets(self) -> tuple[str, ...]:
        """Give all texts that must not be shown: of now and, for what is on its way still, of the last refresh."""
        found = {text for login in (*self._logins, *self._before) for text in secret_texts(login)}
        headers = (pair.value for pair in self._pairs if pair.key.lower().endswith(".extraheader"))
        found.update(value.split()[-1] for value in headers if value.strip())
        return tuple(sorted(found, key=len, reverse=True))

    def conceal(self, text: str) -> str:
        """Black out what must not be shown."""
        for secret in self.secrets():
            text = text.replace(secret, BLACK)
        return redacted(text)

    def environment(self) -> dict[str, str]:
        """Give the variables of every git, and with it of the hooks."""
        assert self._configuration is not None, "start comes first"  # noqa: S101
        program = self._environ.get("GIT_SSH_COMMAND", "")
        variables = {
            "GIT_CONFIG_GLOBAL": self._configuration.path,
            "GIT_CONFIG_NOSYSTEM": "true",
            "GIT_SSH_COMMAND": ssh.command(program, self._settings, self._keys.paths()),
        }
        if self._settings.ca_file:
            variables |= dict.fromkeys(("GIT_SSL_CAINFO", "SSL_CERT_FILE"), self._settings.ca_file)
        return variables

    def start(self) -> None:
        """Write the configuration, and give git its environment. Raises SidecarError: the program cannot run."""
        self._pairs = gitconfig.given(self._settings.git_config, self._settings.git_config_add)
        if self._settings.cookie_file and not os.path.exists(self.cookie_file):
            raise NoAccess(f"--cookie-file is given, but there is no {self.cookie_file}; is the secret mounted?")
        if self._app and self._settings.github_app_private_key:
            _revealed(self._settings.github_app_private_key)  # A key that cannot be read is to be told of at once.
        self._check_user()
        if self._from_url:
            self._keep((self._from_url,))
        credential_keys = [key for key in self._own_keys() if key[0] == "credential"]
        self._files = LoginFiles(self._urls(), by_path=not credential_keys)
        text = gitconfig.rendered((*self._defaults(self._files.helper), *self._pairs)) + self._files.blocks()
        self._configuration = ConfigurationFile(text, self._environ.get("TMPDIR") or "/tmp")  # noqa: S108
        self._git.secrets = self.secrets
        self._git.umask = 0o002 if self._settings.group_write else 0o022
        self._git.environment.update(self.environment())

    def close(self) -> None:
        """Remove what was made."""
        for each in (self._configuration, self._files, self._keys):
            if each:
                each.close()
        self._configuration = self._files = None

    def refresh(self, deadline: float) -> None:
        """Have git find today's passwords, until time.monotonic() is at the deadline. Raises SidecarError."""
        assert self._files, "start comes first"  # noqa: S101
        self._git.environment.update(self.environment())
        logins = [*self._given(), *self._from_askpass(deadline), *self._from_app(deadline)]
        self._keep(logins)
        self._files.replace(logins)
        if self._told_to_approve():
            for login in logins:
                text = f"url={login.url}\nusername={login.username}\npassword={login.password}\n"
                self._git.run("credential", "approve", cwd="/", deadline=deadline, input=os.fsencode(text))

    def _defaults(self, helper: str) -> list[Pair]:
        pairs = [
            Pair("gc.autoDetach", "false"),  # Nothing of git's runs on after it has ended.
            Pair("gc.pruneExpire", "now"),  # What is not reachable any more frees its space at once.
            Pair("credential.helper", helper),
            Pair("core.askPass", "true"),  # The program `true`, whose answer is empty: nothing ever prompts.
            Pair("safe.directory", "*"),  # The root may be another user's: fsGroup, or a user given at random.
        ]
        return [*pairs, Pair("http.cookieFile", self.cookie_file)] if self._settings.cookie_file else pairs

    def _check_user(self) -> None:
        uid, gid = os.getuid(), os.getgid()
        if self._settings.add_user:
            ssh.add_user(uid, gid, self._environ.get("HOME") or os.getcwd())
        elif ssh.spoken(self._url) and not ssh.known(uid):
            self.say(f"the user {uid} has no entry in /etc/passwd, and ssh does not start without; give --add-user")

    def _own_keys(self) -> list[tuple[str, str, str]]:
        return [gitconfig.split(pair.key) for pair in self._pairs]

    def _told_to_approve(self) -> bool:
        """Whether the logins are for more than our own files: for another helper, or a program in git's place."""
        others = any(section == "credential" and name == "helper" for section, _, name in self._own_keys())
        return others or self._settings.git != _DEFAULT_GIT

    def _urls(self) -> list[str]:
        asked = self._settings.username or self._from_url or self._settings.askpass_url or self._app
        return [*([self._url] if asked else []), *(entry.url for entry in self._listed)]

    def _given(self) -> list[Login]:
        """Read what the settings say: --username's pair, or the URL's, before those of --credential."""
        found = [self._from_url] if self._from_url else []
        if self._settings.username and self._settings.password:
            found.append(Login(self._url, self._settings.username, _revealed(self._settings.password)))
        return [*found, *(Login(entry.url, entry.username, _revealed(entry.secret)) for entry in self._listed)]

    def _from_askpass(self, deadline: float) -> list[Login]:
        if not self._settings.askpass_url:
            return []
        return [self._counted(self.asked, lambda: self._ask(deadline))]

    def _ask(self, deadline: float) -> Login:
        from sidecars.syncer.asking import ask  # urllib, which few need

        patience = max(0.01, min(_ASKPASS_PATIENCE, deadline - time.monotonic()))
        answer = ask("GET", self._settings.askpass_url, {}, patience, self.ca_file)
        if answer.status != 200:
            raise NoAccess(f"--askpass-url answers {answer.status}, expected 200")
        return askpass_login(self._url, answer.body)

    def _from_app(self, deadline: float) -> list[Login]:
        app = self._app
        if app is None:
            return []
        if app.due:
            self._counted(self.token_refreshed, lambda: app.renew(deadline))
        return [Login(self._url, "-", app.token)]

    def _counted(self, count: Callable[[str], None], ask: Callable[[], _T]) -> _T:
        try:
            found = ask()
        except SidecarError:
            count("error")
            raise
        count("success")
        return found

    def _keep(self, logins: Sequence[Login]) -> None:
        if tuple(logins) != self._logins:
            self._before, self._logins = self._logins, tuple(logins)


def askpass_login(url: str, body: bytes) -> Login:
    """Read the lines `username=` and `password=` of an answer; the last of each counts. Raises NoAccess."""
    lines = body.decode(errors="surrogateescape").replace("\r\n", "\n").split("\n")
    found = {name: text for name, equals, text in (each.partition("=") for each in lines) if equals}
    if "password" not in found:
        raise NoAccess("the answer of --askpass-url has no line that begins with password=")
    return Login(url, found.get("username", ""), found["password"])


def _revealed(secret: Secret) -> str:
    """Read a secret, without the line ends that editors leave. Raises NoAccess."""
    try:
        return secret.reveal().rstrip("\r\n")
    except WrongSettings as error:
        raise NoAccess(str(error)) from None


def secret_texts(login: Login) -> list[str]:
    """Give what must not be shown of a login, in the forms in which it may occur.

    A long name without a password is a token. A short one is just a name, as in https://git@git.example/app; were `git`
    blacked out, no log could be read.
    """
    password = login.password or (login.username if len(login.username) >= _TOKEN else "")
    return [password, quote(password, safe="", errors="surrogateescape"), basic(login)] if password else []
