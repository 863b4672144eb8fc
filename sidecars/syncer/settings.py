"""What an operator sets of git-syncer: git-sync's flags and variables, and what goes beyond them."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec

from sidecars.core.errors import redacted
from sidecars.core.settings import LIFE, READY, Address, Admin, Common, Help, Secret
from sidecars.syncer.units import Duration

PROG = "git-syncer"
PREFIX = "GITSYNC_"

WHAT, WHERE, WHEN, ACCESS = "What to sync", "Where to", "When", "Access"
HOOKS, DOORS, GIT, REPOSITORIES = "Hooks", "What is served", "How git is run", "Several repositories"


class Credential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """A username and a password for a URL, as one object of --credential."""

    url: str = ""
    username: str = ""
    password: str = ""
    password_file: str = ""


class Settings(Common, frozen=True, kw_only=True):
    """Keep a directory at a revision of a git repository, as git-sync does, with the same flags and variables.

    git-syncer --repo=https://github.com/example/site --ref=main --root=/git --period=30s
    git-syncer --config /etc/git-syncer.yaml
    git-syncer healthcheck [livez|readyz|startupz|healthz]

    What git-sync has too is read as git-sync reads it: an older variable wins over a newer one, an empty variable
    counts as given, and paths in GITSYNC_SSH_KEY_FILE are separated by colons.
    """

    name: Annotated[
        str, Help("What metrics, logs and the status page call it.", default="the last part of the link")
    ] = ""
    repo: Annotated[str, Help("The repository's URL.", WHAT, "URL")] = ""
    ref: Annotated[str, Help("A branch, a tag, any ref, or a full hash.", WHAT)] = "HEAD"
    depth: Annotated[int, Help("How much history to fetch; 0: all of it.", WHAT)] = 1
    filter: Annotated[str, Help("What not to fetch before it is needed, such as blob:none.", WHAT)] = ""
    submodules: Annotated[Literal["recursive", "shallow", "off"], Help("Which submodules to check out.", WHAT)] = (
        "recursive"
    )
    sparse_checkout_file: Annotated[str, Help("A file of patterns of the paths to check out.", WHAT, "PATH")] = ""
    root: Annotated[str, Help("The directory to work in.", WHERE, "PATH")] = ""
    link: Annotated[str, Help("The symlink that is published.", WHERE, "PATH", default="the last part of --repo")] = ""
    publish: Annotated[
        Literal["link", "mirror"], Help("Publish a symlink, or a real directory in its place.", WHERE)
    ] = "link"
    group_write: Annotated[bool, Help("Let the group write what is published.", WHERE)] = False
    stale_worktree_timeout: Annotated[Duration, Help("How long a replaced worktree is kept.", WHERE)] = Duration(0)
    keep_worktrees: Annotated[int, Help("How many replaced worktrees are kept, whatever their age.", WHERE)] = 0
    touch_file: Annotated[str, Help("A file to touch after each change.", WHERE, "PATH")] = ""
    period: Annotated[Duration, Help("How long to wait between two syncs.", WHEN)] = Duration(10)
    init_period: Annotated[Duration, Help("The same before the first success; 0: --period.", WHEN)] = Duration(0)
    sync_timeout: Annotated[Duration, Help("How long one sync may take.", WHEN)] = Duration(120)
    max_failures: Annotated[int, Help("Exit after so many failures in a row; negative: never.", WHEN)] = 0
    init_max_failures: Annotated[int | None, Help("The same before the first success.", WHEN, none="")] = None
    max_backoff: Annotated[Duration, Help("The longest wait after failures, which grows with each.", WHEN)] = Duration(
        60
    )
    max_staleness: Annotated[Duration, Help("/healthz fails when the last success is older; 0: off.", WHEN)] = Duration(
        0
    )
    username: Annotated[str, Help("The user for --repo.", ACCESS)] = ""
    password: Annotated[Secret | None, Help("The user's password.", ACCESS, none="")] = None
    credential: Annotated[
        tuple[str, ...], Help("Credentials for other URLs: a JSON object or a list of them.", ACCESS, "JSON")
    ] = ()
    askpass_url: Annotated[
        str, Help("Where to ask for username= and password= lines before each sync.", ACCESS, "URL")
    ] = ""
    cookie_file: Annotated[bool, Help("Use /etc/git-secret/cookie_file.", ACCESS)] = False
    ssh_key_file: Annotated[tuple[str, ...], Help("SSH keys.", ACCESS, "PATH")] = ("/etc/git-secret/ssh",)
    ssh_known_hosts: Annotated[bool, Help("Check the host's key.", ACCESS)] = True
    ssh_known_hosts_file: Annotated[str, Help("The known hosts.", ACCESS, "PATH")] = "/etc/git-secret/known_hosts"
    github_base_url: Annotated[str, Help("GitHub's API.", ACCESS, "URL")] = "https://api.github.com/"
    github_app_private_key: Annotated[Secret | None, Help("The GitHub App's private key.", ACCESS, none="")] = None
    github_app_application_id: Annotated[int, Help("The GitHub App's id.", ACCESS)] = 0
    github_app_client_id: Annotated[str, Help("The GitHub App's client id.", ACCESS)] = ""
    github_app_installation_id: Annotated[int, Help("The installation of the GitHub App.", ACCESS)] = 0
    ca_file: Annotated[str, Help("Certificates to trust, for git and all else.", ACCESS, "PATH")] = ""
    verify_signatures: Annotated[
        Literal["off", "gpg", "ssh", "any"], Help("Publish only commits signed so by a known key.", ACCESS)
    ] = "off"
    allowed_signers_file: Annotated[str, Help("The SSH keys that may sign.", ACCESS, "PATH")] = ""
    gpg_keyring_file: Annotated[str, Help("The OpenPGP keys that may sign.", ACCESS, "PATH")] = ""
    git: Annotated[str, Help("The git program.", GIT, "PROGRAM")] = "git"
    git_config: Annotated[str, Help("key:value,... for git config.", GIT)] = ""
    git_config_add: Annotated[tuple[str, ...], Help("One more key:value.", GIT)] = ()
    git_gc: Annotated[
        Literal["always", "auto", "aggressive", "off"], Help("How to collect garbage after a change.", GIT)
    ] = "always"
    exechook_command: Annotated[str, Help("A program to run after each change.", HOOKS, "PROGRAM")] = ""
    exechook_arg: Annotated[tuple[str, ...], Help("An argument of that program.", HOOKS)] = ()
    exechook_timeout: Annotated[Duration, Help("How long it may take.", HOOKS)] = Duration(30)
    exechook_backoff: Annotated[Duration, Help("How long to wait after it failed.", HOOKS)] = Duration(3)
    pre_publish_exechook_command: Annotated[str, Help("A program to start before each change.", HOOKS, "PROGRAM")] = ""
    pre_publish_exechook_timeout: Annotated[Duration, Help("How long it may take.", HOOKS)] = Duration(30)
    pre_publish_exechook_backoff: Annotated[Duration, Help("How long to wait after it failed.", HOOKS)] = Duration(3)
    gate_command: Annotated[
        str, Help("A program that must exit 0 before a revision is published.", HOOKS, "PROGRAM")
    ] = ""
    gate_timeout: Annotated[Duration, Help("How long it may take.", HOOKS)] = Duration(30)
    webhook_url: Annotated[str, Help("A URL to call after each change.", HOOKS, "URL")] = ""
    webhook_method: Annotated[str, Help("How.", HOOKS)] = "POST"
    webhook_success_status: Annotated[int, Help("The status that is a success; 0 or -1: any.", HOOKS)] = 200
    webhook_timeout: Annotated[Duration, Help("How long it may take.", HOOKS)] = Duration(1)
    webhook_backoff: Annotated[Duration, Help("How long to wait after it failed.", HOOKS)] = Duration(3)
    hook_secret: Annotated[Secret | None, Help("The secret of what is pushed to --hook-bind.", DOORS, none="")] = None
    hook_debounce: Annotated[Duration, Help("How long to wait for more pushes.", DOORS)] = Duration(0.05)

    one_time: Annotated[bool, Help("Sync once and exit.", WHEN)] = False
    sync_on_signal: Annotated[str, Help("Sync at once on this signal, such as SIGHUP.", WHEN, "SIGNAL")] = ""
    error_file: Annotated[str, Help("Where to leave the last error.", WHERE, "PATH")] = ""
    add_user: Annotated[bool, Help("Add this user to /etc/passwd, for ssh.", ACCESS)] = False
    http_bind: Annotated[str, Help("Where git-sync's HTTP endpoint is served.", DOORS, "HOST:PORT")] = ""
    http_metrics: Annotated[bool, Help("Serve /metrics there.", DOORS)] = False
    http_pprof: Annotated[bool, Help("Serve /debug/pprof/ there.", DOORS)] = False
    hook_bind: Annotated[str, Help("Where pushes are announced by POST /hook.", DOORS, "HOST:PORT")] = ""
    concurrency: Annotated[int, Help("How many repositories are synced at once.", WHEN)] = 2
    verbose: Annotated[int, Help("How much to log: 0 to 9.", GIT)] = 0

    admin: Admin = Address(":9104")
    # What is kept over a restart is under --root: it belongs to what is published there.
    state_dir: Annotated[str | None, Help("Not needed: all is kept under --root.", LIFE, "DIR", none="")] = "off"
    ready_when: Annotated[Literal["started", "fresh"], READY] = "started"

    def credentials(self) -> tuple[Credential, ...]:
        """Give what --credential says. Raises ValueError for a text that is none."""
        return tuple(msgspec.json.decode(text, type=Credential) for text in self.credential)

    @property
    def called(self) -> str:
        """What the repository is called: its name, or the last part of the link, or of the URL."""
        return self.name or os.path.basename((self.link or redacted(self.repo)).rstrip("/")) or "repository"


_COMMON = frozenset(Common.__struct_fields__)
# What git-sync does not have. Its own variables count as set even when they are empty; ours do not.
BEYOND = _COMMON | {
    "name", "publish", "keep_worktrees", "max_backoff", "max_staleness", "ca_file", "verify_signatures",
    "allowed_signers_file", "gpg_keyring_file", "exechook_arg", "gate_command", "gate_timeout", "hook_bind",
    "hook_secret", "hook_debounce", "concurrency",
}  # fmt: skip
# What the process has once, however many repositories it keeps.
OF_PROCESS = _COMMON | {
    "one_time", "sync_on_signal", "error_file", "add_user", "http_bind", "http_metrics", "http_pprof", "hook_bind",
    "concurrency", "verbose",
}  # fmt: skip
