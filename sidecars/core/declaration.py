"""What a Settings struct declares: each field as one setting with its flag, variable, key and type."""

from __future__ import annotations

import functools
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec.structs import FieldInfo, fields

from sidecars.core.units import Secret

LEAVES: dict[Any, tuple[str, str]] = {
    bool: ("true or false", "true|false"),
    int: ("a whole number", "N"),
    float: ("a number", "NUMBER"),
    str: ("text", "TEXT"),
    Secret: ("a secret", "FILE"),
}


class Help(msgspec.Struct, frozen=True):
    """What people read about a setting, and the little its type does not say about how it is given.

    metavar     the value's name in the help; by default that of its type
    none        the word that means None, where the type allows None; empty: there is no such word
    default     what happens by default, where the default value does not say it
    positional  the list is given as the arguments that are no flags; it has no flag of its own
    variable    the setting comes from this variable, without the program's prefix, and from nowhere else
    words       in its variable, the elements of the list are separated by white space only: they may hold commas
    """

    text: str
    group: str = "Main settings"
    metavar: str = ""
    none: str = "off"
    default: str = ""
    positional: bool = False
    variable: str = ""
    words: bool = False


class Provenance(msgspec.Struct, frozen=True):
    """Where the settings came from: what loading them has to say, and what in them must not be shown.

    warnings  complaints that stop nothing, to be logged once logging is there
    written   the text as the config file has it, by place (`outputs[0].forward.address`), where ${VAR} was expanded
    expanded  the values that stood for ${VAR}, with the ${VAR} that each came from
    config    the config file, if there was one
    """

    warnings: tuple[str, ...] = ()
    written: dict[str, str] = {}
    expanded: dict[str, str] = {}
    config: str = ""

    def conceal(self, text: str) -> str:
        """Put ${VAR} back wherever its value shows in a text that is meant for people."""
        for value in sorted(self.expanded, key=len, reverse=True):
            # A short value, such as 1, would be found everywhere and tell nothing; on its own it is concealed.
            if len(value) > 3 or text == value:
                text = text.replace(value, self.expanded[value])
        return text


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=lambda name: name.rstrip("_")):
    """A mapping inside the config file, such as one of the sources; declared as Settings are."""


class Setting(msgspec.Struct, frozen=True):
    """One declared field, with every name it goes by.

    A secret's flag, and its second variable and key, name the file that holds it.
    """

    name: str
    key: str
    kind: Any
    help: Help
    flag: str
    variable: str
    field: FieldInfo

    @property
    def required(self) -> bool:
        """It has no default."""
        return self.field.required

    @property
    def default(self) -> Any:
        """The value when nobody gives one; NODEFAULT for a required setting."""
        made = self.field.default_factory
        return self.field.default if made is msgspec.NODEFAULT else made()

    @property
    def secret(self) -> bool:
        """It holds a secret."""
        return holds(self.kind) is Secret

    @property
    def many(self) -> bool:
        """It is a list."""
        return sequence(self.kind)

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables it is read from."""
        if not self.variable:
            return ()
        return (self.variable, f"{self.variable}_FILE") if self.secret else (self.variable,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys it has in a config file."""
        if self.help.variable:
            return ()
        return (self.key, f"{self.key}_file") if self.secret else (self.key,)


def declared(kind: type[msgspec.Struct], prefix: str = "") -> tuple[Setting, ...]:
    """Give the settings that a struct declares, a subclass's own before those it inherits."""
    return _declared(kind, prefix)


@functools.cache  # a millisecond for each struct, which its every mapping in a file would pay
def _declared(kind: type[msgspec.Struct], prefix: str) -> tuple[Setting, ...]:
    base = kind.__mro__[1]
    inherited = () if base is msgspec.Struct else base.__struct_fields__  # type: ignore[attr-defined]
    settings = [setting(field, prefix) for field in fields(kind) if bare(field.type) is not Provenance]
    return tuple(sorted(settings, key=lambda setting: setting.name in inherited))


def setting(field: FieldInfo, prefix: str) -> Setting:
    """Name one field: from_ is the flag --from, the key from, the variable PREFIX_FROM."""
    kind = bare(field.type)
    hints = [extra for extra in getattr(field.type, "__metadata__", ()) if isinstance(extra, Help)]
    if len(hints) != 1:
        raise TypeError(f"the setting {field.name} needs exactly one Help")
    help = hints[0]
    key = field.name.rstrip("_")
    flag, variable = "", help.variable
    if not help.variable and not nested(kind):
        variable = prefix + key.upper()
        if not help.positional:
            flag = "--" + key.replace("_", "-") + ("-file" if holds(kind) is Secret else "")
    return Setting(field.name, key, kind, help, flag, variable, field)


def bare(kind: Any) -> Any:
    """Give a type without its annotations."""
    return bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


def holds(kind: Any) -> Any:
    """Give X of `X | None`, and any other type as it is."""
    if get_origin(kind) in (Union, types.UnionType):
        (only,) = [bare(choice) for choice in get_args(kind) if choice is not type(None)]
        return only
    return kind


def optional(kind: Any) -> bool:
    """None is one of its values."""
    return type(None) in get_args(kind)


def sequence(kind: Any) -> bool:
    """It is a list: `tuple[X, ...]`, which a frozen struct prefers, or `list[X]`."""
    return get_origin(holds(kind)) in (tuple, list)


def element(kind: Any) -> Any:
    """Give X of a list of X."""
    return bare(get_args(holds(kind))[0])


def struct(kind: Any) -> bool:
    """It is a mapping of declared fields."""
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def nested(kind: Any) -> bool:
    """It has structure that only a config file can give."""
    return nested(element(kind)) if sequence(kind) else struct(holds(kind))


def expectation(kind: Any, none: str = "") -> str:
    """Say what a value of the type is, as the end of `... is 'soon', expected`."""
    kind, words = holds(kind), [none] if optional(kind) and none else []
    if get_origin(kind) is Literal:
        words = [str(choice) for choice in get_args(kind)] + words
        return ", ".join(words[:-1]) + (" or " if words[1:] else "") + words[-1]
    return ", or ".join([_name(kind), *words])


def _name(kind: Any) -> str:
    if sequence(kind):
        return "a list"
    if struct(kind):
        return "a mapping with the keys " + ", ".join(key for setting in declared(kind) for key in setting.keys)
    return LEAVES[kind][0] if kind in LEAVES else str(kind.expected)


def metavar(kind: Any) -> str:
    """Name a value of the type in the help."""
    kind = holds(kind)
    if sequence(kind):
        return metavar(element(kind))
    if get_origin(kind) is Literal:
        return "|".join(str(choice) for choice in get_args(kind))
    return LEAVES[kind][1] if kind in LEAVES else str(kind.metavar)
