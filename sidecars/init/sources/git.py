"""A revision of a git repository: its files without its history, fetched as little as git can."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import stat
import time
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.git import Git, GitFailed
from sidecars.core.log import log
from sidecars.init import placing, tree
from sidecars.init.archives import Rules, Unsafe, check_link, safe
from sidecars.init.signals import SSH
from sidecars.init.sources import Again, Changed, Patience
from sidecars.init.transfer import persist
from sidecars.init.tree import STAGING, Entry, Tree

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_PERMANENT = re.compile(
    r"couldn't find remote ref|Authentication failed|could not read (Username|Password)|not found|Permission denied"
    r"|Host key verification failed|does not appear to be a git repository|certificate|not our ref|unadvertised"
    r"|No space left|invalid refspec",
    re.IGNORECASE,
)


class Address(NamedTuple):
    """A repository, and what of it.

    url   as git is given it, without a password
    ref   branch, tag or hash; empty: what HEAD is there
    path  a directory in it; empty: all
    """

    url: str
    ref: str
    path: str

    @property
    def shown(self) -> str:
        """The URI again."""
        options = [f"{name}={text}" for name, text in (("ref", self.ref), ("path", self.path)) if text]
        return f"git+{self.url}" + ("?" + "&".join(options) if options else "")


class Login(NamedTuple):
    """How git gets in.

    header       HTTP's Authorization; empty: none
    ssh_key      the file of a private key
    known_hosts  the file of the hosts that are known; ssh's own without one
    """

    header: str = ""
    ca: str | None = None
    ssh_key: str | None = None
    known_hosts: str | None = None


def address(uri: str) -> Address:
    """Read git+https://HOST/PATH?ref=REF&path=DIR. Raises WrongSettings."""
    split = urlsplit(uri)
    options: dict[str, str] = {}
    for text in filter(None, split.query.split("&")):
        name, _, value = text.partition("=")
        if name not in ("ref", "path"):
            raise WrongSettings(f"the URI has {name[:40]}=, known are ref= and path=")
        options[name] = unquote(value)
    ref = options.get("ref", "")
    if ref.startswith("-") or re.search(r"[\x00-\x20\x7f:^~?*\[\\]|\.\.|@\{", ref):
        raise WrongSettings(f"ref={ref[:80]!r} is no branch, tag or hash")
    try:
        parts = safe(options.get("path", "").lstrip("/"))
    except Unsafe as error:
        raise WrongSettings(f"path= leads nowhere: {error}") from None
    if not split.hostname or not split.path.strip("/") or split.netloc.startswith("-"):
        raise WrongSettings(f"{uri[:200]} is no git+https://HOST/PATH")
    return Address(f"{split.scheme.removeprefix('git+')}://{split.netloc}{split.path}", ref, "/".join(parts))


def _by(words: list[str]) -> dict[str, str]:
    """Tell git how to run ssh. Where there is no shell to read the words, pod-init itself does."""
    program = shutil.which("pod-init")
    if shutil.which("sh") or program is None:
        return {"GIT_SSH_COMMAND": shlex.join(words)}
    return {"GIT_SSH": program, "GIT_SSH_VARIANT": "ssh", SSH: shlex.join(words)}


