"""The statements and words of a shell script, as far as anything here wants to know them."""

from __future__ import annotations

from typing import TypeAlias, Union

import msgspec


class Text(msgspec.Struct, frozen=True):
    """Literal text of a word, without its quotes. What is not quoted may be a glob."""

    text: str
    quoted: bool = False


class Variable(msgspec.Struct, frozen=True):
    """$NAME or ${NAME}, or ${NAME:-default}; or $(NAME), which Kubernetes has put in before the shell runs."""

    name: str
    text: str
    default: str | None = None


class Output(msgspec.Struct, frozen=True):
    """$(...): what statements print."""

    statements: tuple[Statement, ...]
    text: str


class Opaque(msgspec.Struct, frozen=True):
    """What is not known before it runs: arithmetic, ${NAME%.*}, {{ a template }}."""

    text: str


Part: TypeAlias = Text | Variable | Output | Opaque


class Word(msgspec.Struct, frozen=True):
    """One word of a command line, in parts."""

    parts: tuple[Part, ...] = ()

    @property
    def literal(self) -> str | None:
        """The word as it is, or None when something has to be put in first."""
        texts = [part.text for part in self.parts if isinstance(part, Text)]
        return "".join(texts) if len(texts) == len(self.parts) else None

    def __str__(self) -> str:
        return "".join(part.text for part in self.parts)


class Redirect(msgspec.Struct, frozen=True):
    """`2>file`, `<<EOF` with its text, and so on. No descriptor: what the operator means by itself."""

    operator: str
    word: Word
    descriptor: str = ""


class Command(msgspec.Struct, frozen=True):
    """A simple command; a test is one too, whose first word is `[`, `[[` or `((`."""

    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()
    assignments: tuple[tuple[str, Word], ...] = ()

    @property
    def name(self) -> str:
        """The first word without its directory; empty when it is not known."""
        literal = self.words[0].literal if self.words else None
        return (literal or "").rpartition("/")[2]


class Assignment(msgspec.Struct, frozen=True):
    """NAME=word, also of export; several at once."""

    values: tuple[tuple[str, Word], ...]


class Pipeline(msgspec.Struct, frozen=True):
    """a | b | c."""

    commands: tuple[Statement, ...]


class Chain(msgspec.Struct, frozen=True):
    """`left && right`, or `left || right`."""

    operator: str
    left: Statement
    right: Statement


class Not(msgspec.Struct, frozen=True):
    """! statement."""

    statement: Statement


class Loop(msgspec.Struct, frozen=True):
    """While, or until."""

    until: bool
    condition: tuple[Statement, ...]
    body: tuple[Statement, ...]


class Each(msgspec.Struct, frozen=True):
    """For NAME in words, or for ((...)), of which only the text is known."""

    name: str
    words: tuple[Word, ...]
    body: tuple[Statement, ...]
    counting: str = ""


class If(msgspec.Struct, frozen=True):
    """If and elif with what follows each, and else."""

    branches: tuple[tuple[tuple[Statement, ...], tuple[Statement, ...]], ...]
    otherwise: tuple[Statement, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """( ... ) or { ...; }, with what is redirected for all of it; or another compound statement with redirects."""

    body: tuple[Statement, ...]
    redirects: tuple[Redirect, ...] = ()


class Background(msgspec.Struct, frozen=True):
    """Statement &."""

    statement: Statement


class Function(msgspec.Struct, frozen=True):
    """NAME() { ...; }."""

    name: str
    body: tuple[Statement, ...]


class Unknown(msgspec.Struct, frozen=True):
    """What has no form here, or is no shell."""

    text: str


Statement: TypeAlias = Union[  # noqa: UP007  (a string among the others: | would need them all defined)
    Command, Assignment, Pipeline, Chain, Not, Loop, Each, If, Group, Background, Function, Unknown
]


class Script(msgspec.Struct, frozen=True):
    """A script; `whole` when all of it is proper shell, for of the rest nobody knows what it does."""

    statements: tuple[Statement, ...]
    whole: bool = True
