"""Repositories that are cloned, and what is kept like another place in a loop: rows 20, 21, 23 and 24."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.logs import effects
from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.scope import UNSURE, Scope, duration, known, seconds, shown
from sidecars.pods.statements import Command, If, Statement

_LONG = ("branch", "depth", "origin", "config", "filter", "jobs", "reference", "template", "server-option")
_KNOWN = "q v b branch depth single-branch no-single-branch no-tags progress quiet verbose filter shallow-submodules"
_PULLS = frozenset(("pull", "fetch", "reset", "checkout", "clean", "merge"))


def sync(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise git clone, and loops that pull, push and copy to and from buckets."""
    match statement:
        case Command() if statement.name == "git":
            return _git(statement, scope)
        case Command() if statement.name == "mc" and "--watch" in scope.texts(statement):
            return (_mirrored(),)
        case If():
            return _cloned_or_pulled(statement, scope)
    turns = idle.endless(statement)
    if turns is None:
        return None
    does = [each for turn in turns for each in effects(turn)]
    names = [each.name for each in does if isinstance(each, Command)]
    if "git" in names:
        return _pulls(turns, does, scope)
    buckets = [each for each in idle.commands(turns) if each.name in ("aws", "mc", "gsutil", "rclone", "s3cmd", "az")]
    return (_uploads(buckets[0], scope),) if buckets else None


def _subcommand(command: Command, scope: Scope) -> tuple[str, list[str], str | None]:
    """Give git's subcommand, what follows it, and the directory of -C."""
    words = scope.texts(command)[1:]
    folder = None
    while len(words) > 1 and words[0] in ("-C", "-c"):
        folder = words[1] if words[0] == "-C" else folder
        words = words[2:]
    return (words[0], words[1:], folder) if words else ("", [], folder)


def _git(command: Command, scope: Scope) -> tuple[Step, ...] | None:
    verb, words, folder = _subcommand(command, scope)
    if verb != "clone" or command.assignments:
        return None
    options = parted(words, "bocj", _LONG)
    if not options.operands or not idle.quiet(command.redirects):
        return None
    return (_clone(options, folder, scope),)


def _clone(options: Options, folder: str | None, scope: Scope) -> Finding:
    url = options.operands[0]
    name = posixpath.basename(url.rstrip("/")).removesuffix(".git")
    dest = scope.path(posixpath.join(folder or "", (options.operands[1:] or [name])[0])).rstrip("/") or "/"
    doubt = "" if options.only(_KNOWN) and len(options.operands) < 3 else "its options"
    if not url.startswith(("http://", "https://")):
        doubt = "a login: git+ssh://, --ssh-key and --ssh-known-hosts, or --user and --password-file"
    elif "@" in url.partition("://")[2].partition("/")[0]:
        doubt = "a login in the URL: --user and --password-file, or --token-file"
    branch = options.value("b", "branch")
    ref = f"?ref={branch}" if branch else ""
    return Finding(
        pattern=20,
        found="a repository cloned by a shell",
        wrong="the second run fails, since the directory is not empty, and nothing says which commit it is",
        image="pod-init-full",
        args=("fetch", f"git+{url}{ref}", dest, "--keep-git"),
        paths=(dest,),
        doubt=doubt or ("its URL" if "?" in url or "#" in url else "") or _told(scope),
        notes=("ref=HASH pins a commit; --keep-git keeps a .git, with that one commit in it",),
    )


def _told(scope: Scope) -> str:
    """Git is told something by variables, such as a login, that our programs do not read."""
    names = [name for name in scope.container.env if name.startswith(("GIT_", "SSH_"))]
    return f"git is told more by {names[0]}" if names else ""


def _cloned_or_pulled(statement: If, scope: Scope) -> tuple[Step, ...] | None:
    """Read `if [ -d DIR/.git ]; then git pull; else git clone; fi`, which fetch does either way."""
    commands = [each for inner in idle.inside(statement) for each in effects(inner)]
    git = [each for each in commands if isinstance(each, Command) and each.name in ("git", "cd")]
    clones = [steps for each in git if (steps := _git(each, scope) if each.name == "git" else None)]
    return clones[0] if len(clones) == 1 and len(git) == len(commands) else None


def _pulls(turns: Sequence[Statement], does: Sequence[Statement], scope: Scope) -> tuple[Step, ...] | None:
    git = [each for each in does if isinstance(each, Command) and each.name in ("git", "cd")]
    verbs = [_subcommand(each, scope) for each in git if each.name == "git"]
    if not {verb for verb, _, _ in verbs} & {"pull", "fetch", "push"}:
        return None
    folders = [folder for _, _, folder in verbs if folder]
    folders += [scope.text(each.words[1]) for each in git if each.name == "cd" and len(each.words) > 1]
    pauses = [length for text in idle.naps(turns) if (length := seconds(text)) is not None]
    plain = len(git) == len(does) and all(verb in _PULLS for verb, _, _ in verbs)
    folder = scope.path(folders[0] if folders else ".").rstrip("/")
    return (_puller(folder, sum(pauses) or 10.0, "" if plain else "it does more than that in each turn"),)


def _puller(folder: str, period: float, doubt: str) -> Finding:
    return Finding(
        pattern=21,
        found="a loop of git pull",
        wrong="readers see half a revision, a push by force breaks it for ever, and nothing clones it first",
        image="git-syncer",
        args=(
            "--repo=URL",
            f"--root={posixpath.dirname(folder) or '/'}",
            f"--link={posixpath.basename(folder)}",
            f"--period={duration(period)}",
            "--max-failures=-1",
        ),
        paths=(folder,),
        loops=True,
        doubt=doubt or "which repository it is",
        notes=("the directory becomes a symlink, which is turned to each new revision in one step",),
    )


def follow_clone(clone: Finding, puller: Finding, scope: Scope) -> Finding:
    """Put a clone and the loop that pulls it together: git-syncer does both."""
    folder = puller.paths[0]
    url, _, ref = clone.args[1].removeprefix("git+").partition("?ref=")
    root = posixpath.dirname(folder)
    doubt = clone.doubt or ("" if puller.doubt == "which repository it is" else puller.doubt)
    if not any(mount[1].rstrip("/") == root for mount in scope.container.mounts):
        link = f"{shown(folder)}/current"
        doubt = doubt or f"the link has to lie in a volume: --root={shown(folder)} --link=current, to be read at {link}"
    more = [f"--ref={ref}"] if ref else []
    args = (f"--repo={url}", *more, *puller.args[1:])
    return replace(puller, args=args, doubt=doubt if known(url) else UNSURE)


def _mirrored() -> Finding:
    return Finding(
        kind="refuse",
        pattern=24,
        found="a directory mirrored by mc",
        wrong="the keys are written to the disk, and a file is sent while it is written",
        instead="nothing of ours mirrors directories; s3-shipper sends logs",
    )


def _uploads(command: Command, scope: Scope) -> Finding:
    words = scope.texts(command)
    places = [word for word in words if not word.startswith("-")]
    up = places[-1].startswith(("s3://", "gs://")) and not places[-2].startswith(("s3://", "gs://"))
    log = any("log" in word for word in words)
    instead = "pod-init fetch s3://BUCKET/PREFIX/ DIR fetches once; for what changes git-syncer keeps a directory fresh"
    if up:
        instead = "s3-shipper sends logs as they are written; nothing of ours sends other files"
    return Finding(
        kind="partial" if up and log else "refuse",
        pattern=23,
        loops=True,
        found="a loop that copies to or from a bucket",
        wrong="what came last is lost at the end, half a file may be sent, each turn lists the bucket",
        instead=instead,
    )
