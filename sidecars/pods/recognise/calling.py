"""The ways in which a container calls what it runs: with a shell or without, and with other programs around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from sidecars.pods.recognise.scope import is_base, seconds
from sidecars.pods.shell import parse, quoted
from sidecars.pods.statements import Command, Script
from sidecars.pods.verdict import Container

_ENTRYPOINTS = {"alpine/git": "git", "amazon/aws-cli": "aws", "alpine/socat": "socat", "bitnami/kubectl": "kubectl"}
SHELLS = frozenset(("sh", "bash", "ash", "dash", "ksh", "zsh"))


class Call(msgspec.Struct, frozen=True):
    """A script as it is called.

    positional  $0, $1 and so on
    strict      sh -e: a command that fails ends it
    limit       seconds after which it is killed
    """

    script: Script
    positional: tuple[str, ...] = ()
    strict: bool = False
    limit: float | None = None


def call(container: Container) -> Call | None:
    """Read what a container runs; None when its image decides that.

        command: ["sh", "-c", S]          command: ["/bin/sh"], args: ["-ec", S]
        args: ["timeout", "60", "bash", "-c", S]          command: ["tail", "-F", "/logs/app.log"]

    Arguments alone are a command only for an image without an entrypoint, or when they begin with a shell.
    """
    command = container.command or _entrypoint(container)
    if not command and not (container.args and _runs(container)):
        return None
    names = frozenset(container.env) if container.expands else None
    words, limit = unwrapped((*command, *container.args))
    shell = script(words)
    if shell:
        flags = words[1 : len(words) - len(shell)]
        return Call(parse(shell[0], names), tuple(shell[1:]), is_strict(flags), limit)
    if not words or basename(words[0]) in SHELLS:
        return None
    return Call(Script((Command(tuple(quoted(word, names) for word in words)),)), limit=limit)


def _entrypoint(container: Container) -> tuple[str, ...]:
    """Give what an image of one program runs."""
    head, _, last = container.image.partition("@")[0].rpartition("/")
    name = f"/{head}/{last.partition(':')[0]}"
    programs = [program for image, program in _ENTRYPOINTS.items() if name.endswith(f"/{image}")]
    return tuple(programs) if container.args and not _is_shell(container.args[0]) else ()


def _is_shell(word: str) -> bool:
    return basename(word) in SHELLS


def _runs(container: Container) -> bool:
    words, _ = unwrapped(container.args)
    return is_base(container.image) or bool(words and basename(words[0]) in SHELLS)


def basename(word: str) -> str:
    """Give a program's name without its directory."""
    return word.rpartition("/")[2]


def script(words: Sequence[str]) -> Sequence[str] | None:
    """Give the script that a shell is called with, and what stands behind it; None when it is no such call.

    ("bash", "-euo", "pipefail", "-c", "a | b", "name") -> ("a | b", "name")
    """
    if not words or basename(words[0]) not in SHELLS:
        return None
    place, given = 1, False
    while place < len(words) and words[place][:1] in ("-", "+") and len(words[place]) > 1:
        letters = "" if words[place].startswith("--") else words[place]
        given = given or "c" in letters
        place += 1 + ("o" in letters)
    return words[place:] if given and place < len(words) else None


def is_strict(flags: Sequence[str]) -> bool:
    """Say whether a shell's flags have -e in them."""
    return (
        any(flag.startswith("-") and not flag.startswith("--") and "e" in flag for flag in flags) or "errexit" in flags
    )


def unwrapped(words: Sequence[str]) -> tuple[Sequence[str], float | None]:
    """Take away the programs that only start another one, and give the time that it has.

    ("tini", "--", "timeout", "1m", "sh") -> ("sh",), 60.0
    """
    limit: float | None = None
    for _ in range(8):
        wrapper = _WRAPPERS.get(basename(words[0])) if words else None
        if wrapper is None:
            break
        if basename(words[0]) == "timeout":
            words, limit = _timed(words)
        else:
            words = words[wrapper(words) :]
    return words, limit


def _timed(words: Sequence[str]) -> tuple[Sequence[str], float | None]:
    place = _options(words, valued=("-k", "-s"))
    old = words[place - 1] if words[1:2] == ["-t"] or words[1:2] == ("-t",) else ""
    if old:  # busybox's before 1.30
        return words[3:], seconds(words[2]) if len(words) > 2 else None
    return words[place + 1 :], seconds(words[place]) if len(words) > place else None


def _options(words: Sequence[str], valued: Sequence[str] = ()) -> int:
    """Say where the first word is that is no option."""
    place = 1
    while place < len(words) and words[place].startswith("-"):
        if words[place] == "--":
            return place + 1
        place += 2 if words[place] in valued else 1
    return place


def _assignments(words: Sequence[str]) -> int:
    place = _options(words)
    while place < len(words) and "=" in words[place]:
        place += 1
    return place


_WRAPPERS: dict[str, Callable[[Sequence[str]], int]] = {
    "timeout": _options,
    "env": _assignments,
    "tini": lambda words: _options(words, ("-e", "-p")),
    "dumb-init": _options,
    "catatonit": _options,
    "nohup": _options,
    "exec": _options,
    "command": _options,
    "busybox": lambda words: 1,
    "setsid": _options,
    "stdbuf": lambda words: _options(words, ("-o", "-e", "-i")),
    "nice": lambda words: _options(words, ("-n",)),
}
