"""Values written to files by echo, printf, cat and base64: row 29 of the catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from sidecars.pods.recognise import idle
from sidecars.pods.recognise.finding import Finding, Step
from sidecars.pods.recognise.scope import UNSURE, Scope
from sidecars.pods.statements import Command, Pipeline, Redirect, Statement, Variable, Word

_WRONG = "the shell's quotes and a newline get into the value, everybody may read it, and half of it may be there"
_LONGEST = 4096  # characters of a value: more belongs into a ConfigMap


class _Value(msgspec.Struct, frozen=True):
    """What is written: args of pod-init's write."""

    args: tuple[str, ...]
    doubt: str = ""


def write(statement: Statement, scope: Scope) -> tuple[Step, ...] | None:
    """Recognise a value that is written to one file."""
    match statement:
        case Command():
            value = _value(statement, scope)
            last = statement
        case Pipeline([Command() as first, Command() as last]) if last.name == "base64" and _decodes(last):
            value = _decoded(_value(first, scope)) if not first.redirects else None
        case _:
            return None
    outputs = [each for each in last.redirects if each.operator in (">", ">|") and each.descriptor in ("", "1")]
    others = [each for each in last.redirects if each not in outputs and each.operator not in ("<<", "<<-", "<<<")]
    if value is None or len(outputs) != 1 or not idle.quiet(others):
        return None
    return _finding(value, outputs[0], scope)


def _finding(value: _Value, output: Redirect, scope: Scope) -> tuple[Step, ...] | None:
    path = scope.path(scope.text(output.word))
    if path.startswith(("/dev/", "/proc/", "/sys/")):
        return None
    long = sum(map(len, value.args)) > _LONGEST
    finding = Finding(
        pattern=29,
        found="a value written to a file by a shell",
        wrong=_WRONG,
        args=("write", path, *value.args, "--mode=0644"),
        paths=(path,),
        file=True,
        doubt=value.doubt or ("a text of that length belongs into a ConfigMap" if long else ""),
        notes=("a projected volume does without a container; --mode=0600 for a secret",),
    )
    return (finding,)


def _decodes(command: Command) -> bool:
    return [word.literal for word in command.words[1:]] in (["-d"], ["-D"], ["--decode"])


def _decoded(value: _Value | None) -> _Value | None:
    """Take what base64 is given: whether a newline is behind it makes no difference."""
    if value is None:
        return None
    return replace(value, args=(*(arg for arg in value.args if arg != "--newline"), "--base64"))


def _value(command: Command, scope: Scope) -> _Value | None:
    match command.name:
        case "echo":
            return _echoed(command.words[1:], scope)
        case "printf":
            return _printed(command.words[1:], scope)
        case "cat":
            return _document(command, scope)
        case "base64" if _decodes(command):
            return _decoded(_document(command, scope, words=1))
        case "printenv":
            return _variable(command.words[1:], scope)
    return None


def _echoed(words: Sequence[Word], scope: Scope) -> _Value | None:
    newline = True
    while words and words[0].literal in ("-n", "-e", "-ne", "-en", "-E"):
        newline = newline and "n" not in (words[0].literal or "")
        words = words[1:]
    more = ("--newline",) if newline else ()
    if len(words) == 1:
        named = _named(words[0], scope)
        if named:
            return _Value((named, *more))
    return _text(" ".join(map(scope.text, words)), more, scope, words)


def _named(word: Word, scope: Scope) -> str | None:
    """Give the flag for a word that is one variable, and nothing else."""
    match word.parts:
        case [Variable(name, _, None)] if name in scope.container.env and name not in scope.values:
            return f"--from-env={name}"
    return None


def _text(text: str, more: tuple[str, ...], scope: Scope, words: Sequence[Word]) -> _Value:
    names = [part.name for word in words for part in word.parts if isinstance(part, Variable)]
    secret = any(scope.container.env.get(name, "") is None for name in names)
    doubt = "it may be a secret, which no command line should show: render a template" if secret else ""
    if "\\" in text:
        doubt = doubt or "shells differ in what a backslash is for echo"
    return _Value((f"--text={text}", *more), doubt)


def _printed(words: Sequence[Word], scope: Scope) -> _Value | None:
    form = words[0].literal if words else None
    if form in ("%s", "%s\\n") and len(words) == 2:
        more = ("--newline",) if form == "%s\\n" else ()
        named = _named(words[1], scope)
        return _Value((named, *more)) if named else _text(scope.text(words[1]), more, scope, words[1:])
    if form is not None and len(words) == 1:
        return _text(form.replace("\\n", "\n"), (), scope, []) if "%" not in form else None
    return None


def _document(command: Command, scope: Scope, words: int = 0) -> _Value | None:
    """Read `cat <<EOF` and `base64 -d <<< "$X"`."""
    given = [each for each in command.redirects if each.operator in ("<<", "<<-", "<<<")]
    if len(command.words) != 1 + words or len(given) != 1:
        return None
    word = given[0].word
    named = _named(word, scope)
    more = ("--newline",) if given[0].operator == "<<<" else ()
    if named:
        return _Value((named, *more))
    value = _text(scope.text(word), more, scope, [word])
    return value if UNSURE in value.args[0] or given[0].operator == "<<<" else replace(value, doubt=_secretly(value))


def _secretly(value: _Value) -> str:
    # In a here-document a backslash is one.
    return "" if value.doubt.startswith("shells differ") else value.doubt


def _variable(words: Sequence[Word], scope: Scope) -> _Value | None:
    name = words[0].literal if len(words) == 1 else None
    return _Value((f"--from-env={name}", "--newline")) if name in scope.container.env else None
