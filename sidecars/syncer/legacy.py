"""Names that git-sync had before: variables of older versions, and the flags of its version 3."""

from __future__ import annotations

from typing import NamedTuple


def _old(*names: str) -> dict[str, tuple[str, ...]]:
    return {f"GITSYNC_{name}": (f"GIT_SYNC_{name}",) for name in names}


# The older names of each variable. Where several are set, the last one wins.
VARIABLES: dict[str, tuple[str, ...]] = {
    **_old("ADD_USER", "DEPTH", "ERROR_FILE", "EXECHOOK_BACKOFF", "EXECHOOK_COMMAND", "EXECHOOK_TIMEOUT", "GIT"),
    **_old("GIT_CONFIG", "GIT_GC", "GROUP_WRITE", "HTTP_BIND", "HTTP_METRICS", "HTTP_PPROF", "LINK", "MAX_FAILURES"),
    **_old("ONE_TIME", "PASSWORD", "PASSWORD_FILE", "PERIOD", "REPO", "ROOT", "SPARSE_CHECKOUT_FILE", "SUBMODULES"),
    **_old("SYNC_ON_SIGNAL", "SYNC_TIMEOUT", "TOUCH_FILE", "USERNAME", "WEBHOOK_BACKOFF", "WEBHOOK_METHOD"),
    **_old("WEBHOOK_SUCCESS_STATUS", "WEBHOOK_TIMEOUT", "WEBHOOK_URL"),
    "GITSYNC_ASKPASS_URL": ("GIT_SYNC_ASKPASS_URL", "GIT_ASKPASS_URL"),
    "GITSYNC_COOKIE_FILE": ("GIT_SYNC_COOKIE_FILE", "GIT_COOKIE_FILE"),
    "GITSYNC_SSH_KEY_FILE": ("GIT_SYNC_SSH_KEY_FILE", "GIT_SSH_KEY_FILE"),
    "GITSYNC_SSH_KNOWN_HOSTS": ("GIT_SYNC_KNOWN_HOSTS", "GIT_KNOWN_HOSTS"),
    "GITSYNC_SSH_KNOWN_HOSTS_FILE": ("GIT_SYNC_SSH_KNOWN_HOSTS_FILE", "GIT_SSH_KNOWN_HOSTS_FILE"),
}


class Flag(NamedTuple):
    """A flag of version 3: how its value is read, its variable, and what to use instead."""

    kind: type
    variable: str
    instead: str


FLAGS: dict[str, Flag] = {
    "branch": Flag(str, "GIT_SYNC_BRANCH", "--ref"),
    "rev": Flag(str, "GIT_SYNC_REV", "--ref"),
    "dest": Flag(str, "GIT_SYNC_DEST", "--link"),
    "wait": Flag(float, "GIT_SYNC_WAIT", "--period"),
    "timeout": Flag(int, "GIT_SYNC_TIMEOUT", "--sync-timeout"),
    "max-sync-failures": Flag(int, "GIT_SYNC_MAX_SYNC_FAILURES", "--max-failures"),
    "sync-hook-command": Flag(str, "GIT_SYNC_HOOK_COMMAND", "--exechook-command"),
    "password": Flag(str, "", "--password-file or GITSYNC_PASSWORD"),
    "v": Flag(int, "", "-v or --verbose"),
    "ssh": Flag(bool, "", "nothing: SSH is always set up"),
    "change-permissions": Flag(int, "GIT_SYNC_PERMISSIONS", "--group-write"),
}
