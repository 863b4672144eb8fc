"""What is known where a statement stands: the container, variables, functions, the directory."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from sidecars.pods.statements import (
    Assignment,
    Command,
    Opaque,
    Output,
    Part,
    Statement,
    Text,
    Variable,
    Word,
)
from sidecars.pods.verdict import Container

# Marks within a text; hiding.py lets no script have them.
UNSURE = "\ufdd0"  # what follows is not known before the script runs
NAMESPACE = "\ufdd1"  # the pod's own namespace
_OPEN, _CLOSE = "\ufdd2", "\ufdd3"  # around the name of a variable that Kubernetes puts in

_REFERENCE = re.compile(f"{_OPEN}(.*?){_CLOSE}")
_NAMESPACE_FILE = "/run/secrets/kubernetes.io/serviceaccount/namespace"
# Kubernetes sets such ones for every Service there is.
_SERVICE = re.compile(r"_SERVICE_(HOST|PORT)|^(HOSTNAME|HOME|PATH|PWD|USER)$")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_MOST_TURNS = 400
# What Kubernetes mounts unasked, and the kernel has.
_ALWAYS_THERE = ("/var/run/secrets/kubernetes.io/", "/run/secrets/kubernetes.io/", "/proc/", "/sys/", "/dev/")

# Images with nothing of their own but tools, which start in /.
_BASES = frozenset(
    ("busybox", "alpine", "debian", "ubuntu", "bash", "centos", "rockylinux", "almalinux", "fedora", "amazonlinux")
)


class Scope:
    """What is known where a statement stands.

    values     variables that the script has set; what UNSURE begins with is not known
    functions  those that it has made
    directory  where it is; None when that is not known
    used       the container's variables that were put in anywhere
    initial    what they were before the loop that changes them
    strict     a command that fails ends the script (set -e)
    last       what the statement's exit code is, is the script's
    after      the statements that follow
    turns      how many statements may still be looked at: functions that call each other would never end
    """

    def __init__(self, container: Container) -> None:
        self.container = container
        self.values: dict[str, str] = {}
        self.initial: dict[str, str] = {}
        self.functions: dict[str, tuple[Statement, ...]] = {}
        self.directory = container.working_dir or ("/" if is_base(container.image) else None)
        self.used: set[str] = set()
        self.depth = 0
        self.strict = False
        self.last = True
        self.after: tuple[Statement, ...] = ()
        self.turns = [_MOST_TURNS]

    def within(self, values: Mapping[str, str]) -> Scope:
        """Make a scope in which some variables have other values."""
        inner = Scope(self.container)
        inner.values, inner.initial = {**self.values, **values}, self.initial
        inner.functions, inner.directory = self.functions, self.directory
        inner.used, inner.depth = self.used, self.depth + 1
        inner.strict, inner.last, inner.after, inner.turns = self.strict, self.last, self.after, self.turns
        return inner

    def text(self, word: Word) -> str:
        """Put in what is known. The rest stays as it is written, behind a mark."""
        return "".join(map(self._part, word.parts))

    def texts(self, command: Command) -> list[str]:
        """Give the words of a command."""
        return list(map(self.text, command.words))

    def number(self, word: Word) -> int | None:
        """Give the number that a word is, if it is one that the manifest tells."""
        text = self.text(word)
        named = _REFERENCE.fullmatch(text)
        text = (self.container.env.get(named[1]) or "") if named else text
        return int(text) if text.isdecimal() and len(text) < 7 else None

    def assign(self, assignment: Assignment) -> None:
        """Note what variables are set to."""
        for name, word in assignment.values:
            self.values[name] = self.text(word)

    def forget(self, names: Sequence[str]) -> None:
        """Note that variables change in ways that are not followed."""
        self.values.update((name, f"{UNSURE}${name}") for name in names)

    def _absent(self, variable: Variable) -> str:
        """Give the default of a variable that is set nowhere: an image of tools alone sets none either."""
        plain = is_base(self.container.image) and not self.container.env_from
        if variable.default is None or not plain or _SERVICE.search(variable.name):
            return UNSURE + variable.text
        return variable.default

    def environment(self, name: str) -> str:
        """Give a variable that a program reads by itself; nothing when it is not set."""
        if name in self.values:
            return self.values[name]
        return self._variable(Variable(name, f"${name}")) if name in self.container.env else ""

    def proxied(self) -> str:
        """Give the reason why pod-init does not ask as the script did, which went through a proxy."""
        names = [name for name in self.container.env if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]
        return f"it asks through the proxy of {names[0]}, and pod-init asks by itself" if names else ""

    def _part(self, part: Part) -> str:
        match part:
            case Text(text):
                return text
            case Variable():
                return self._variable(part)
            case Output(statements) if _is_namespace(statements):
                return NAMESPACE
            case Output(_, text) | Opaque(text):
                return UNSURE + text
        raise AssertionError(part)

    def _variable(self, variable: Variable) -> str:
        env = self.container.env
        if variable.name in self.values:
            return self.values[variable.name] or variable.default or ""
        if variable.name not in env:
            return self._absent(variable)
        self.used.add(variable.name)
        value = env[variable.name]
        if value == "" and variable.default is not None:
            return variable.default
        if self.container.expands:
            return f"{_OPEN}{variable.name}{_CLOSE}"
        return UNSURE + variable.text if value is None else value

    def path(self, text: str) -> str:
        """Make a path absolute; it is unsure when it is relative to nobody knows where."""
        if UNSURE in text or text.startswith((_OPEN, "/")):
            slash = "/" if text.endswith("/") and len(text) > 1 else ""
            return text if _OPEN in text[:1] else posixpath.normpath(text) + slash
        if self.directory is None:
            return UNSURE + text
        return self.path(posixpath.join(self.directory, text))

    def mount(self, path: str) -> tuple[str, str, bool] | None:
        """Find the mount that a path lies on."""
        found = [mount for mount in self.container.mounts if is_below(path, mount[1])]
        return max(found, key=lambda mount: len(mount[1]), default=None)

    def foreign(self, path: str) -> str:
        """Say that a file is of the container's own image, where it is: ours does not have it."""
        if UNSURE in path or path.startswith((*_ALWAYS_THERE, _OPEN)) or self.mount(path):
            return ""
        return f"{shown(path)} is on no volume, and our image does not have it"

    def writable(self, path: str) -> bool:
        """Say whether what is written to a path stays when the container is gone."""
        mount = self.mount(path)
        return mount is not None and not mount[2]


