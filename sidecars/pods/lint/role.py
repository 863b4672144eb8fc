"""What a container does in its pod, where that is known: one of our images, or one that these could replace."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import urlsplit

import msgspec

from sidecars.core.units import Seconds
from sidecars.pods.images import TRAITS, base
from sidecars.pods.known import known
from sidecars.pods.recognise import recognise
from sidecars.pods.verdict import Container

# Of our services' flags and variables, those with which they end by themselves.
_ONE_SHOT = ("--once", "--one-time")
_ONE_SHOT_VARIABLES = ("_ONCE", "_ONE_TIME")
_READERS = frozenset(("log-tailer", "log-adapter", "s3-shipper"))
_PREFIXES = {
    "log-tailer": "TAILER_", "log-adapter": "ADAPTER_", "s3-shipper": "SHIPPER_", "git-syncer": "GITSYNC_",
    "ambassador": "AMBASSADOR_",
}  # fmt: skip
# How many seconds a drain may take where nothing says so.
_DRAIN = 25.0
# Loops without end whose work is none of ours: a backup each night, files that are removed.
_ENDLESS_PATTERNS = frozenset((12, 13, 14, 15, 21, 23, 24, 30, 31, 32, 33, 36, 38))


class Target(msgspec.Struct, frozen=True):
    """What is waited for, as far as rules want to know it: dns://web is Target("dns", "web")."""

    scheme: str
    host: str


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a container.

    image    of ours: the one it is, or the one that does the same; empty when nothing is known
    ours     it is one of ours
    endless  it never ends by itself
    reads    the files that it follows
    only     mount paths from which it only reads
    waits    what it waits for
    drain    how many seconds it may take to end, once it is told to
    """

    image: str = ""
    ours: bool = False
    endless: bool = False
    reads: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    waits: tuple[Target, ...] = ()
    drain: float = 0.0


def role(container: Container) -> Role:
    """Say what a container does."""
    image = base(container.image)
    if image not in TRAITS:
        image = image.removesuffix("-full").removesuffix("-noshell")
    if image in TRAITS:
        return _ours(image, container)
    verdict = known(container) or recognise(container)
    if verdict is None:
        return Role()
    endless = not container.init and verdict.pattern in _ENDLESS_PATTERNS
    waits = tuple(target for each in verdict.replacements for target in _targets(each.args))
    if len(verdict.replacements) != 1:
        return Role(endless=endless, waits=waits)
    [replacement] = verdict.replacements
    return Role(
        image=replacement.image,
        endless=endless or replacement.sidecar,
        reads=_paths(replacement.image, replacement.args),
        only=replacement.read_only,
        waits=waits,
    )


def _ours(image: str, container: Container) -> Role:
    words = (*container.command[1:], *container.args)
    one_shot = any(word.startswith(_ONE_SHOT) for word in words) or any(
        name.endswith(_ONE_SHOT_VARIABLES) and value != "false" for name, value in container.env.items()
    )
    service = TRAITS[image].port is not None and not one_shot
    paths = _paths(image, words)
    # A file that is removed once it was delivered is written to, in a way; so is what fluentd's configuration names.
    removes = any(word.startswith("--remove-") for word in words)
    return Role(
        image=image,
        ours=True,
        endless=service or words[:1] == ("pause",),
        reads=paths,
        only=() if removes else tuple(path for _, path, _ in container.mounts if _holds(path, paths)),
        waits=_targets(words),
        drain=_drain(image, container, words) if service else 0.0,
    )


def _paths(image: str, words: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in words if word.startswith("/")) if image in _READERS else ()


def _holds(mount: str, paths: tuple[str, ...]) -> bool:
    return any(path.startswith(mount.rstrip("/") + "/") for path in paths)


def _drain(image: str, container: Container, words: tuple[str, ...]) -> float:
    """What --grace says, the variable, or the default."""
    said = container.env.get(f"{_PREFIXES.get(image, '')}GRACE")
    for word, following in pairwise([*words, None]):
        if word == "--grace":
            said = following
        elif word and word.startswith("--grace="):
            said = word.removeprefix("--grace=")
    try:
        return float(Seconds.read(said)) if said else _DRAIN
    except ValueError:
        return _DRAIN


def _targets(words: tuple[str, ...]) -> tuple[Target, ...]:
    """The targets among the words of `pod-init wait`: tcp://db:5432, k8s:service/web, db:5432."""
    return tuple(found for word in words[1:] if (found := _target(word))) if words[:1] == ("wait",) else ()


def _target(word: str) -> Target | None:
    if word.startswith("k8s:service/"):
        return Target("k8s", word.removeprefix("k8s:service/").partition("?")[0])
    scheme, separator, rest = word.partition("://")
    if not separator:
        host, colon, port = word.rpartition(":")
        return Target("tcp", host) if colon and port.isdecimal() and "/" not in host else None
    try:
        host = urlsplit(f"//{rest}").hostname or ""
    except ValueError:
        return None
    return Target(scheme, host) if host and not scheme.startswith("not:") else None
