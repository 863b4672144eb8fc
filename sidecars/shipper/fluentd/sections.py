"""A section's parameters, read by the table of those that are known; and what is to be said about the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from sidecars.core.errors import WrongSettings, redacted
from sidecars.shipper.fluentd.directives import Table
from sidecars.shipper.fluentd.grammar import Element, Parameter, shown
from sidecars.shipper.fluentd.values import Reader

_PLACEHOLDER = re.compile(r"<[A-Za-z][\w .-]*>")
# How a value begins in which #{ is meant as it is: quoted, or a regular expression.
_MERE_TEXT = ('"', "'", "[", "{", "/")
_FEW = 12


class Report:
    """What is to be warned of; and whether what is not known is one of these things, or the end."""

    def __init__(self, warnings: Iterable[str], *, ignore_unknown: bool) -> None:
        self.warnings = list(warnings)
        self._ignore_unknown = ignore_unknown

    def warn(self, place: str, text: str) -> None:
        """Note a warning; each is said once."""
        if (warning := f"{place}: {text}") not in self.warnings:
            self.warnings.append(warning)

    def unknown(self, place: str, what: str, known: Iterable[str], effect: str = "it is left out") -> None:
        """Refuse what is not known, or warn of it. Raises WrongSettings."""
        if self._ignore_unknown:
            return self.warn(place, f"{what} is not known here, {effect}")
        word = what.partition(" ")[0].strip("<>")
        raise WrongSettings(
            f"{place}: {what} is not known here; {_nearest(word, known)}; --ignore-unknown warns of it instead"
        )


def _nearest(word: str, known: Iterable[str]) -> str:
    import difflib  # only a mistake pays for it

    names = sorted(known)
    match = difflib.get_close_matches(word, names, 1)
    if match:
        return f"did you mean {match[0]}?"
    return f"known are {', '.join(names)}" if len(names) <= _FEW else "correct it, or leave it out"


class Section:
    """An element of a kind that is known: its parameters by name, and whatever is wrong, with its place."""

    def __init__(self, element: Element, table: Table, report: Report) -> None:
        self.place = element.place
        self.report = report
        self._element = element
        self._table = table
        self.values: dict[str, Any] = {}
        for parameter in element.parameters.values():
            self._take(parameter)
        for inner in element.elements:
            if inner.name not in table.sections:
                report.unknown(inner.place, f"<{shown(inner.name)}> in {table.title}", table.sections)

    def _take(self, parameter: Parameter) -> None:
        reader = self._table.known.get(parameter.name)
        if reader is None:
            what = f"{shown(parameter.name)} in {self._table.title}"
            return self.report.unknown(parameter.place, what, self._table.known)
        value = self.values[parameter.name] = _read(parameter, reader)
        note = self._table.notes.get(parameter.name) or self._table.notes.get(f"{parameter.name}={value}")
        if note and value:
            self.report.warn(parameter.place, f"{parameter.name} differs here: {note}")
        return None

    def get(self, name: str, default: Any = None) -> Any:
        """Give a parameter's value, or what it is when it is not given."""
        return self.values.get(name, default)

    def needed(self, name: str) -> Any:
        """Give the value of a parameter that must be given. Raises WrongSettings."""
        if name not in self.values:
            raise WrongSettings(f"{self.place}: {self._table.title} has no {name}; add it")
        return self.values[name]

    def where(self, name: str) -> str:
        """Give a parameter's place, or that of its element."""
        parameter = self._element.parameters.get(name)
        return parameter.place if parameter else self.place

    def wrong(self, name: str, text: str) -> WrongSettings:
        """Make the error for a parameter: `text` goes on after its name."""
        return WrongSettings(f"{self.where(name)}: {name} {text}")

    def inner(self, name: str) -> list[Element]:
        """Give the inner elements of this name."""
        return [element for element in self._element.elements if element.name == name]

    def section(self, name: str, table: Table) -> Section | None:
        """Read the inner element of this name, if there is one. Raises WrongSettings when there are more."""
        elements = self.inner(name)
        if len(elements) > 1:
            raise WrongSettings(f"{elements[1].place}: <{name}> is there twice; leave one out")
        return Section(elements[0], table, self.report) if elements else None


def _read(parameter: Parameter, reader: Reader) -> object:
    name = parameter.name
    if _PLACEHOLDER.fullmatch(parameter.value):
        raise WrongSettings(
            f"{parameter.place}: {name} is still the placeholder {parameter.value}; put the value there"
        )
    if "#{" in parameter.value and parameter.written[:1] not in _MERE_TEXT:
        raise WrongSettings(
            f"{parameter.place}: {name} has #{{...}} outside double quotes, where nothing is put in; "
            "put double quotes around all of the value"
        )
    try:
        return reader.read(parameter.value)
    except ValueError as error:
        # As it is written: a variable that is put in may be a secret.
        written = redacted(repr(parameter.written))
        raise WrongSettings(f"{parameter.place}: {name} is {written}, expected {reader.expected}") from error


def type_of(element: Element) -> str:
    """Give the @type of a plugin, `type` in 0.12. Raises WrongSettings when there is none."""
    parameter = element.parameters.get("@type") or element.parameters.get("type")
    if parameter is None:
        raise WrongSettings(f"{element.place}: <{element.name}> has no @type; add it")
    return parameter.value