def is_below(path: str, directory: str) -> bool:
    """Say whether a path is a directory or lies in it."""
    directory = directory.rstrip("/")
    return path.rstrip("/") == directory or path.startswith(f"{directory}/")


def _is_namespace(statements: Sequence[Statement]) -> bool:
    """It prints the namespace that the service account's token is for."""
    match statements:
        case [Command(words=[name, file])]:
            return name.literal == "cat" and (file.literal or "").endswith(_NAMESPACE_FILE)
    return False


def is_base(image: str) -> bool:
    """Say whether an image is one of tools alone: whatever it copies or writes is not its own."""
    return repository(image) in _BASES


def repository(image: str) -> str:
    """Give the last part of an image's name.

    docker.io/library/busybox:1.28@sha256:... -> busybox
    """
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def known(text: str) -> bool:
    """Say whether all of a text is known before the script runs."""
    return UNSURE not in text and NAMESPACE not in text


def rendered(text: str, expands: bool) -> str:
    """Write a text as an argument of a manifest, where a dollar may mean something."""
    if not expands:
        return text
    pieces = _REFERENCE.split(text)
    for place, piece in enumerate(pieces):
        pieces[place] = f"$({piece})" if place % 2 else _dollars(piece, last=place == len(pieces) - 1)
    return "".join(pieces)


def _dollars(text: str, *, last: bool) -> str:
    """Double the dollars that Kubernetes would take for something else."""
    following = f"{text[1:]} " if last else f"{text[1:]}$"
    return "".join("$$" if char == "$" and after in ("$", "(") else char
                   for char, after in zip(text, following, strict=False))  # fmt: skip


def shown(text: str) -> str:
    """Write a text for people."""
    return _REFERENCE.sub(r"$(\1)", text).replace(UNSURE, "").replace(NAMESPACE, "$NAMESPACE")


def references(text: str) -> set[str]:
    """Give the variables that a text refers to."""
    return set(_REFERENCE.findall(text))


def escaped(text: str, safe: str) -> str:
    """Escape what a target's syntax has other uses for; marks stay."""
    marks = (UNSURE, NAMESPACE, _OPEN, _CLOSE)
    return "".join(char if char in marks else quote(char, safe=safe) for char in text)


def seconds(text: str) -> float | None:
    """Read a duration as sleep and timeout have it; None for one that is not known, or without end."""
    match = _DURATION.fullmatch(text)
    return float(match[1]) * _SECONDS[match[2]] if match else None


def duration(length: float) -> str:
    """Write a duration: 90 -> 90s, 300 -> 5m."""
    whole = max(1, round(length))
    if whole % 3600 == 0:
        return f"{whole // 3600}h"
    return f"{whole // 60}m" if whole % 60 == 0 else f"{whole}s"
