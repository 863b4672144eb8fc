"""What git-sync calls a wrong configuration: settings that do not fit together, or lie outside of their limits."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from sidecars.core.errors import SidecarError, redacted
from sidecars.syncer.settings import Settings
from sidecars.syncer.units import Duration

# Texts that are one of a few words: a wrong one is a wrong configuration.
CHOICES = {
    "submodules": ("recursive", "shallow", "off"),
    "git_gc": ("always", "auto", "aggressive", "off"),
}
_SECRET = re.compile(r'("password"\s*:\s*)"(?:[^"\\]|\\.)*"')
# May hold a token: in its path or its query, or in a header that git is to send.
PRIVATE = ("webhook_url", "askpass_url", "git_config", "git_config_add")
_LEAST_PERIOD = 0.01
_LEAST_HOOK = 1.0


class WrongConfiguration(SidecarError):  # noqa: N818
    """The settings do not fit together; git-sync ends with 1 then, and leaves the text in the error file."""

    exit_code = 1


def shown(name: str, text: str) -> str:
    """Give a flag's value as it may be logged."""
    if name == "credential":
        return _SECRET.sub(r'\1"REDACTED"', text)
    if name in PRIVATE and text:
        return "REDACTED"
    return redacted(text)


def modernise(values: dict[str, Any], old: dict[str, Any]) -> None:
    """Turn the flags of version 3 into those of today."""
    _take_ref(values, old)
    simple: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "dest": ("link", str),
        "wait": ("period", lambda seconds: Duration(round(seconds, 3))),
        "timeout": ("sync_timeout", Duration),
        "max-sync-failures": ("max_failures", int),
        "sync-hook-command": ("exechook_command", str),
    }
    for name, (field, kind) in simple.items():
        if old.get(name):
            values[field] = kind(old[name])
    if old.get("v", -1) >= 0:
        values["verbose"] = old["v"]
    if old.get("change-permissions"):
        raise WrongConfiguration("--change-permissions is no longer supported: use --group-write")


def _take_ref(values: dict[str, Any], old: dict[str, Any]) -> None:
    branch, rev = old.get("branch", ""), old.get("rev", "")
    if branch and rev not in ("", "HEAD"):
        raise WrongConfiguration("--branch and --rev are both set: use --ref")
    if branch or rev:
        values["ref"] = branch or rev


def check(repositories: Sequence[Settings], *, several: bool) -> None:
    """Raise WrongConfiguration for the first thing that is wrong."""
    for settings in repositories:
        for problem in problems(settings):
            raise WrongConfiguration(f"{redacted(settings.repo)}: {problem}" if several and settings.repo else problem)
    roots = [os.path.realpath(settings.root) for settings in repositories]
    for index, root in enumerate(roots):
        if root in roots[:index]:
            raise WrongConfiguration(f"two repositories have the root {root}; give each its own")
    names = [settings.called for settings in repositories]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise WrongConfiguration(f"two repositories are called {name}; give each its own name")


def problems(settings: Settings) -> Iterator[str]:
    """Give what is wrong with the settings of one repository, the most basic first."""
    yield from _basics(settings)
    yield from _limits(settings)
    yield from _hooks(settings)
    yield from _login(settings)
    yield from _github(settings)
    yield from _credentials(settings)
    yield from _doors(settings)
    yield from _own(settings)


def _basics(settings: Settings) -> Iterator[str]:
    for flag, text in (("--root", settings.root), ("--repo", settings.repo), ("--ref", settings.ref)):
        if not text:
            yield f"{flag} must be specified: give it, or set GITSYNC_{flag[2:].upper()}"
    for flag, text in (("--repo", settings.repo), ("--ref", settings.ref), ("--filter", settings.filter)):
        if text.startswith("-"):
            yield f"{flag} is {redacted(text)!r}, which begins with a dash; git would take it for an option"


def _limits(settings: Settings) -> Iterator[str]:
    if settings.depth < 0:
        yield f"--depth is {settings.depth}, expected 0 or more"
    for name, words in CHOICES.items():
        if getattr(settings, name) not in words:
            yield f"--{name.replace('_', '-')} is {getattr(settings, name)!r}, expected one of {', '.join(words)}"
    if settings.period < _LEAST_PERIOD:
        yield f"--period is {settings.period}, expected 10ms or more"
    if settings.init_period and settings.init_period < _LEAST_PERIOD:
        yield f"--init-period is {settings.init_period}, expected 10ms or more"
    if settings.sync_timeout < _LEAST_PERIOD:
        yield f"--sync-timeout is {settings.sync_timeout}, expected 10ms or more"