class Repository:
    """A revision of a repository, as a tree to be staged."""

    def __init__(self, place: Address, login: Login, patience: Patience, *, keep: bool, deadline: float | None) -> None:
        self.shown = place.shown
        self.git = Git()
        self._place = place
        self._patience = patience
        self._keep = keep
        self._deadline = None if deadline is None else time.monotonic() + deadline
        self._key = -1
        self._commit = ""
        self.git.environment = self._environment(login)
        self.git.secrets = lambda: [login.header.split()[-1]] if login.header else []
        self._config = self._configuration(login)

    def _environment(self, login: Login) -> dict[str, str]:
        scheme = self._place.url.partition("://")[0]
        made = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_ALLOW_PROTOCOL": scheme, "GIT_ATTR_NOSYSTEM": "1"}
        if login.ca:
            made["GIT_SSL_CAINFO"] = login.ca
        if scheme == "ssh":
            words = ["ssh", "-o", "BatchMode=yes"]
            if login.ssh_key:
                words += ["-o", "IdentitiesOnly=yes", "-i", self._private(login.ssh_key)]
            if login.known_hosts:
                words += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={login.known_hosts}"]
            made |= _by(words)
        return made

    def _private(self, key: str) -> str:
        """Give a path at which ssh takes the key: it refuses one of its own user's that others can read."""
        try:
            status = os.stat(key)
            if status.st_uid != os.getuid() or not status.st_mode & 0o077:
                return key
            with open(key, "rb") as file:
                text = file.read()
        except OSError as error:
            raise WrongSettings(f"--ssh-key {key} cannot be read: {error.strerror}; is it mounted?") from error
        self._key = os.memfd_create("key")
        os.fchmod(self._key, stat.S_IRUSR)
        os.write(self._key, text)
        return f"/proc/{os.getpid()}/fd/{self._key}"

    def _configuration(self, login: Login) -> dict[str, str]:
        made = {
            "advice.detachedHead": "false", "core.hooksPath": "/dev/null", "gc.auto": "0", "maintenance.auto": "false",
            "http.lowSpeedLimit": "1000", "http.lowSpeedTime": str(max(1, round(self._patience.read))),
            "core.protectNTFS": "false", "submodule.recurse": "false",
        }  # fmt: skip
        if login.header:
            # A header would follow a redirect to another host: with one, none is followed.
            made |= {"http.extraHeader": f"Authorization: {login.header}", "http.followRedirects": "false"}
        return made

    def _run(self, *words: str, cwd: str, environment: dict[str, str] | None = None) -> str:
        output = self.git.run(
            *words, cwd=cwd, deadline=self._deadline, config=self._config, environment=environment or {}
        )
        return output.stdout.decode(errors="surrogateescape")

    def _ask(self, *words: str, cwd: str, environment: dict[str, str] | None = None) -> str:
        """Run what asks the server, again if that may help. Raises GitFailed, SidecarError."""

        def attempt() -> str:
            try:
                return self._run(*words, cwd=cwd, environment=environment)
            except GitFailed as error:
                if _PERMANENT.search(error.stderr) or not error.stderr:
                    raise
                raise Again(f"git cannot reach {self.shown}: {_said(error)}") from error

        return persist(attempt, self._patience)

    def look(self, rules: Rules) -> str:
        """Give the hash of the commit. Raises SidecarError."""
        if _HASH.fullmatch(self._place.ref):
            return self._place.ref
        ref = self._place.ref or "HEAD"
        names = (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}")
        try:
            peeled = [f"{name}^{{}}" for name in names]
            listed = self._ask("ls-remote", "-q", self._place.url, *names, *peeled, cwd="/")
        except GitFailed as error:
            raise self._failed(error) from error
        found = {name: commit for commit, _, name in (line.partition("\t") for line in listed.splitlines())}
        for name in names:
            if name in found:
                self._commit = found.get(f"{name}^{{}}", found[name])
                return self._commit
        raise SidecarError(f"{self._place.url} has no ref {ref!r}; is it a branch or a tag there?")

    def _failed(self, error: GitFailed) -> SidecarError:
        said = _said(error)
        advice = "are URL, ref and credentials right?"
        if re.search(r"could not read (Username|Password)|Authentication failed", said):
            advice = "give --token-file, or --user and --password-file, with one that may read it"
        return SidecarError(f"git cannot fetch {self.shown}: {said}; {advice}")

    def stage(self, staging: str, dest: str | None, rules: Rules) -> Tree:
        """Export the files below an empty directory; what there is to be, by path. Raises SidecarError, OSError."""
        placing.remove_unwanted(staging, {}, tree.ALL)
        area = os.path.join(staging, STAGING)
        if os.path.lexists(area):
            placing.remove(area)
        os.mkdir(area)
        store = os.path.join(staging, ".git") if self._keep else os.path.join(area, "git")
        where = {"GIT_DIR": store, "GIT_WORK_TREE": staging, "GIT_INDEX_FILE": os.path.join(store, "index")}
        try:
            self._export(staging, where)
        except GitFailed as error:
            raise self._failed(error) from error
        finally:
            if os.path.lexists(area):
                placing.remove(area)
        return self._mapped(staging, rules)

    def _export(self, staging: str, where: dict[str, str]) -> None:
        store = where["GIT_DIR"]
        self._run("init", "-q", "--template=", cwd=staging, environment={"GIT_DIR": store, "GIT_WORK_TREE": staging})
        commit = self._fetch(staging, where)
        if self._commit not in ("", commit) and not _HASH.fullmatch(self._place.ref):
            raise Changed(f"{self.shown} has moved on")
        treeish = f"{commit}:{self._place.path}" if self._place.path else commit
        kind = self._run("cat-file", "-t", treeish, cwd=staging, environment=where).strip()
        if kind == "blob":
            raise SidecarError(f"path={self._place.path} is a file; name its directory, and --include it")
        self._run("read-tree", treeish, cwd=staging, environment=where)
        names = self._run("ls-files", "-s", "-z", "--", STAGING, tree.MANIFEST, ".git", cwd=staging, environment=where)
        if names:
            raise SidecarError(f"{self.shown} has files under a name that pod-init keeps for itself")
        self._run("checkout-index", "-a", "-f", "-q", cwd=staging, environment=where)
        if self._keep:
            self._run("update-ref", "--no-deref", "HEAD", commit, cwd=staging, environment=where)
            self._run("config", "remote.origin.url", self._place.url, cwd=staging, environment=where)

    def _fetch(self, staging: str, where: dict[str, str]) -> str:
        """Fetch one commit, and give its hash."""
        ref = self._place.ref or "HEAD"
        words = ("fetch", "-q", "--no-tags", "--no-write-commit-graph", "--no-recurse-submodules")
        try:
            self._ask(*words, "--depth=1", self._place.url, ref, cwd=staging, environment=where)
        except GitFailed as error:
            if not _HASH.fullmatch(ref) or ("not our ref" not in error.stderr and "unadvertised" not in error.stderr):
                raise
            # A server may give tips only.
            log.info("fetching the whole history", reason="the server gives no single commit")
            everything = ("+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/fetched/tags/*")
            self._ask(*words, self._place.url, *everything, cwd=staging, environment=where)
            return self._run("rev-parse", "--verify", f"{ref}^{{commit}}", cwd=staging, environment=where).strip()
        return self._run("rev-parse", "--verify", "FETCH_HEAD^{commit}", cwd=staging, environment=where).strip()

    def _mapped(self, staging: str, rules: Rules) -> Tree:
        """Look at what there is, take away what is not wanted, and give the rest its permissions."""
        found = tree.scan(staging, rules.selection)
        for path in placing.unwanted(staging, found, tree.ALL):
            placing.remove(os.path.join(staging, path))
        for path, entry in list(found.items()):
            if not path.startswith(".git/"):
                mapped = self._checked(staging, path, entry, rules)
                if mapped is None:
                    del found[path]
                else:
                    found[path] = mapped
        return found

    def _checked(self, staging: str, path: str, entry: Entry, rules: Rules) -> Entry | None:
        whole = os.path.join(staging, path)
        if entry.kind == "link":
            try:
                check_link(path, entry.target)
            except Unsafe as error:
                if not rules.skip:
                    raise SidecarError(f"{error}; --unsafe skip leaves such links out") from error
                log.warning("left out", reason=str(error))
                os.unlink(whole)
                return None
        mode = {"file": rules.mode, "dir": rules.dir_mode}.get(entry.kind)
        if mode is None:
            return entry
        if entry.kind == "file":
            os.chmod(whole, mode)
        return entry._replace(mode=mode)


def _said(error: GitFailed) -> str:
    """Give what git, ssh or the server has said, without what git says each time."""
    lines = [" ".join(line.split()) for line in error.stderr.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Please make sure", "and the repository exists"))]
    return " / ".join(told[-4:])[:300] or str(error)[:300]


def basic(user: str, password: str) -> str:
    """Write a login as HTTP's Basic authentication does."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
