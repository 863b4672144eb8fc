"""Statements that do nothing but say something, pass time, or count: they are understood, and nothing replaces them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sidecars.pods.shell import parse
from sidecars.pods.statements import (
    Assignment,
    Background,
    Chain,
    Command,
    Each,
    Group,
    If,
    Loop,
    Not,
    Output,
    Pipeline,
    Redirect,
    Statement,
    Word,
)

_SAYS = frozenset(
    (
        "echo",
        "printf",
        "date",
        "ls",
        "pwd",
        "id",
        "whoami",
        "hostname",
        "uname",
        "printenv",
        "df",
        "du",
        "which",
        "type",
    )
)
_DOES_NOTHING = frozenset((
    ":", "true", "false", "sleep", "usleep", "set", "exit", "return", "break", "continue", "wait", "let",
    "expr", "test", "[", "[[", "((", "shopt", "tput", "clear",
))  # fmt: skip
_READS = frozenset(
    ("cat", "basename", "dirname", "seq", "nproc", "wc", "head", "cut", "tr", "awk", "grep", "jq", "expr")
)
# The tools that a script is about to ask with: what it does with them is what counts.
_INSTALLERS = frozenset(("apk", "apt", "apt-get", "yum", "dnf", "microdnf", "tdnf"))
_NEVER_ASK = frozenset(
    (
        "echo",
        "printf",
        "date",
        "sleep",
        ":",
        "true",
        "false",
        "exit",
        "return",
        "break",
        "set",
        "trap",
        "apk",
        "apt-get",
    )
)
_NOWHERE = frozenset(("/dev/null", "/dev/stdout", "/dev/stderr", "/dev/tty"))
_OUT = frozenset(("/proc/1/fd/1", "/proc/1/fd/2", "/proc/self/fd/1", "/proc/self/fd/2", "/dev/fd/1", "/dev/fd/2"))


def idle(statement: Statement) -> bool:
    """Say whether a statement does nothing that outlasts it."""
    match statement:
        case Command():
            return _idle_command(statement)
        case Assignment(values):
            return all(harmless(word) for _, word in values)
        case Background(inner) | Not(inner):
            return idle(inner)
        case Chain(_, left, right):
            return idle(left) and idle(right)
        case Group(body, redirects):
            return all(map(idle, body)) and quiet(redirects)
        case Pipeline(commands):
            return all(idle(each) or _reads(each) for each in commands)
        case If():
            return all(map(idle, inside(statement)))
    return False


def _idle_command(command: Command) -> bool:
    if not quiet(command.redirects) or not all(map(harmless, command.words)):
        return False
    if command.name == "trap":
        return _plumbing(command)
    if command.name == "set":
        return all(str(word)[:1] in ("-", "+") or str(word) in ("pipefail", "errexit") for word in command.words[1:])
    if command.name == "command":
        return [str(word) for word in command.words[1:2]] == ["-v"]
    return command.name in _SAYS or command.name in _DOES_NOTHING or command.name in _INSTALLERS or _shows(command)


def _plumbing(trap: Command) -> bool:
    """It ends the script or its children when a signal comes, which our programs do by themselves."""
    handler = trap.words[1].literal if len(trap.words) > 1 else ""
    if handler is None:
        return False
    then = parse(handler, None)
    ends = [each for each in commands(then.statements) if each.name not in ("kill", "jobs")]
    return then.whole and all(map(idle, ends))


def _shows(command: Command) -> bool:
    """It is a look at the system's own files."""
    files = [word.literal or "" for word in command.words[1:]]
    return command.name == "cat" and bool(files) and all(file.startswith(("/etc/", "/proc/")) for file in files)


def harmless(word: Word) -> bool:
    """Say whether putting a word together changes nothing."""
    outputs = [part for part in word.parts if isinstance(part, Output)]
    return all(idle(each) or _reads(each) for output in outputs for each in output.statements)


def _reads(statement: Statement) -> bool:
    match statement:
        case Command(words, redirects):
            return statement.name in _READS and quiet(redirects) and all(map(harmless, words))
        case Pipeline(commands):
            return all(idle(each) or _reads(each) for each in commands)
    return False


def quiet(redirects: Sequence[Redirect]) -> bool:
    """Say whether what is redirected goes nowhere, or where it would be seen anyway."""
    return all(map(_quiet, redirects))


def _quiet(redirect: Redirect) -> bool:
    target = redirect.word.literal
    if redirect.operator in (">&", "<&"):
        return True
    if redirect.operator in ("<", "<<", "<<<", "<<-"):
        return target is not None and not target.startswith("/dev/tcp/")
    return target in _NOWHERE or target in _OUT


def inside(statement: Statement) -> Iterator[Statement]:
    """Give the statements right within another one."""
    match statement:
        case Background(inner) | Not(inner):
            yield inner
        case Chain(_, left, right):
            yield from (left, right)
        case Pipeline(statements) | Group(statements):
            yield from statements
        case Loop(_, condition, body):
            yield from (*condition, *body)
        case Each(_, _, body):
            yield from body
        case If(branches, otherwise):
            for condition, body in branches:
                yield from (*condition, *body)
            yield from otherwise


def everything(statements: Sequence[Statement]) -> Iterator[Statement]:
    """Give statements, and all that is in them and in the words of commands."""
    for statement in statements:
        yield statement
        yield from everything(tuple(inside(statement)))
        words = statement.words if isinstance(statement, Command) else ()
        for part in (part for word in words for part in word.parts):
            if isinstance(part, Output):
                yield from everything(part.statements)


def commands(statements: Sequence[Statement]) -> Iterator[Command]:
    """Give all commands in statements."""
    return (each for each in everything(statements) if isinstance(each, Command))


def fails(command: Command) -> bool:
    """Say whether a command ends the script as one that failed."""
    if command.name == "false":
        return True
    return command.name in ("exit", "return") and [word.literal for word in command.words[1:]] not in ([], ["0"])


def assigned(statement: Statement) -> list[str]:
    """Give the variables that are set within a statement."""
    inner = list(everything((statement,)))
    names = [name for each in inner if isinstance(each, Assignment) for name, _ in each.values]
    return names + [each.name for each in inner if isinstance(each, Each)]


def asks(statement: Statement) -> bool:
    """Say whether an idle statement looks at something, on which depends what is done then."""
    return any(each.name not in _NEVER_ASK for each in commands((statement,)))


def naps(statements: Sequence[Statement]) -> list[str]:
    """Give what each sleep in statements is told."""
    return [
        command.words[1].literal or ""
        for command in commands(statements)
        if command.name == "sleep" and len(command.words) > 1
    ]


def endless(statement: Statement) -> tuple[Statement, ...] | None:
    """Give what a loop without end does in each turn; None when it is no such loop.

    while true; do ...; done      until false; ...      while sleep 5; do ...; done      for ((;;)); do ...; done
    """
    match statement:
        case Group([inner], redirects) if quiet(redirects):
            return endless(inner)
        case Each(counting=counting, body=body) if counting.replace(" ", "") == ";;":
            return body
        case Loop(until, [Command() as condition], body) if _always(condition, until):
            return (condition, *body)
    return None


def _always(command: Command, until: bool) -> bool:
    words = [word.literal for word in command.words]
    if until:
        return words == ["false"]
    match words:
        case ["true"] | [":"] | ["[", _, "]"] | ["[[", _, "]]"] | ["sleep", _] | ["test", _]:
            return None not in words
        case ["[" | "[[", a, "-eq" | "=" | "==", b, _]:
            return a is not None and a == b
        case ["((", _]:
            return str(command.words[1]).strip("() ") == "1"
    return False