def _hooks(settings: Settings) -> Iterator[str]:
    hooks = (
        ("exechook", settings.exechook_command),
        ("pre-publish-exechook", settings.pre_publish_exechook_command),
        ("webhook", settings.webhook_url),
    )
    for name, on in hooks:
        for limit in ("timeout", "backoff"):
            given = getattr(settings, f"{name.replace('-', '_')}_{limit}")
            if on and given < _LEAST_HOOK:
                yield f"--{name}-{limit} is {given}, expected 1s or more"
    if settings.webhook_success_status < -1:
        yield f"--webhook-success-status is {settings.webhook_success_status}, expected a status, 0 or -1"
    if settings.sync_on_signal:
        number = signal_number(settings.sync_on_signal)
        if number is None:
            yield f"--sync-on-signal is {settings.sync_on_signal!r}, which is no signal; give a name such as SIGHUP"
        if number in (signal.SIGKILL, signal.SIGSTOP):
            yield f"--sync-on-signal is {settings.sync_on_signal!r}, which no process can catch; give SIGHUP"


def signal_number(text: str) -> signal.Signals | None:
    """Read a signal: its number, or its name with or without SIG."""
    names = signal.Signals.__members__
    if text.isdigit():
        return next((each for each in signal.Signals if each == int(text)), None)
    name = text.upper()
    return names.get(name) or names.get(f"SIG{name}")


def _login(settings: Settings) -> Iterator[str]:
    userinfo = _userinfo(settings.repo)
    if settings.username:
        if settings.password is None:
            yield "--username needs --password-file, or the variable GITSYNC_PASSWORD"
        if userinfo:
            yield "--username is given beside credentials inside --repo; keep one"
    elif settings.password is not None:
        yield "a password is given without --username; give it"


def _userinfo(repo: str) -> bool:
    try:
        url = urlsplit(repo)
    except ValueError:
        return False
    return url.scheme in ("http", "https") and "@" in url.netloc


def _github(settings: Settings) -> Iterator[str]:
    ids = (settings.github_app_application_id, settings.github_app_client_id)
    if not any(ids):
        if settings.github_app_installation_id:
            yield "--github-app-installation-id needs --github-app-application-id or --github-app-client-id"
        return
    if all(ids):
        yield "--github-app-application-id and --github-app-client-id are both given; keep one"
    if not settings.github_app_installation_id:
        yield "a GitHub App needs --github-app-installation-id"
    if settings.github_app_private_key is None:
        yield "a GitHub App needs --github-app-private-key-file, or the variable GITSYNC_GITHUB_APP_PRIVATE_KEY"
    if settings.username or settings.password is not None:
        yield "a GitHub App is given beside --username or a password; keep one"


def _credentials(settings: Settings) -> Iterator[str]:
    for entry in settings.credentials():
        if not entry.url or not entry.username:
            yield "an entry of --credential has no url or no username; give both"
        if bool(entry.password) == bool(entry.password_file):
            yield f"the entry of --credential for {redacted(entry.url)} needs one of password and password-file"


def _doors(settings: Settings) -> Iterator[str]:
    for flag, on in (("--http-metrics", settings.http_metrics), ("--http-pprof", settings.http_pprof)):
        if on and not settings.http_bind:
            yield f"{flag} needs --http-bind"
    if settings.hook_bind and settings.hook_secret is None:
        yield "--hook-bind needs --hook-secret-file, or the variable GITSYNC_HOOK_SECRET: anybody could post else"


def _own(settings: Settings) -> Iterator[str]:
    if settings.keep_worktrees < 0:
        yield f"--keep-worktrees is {settings.keep_worktrees}, expected 0 or more"
    if settings.concurrency < 1:
        yield f"--concurrency is {settings.concurrency}, expected 1 or more"
    if settings.verify_signatures in ("ssh", "any") and not settings.allowed_signers_file:
        yield f"--verify-signatures={settings.verify_signatures} needs --allowed-signers-file"
    if settings.verify_signatures in ("gpg", "any") and not settings.gpg_keyring_file:
        yield f"--verify-signatures={settings.verify_signatures} needs --gpg-keyring-file"
