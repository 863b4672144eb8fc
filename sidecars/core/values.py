"""Reading a value of a declared type from what an operator wrote, with errors that say where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecars.core.declaration import Setting, declared, element, expectation, holds, optional, sequence, struct
from sidecars.core.errors import WrongSettings, redacted
from sidecars.core.units import Secret

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


class Place(msgspec.Struct, frozen=True):
    """Where a value stands, as errors name it: a flag, a variable, or a key in a file.

    written  the text as the file has it, by place, where ${VAR} was put in: errors quote it, not what a variable holds
    """

    name: str
    file: str = ""
    written: dict[str, str] = {}

    def key(self, key: str) -> Place:
        """Go to a key of the mapping that stands here."""
        return Place(f"{self.name}.{key}" if self.name else key, self.file, self.written)

    def item(self, index: int) -> Place:
        """Go to an item of the list that stands here; the elements of flags and variables have no number."""
        return Place(f"{self.name}[{index}]", self.file, self.written) if self.file else self

    def __str__(self) -> str:
        return " in ".join(filter(None, (self.name, self.file)))

    def wrong(self, value: object, expected: str) -> WrongSettings:
        """Make the error for a value that cannot be used here."""
        text = {dict: "a mapping", list: "a list", type(None): "empty"}.get(type(value))
        return WrongSettings(
            f"{self} is {text or redacted(repr(self.written.get(self.name, value)))}, expected {expected}"
        )


def read(kind: Any, value: object, place: Place, none: str = "off") -> Any:
    """Read a value of a declared type from a text, or from what a config file holds; WrongSettings when it is none."""
    if optional(kind) and (value is None or (none and value == none)):
        return None
    only = holds(kind)
    if sequence(only) and isinstance(value, list):
        return get_origin(only)(read(element(only), item, place.item(index)) for index, item in enumerate(value))
    if struct(only) and isinstance(value, dict):
        return build(only, fill(declared(only), value, place), place)
    try:
        return leaf(only, value)
    except ValueError:
        raise place.wrong(value, expectation(kind, none)) from None


def leaf(kind: Any, value: object) -> Any:
    """Read a value that has no structure; ValueError when it is none of the type."""
    if get_origin(kind) is Literal:
        return choice(get_args(kind), value)
    if kind in READERS:
        return READERS[kind](value)
    # A file knows numbers: 5 is as good as "5", where a number alone says the unit.
    if not hasattr(kind, "read") or isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(value)
    return kind.read(str(value).strip())


def choice(choices: tuple[Any, ...], value: object) -> Any:
    """Read one of several words."""
    for one in choices:
        if str(one) == str(value):
            return one
    raise ValueError(value)


def boolean(value: object) -> bool:
    """Read true or false, by any of the words that are usual."""
    word = str(value).strip().lower()
    if word not in WORDS or not isinstance(value, (bool, str, int)):
        raise ValueError(value)
    return WORDS[word]


def number(value: object) -> float:
    """Read a number; NaN and infinity are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)) or "_" in str(value):
        raise ValueError(value)
    if not abs(float(value)) < float("inf"):
        raise ValueError(value)
    return float(value)


def whole(value: object) -> int:
    """Read a whole number."""
    if isinstance(value, (bool, float)) or "_" in str(value):
        raise ValueError(value)
    return int(str(value))


def text(value: object) -> str:
    """Read a text, as it is."""
    if not isinstance(value, str):
        raise ValueError(value)
    return value


READERS: dict[Any, Callable[[object], Any]] = {bool: boolean, int: whole, float: number, str: text}


def fill(settings: Iterable[Setting], mapping: dict[str, object], place: Place) -> dict[str, Any]:
    """Read the values of a mapping in a config file, by the names of the fields."""
    known = {key: setting for setting in settings for key in setting.keys}
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in known:
            raise WrongSettings(f"{place.key(key)} is unknown; {nearest(key, known)}")
        setting = known[key]
        if setting.name in values:
            raise WrongSettings(f"{place.key(setting.key)} is set beside {setting.key}_file; keep one")
        reading = secret if setting.secret else plain
        values[setting.name] = reading(setting, key, value, place.key(key))
    return values


def plain(setting: Setting, key: str, value: object, place: Place) -> Any:
    """Read a value that is no secret."""
    return read(setting.kind, value, place, setting.help.none)


def secret(setting: Setting, key: str, value: object, place: Place) -> Secret | None:
    """Read a secret in a config file: the name of its file, or a ${VAR}, for a ConfigMap is no place for secrets."""
    if value is None and optional(setting.kind):
        return None
    if not isinstance(value, str):
        raise WrongSettings(f"{place} is not text; write it in quotes")
    if key != setting.key:
        return secret_file(value, place)
    if place.name not in place.written:
        raise WrongSettings(f"{place} holds a secret in plain text; give {setting.key}_file, or a variable as ${{VAR}}")
    return Secret(value)


def secret_file(file: str, place: Place) -> Secret:
    """Take a secret from its file, and read it now, so that a wrong name is found at the start."""
    found = Secret(file=file)
    try:
        found.renew()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise WrongSettings(f"{place} is {file!r}, which cannot be read: {reason}; is it mounted?") from error
    if not found.reveal():
        raise WrongSettings(f"{place} is {file!r}, which is empty; write the secret into it")
    return found


def build(kind: type[msgspec.Struct], values: dict[str, Any], place: Place) -> Any:
    """Make the struct once what it requires is there; a ValueError of its own checks gets the place put before it."""
    for setting in declared(kind):
        if setting.required and setting.name not in values:
            raise WrongSettings(f"{place.key(setting.key)} is not set: give it")
    try:
        return kind(**values)
    except ValueError as error:
        raise WrongSettings(f"{place} {error}") from error


def nearest(word: str, known: Iterable[str]) -> str:
    """Advise on an unknown word: the known one it may have been meant for, or all of them where they are few."""
    import difflib  # only a mistake pays for it

    names = sorted(known)
    match = difflib.get_close_matches(word, names, 1)
    if match:
        return f"did you mean {match[0]}?"
    return f"known are {', '.join(names)}" if len(names) <= 12 else "see --help"
