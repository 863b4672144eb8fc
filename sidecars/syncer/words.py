"""git-sync's command line and environment, read as it reads them; with a config file beside them."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from sidecars import __version__
from sidecars.core.configfile import ConfigFile, open_config
from sidecars.core.declaration import Provenance, Setting, declared, holds, sequence
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.settings import elements, service_link
from sidecars.core.units import Seconds, Secret
from sidecars.core.values import Place, nearest, read
from sidecars.syncer import checks, legacy
from sidecars.syncer.configuration import credentials, from_file, overlaid
from sidecars.syncer.settings import BEYOND, PREFIX, PROG, Settings
from sidecars.syncer.units import Duration, boolean, whole

_SHORT = {"-v": "verbose"}
_QUESTIONS = {"-h": "help", "-?": "help", "--help": "help", "--man": "man", "--version": "version"}
_LISTS_BY_COLON = ("ssh_key_file",)
_OLD_EXPECTED = {int: "a whole number", float: "a number", bool: "true or false"}
# From these verbosities on, the line `starting up` tells the flags that have a value, and all.
_TELL_SET, _TELL_ALL = 4, 6


class WrongWords(SidecarError):  # noqa: N818
    """The command line cannot be read."""

    exit_code = 2


class Words(NamedTuple):
    """What was asked for.

    repositories  the settings of each repository; the first one's are also the process's
    given         the flags of the command line as `--name=value`, secrets left out; with -v 4 and more, all flags
    notices       lines for stderr about names that are deprecated
    hints         what may be a misspelt variable; git-sync is silent about those
    door          --admin was given: git-sync knows no such port, so only then a taken one is an error
    """

    repositories: tuple[Settings, ...]
    given: tuple[str, ...]
    notices: tuple[str, ...]
    hints: tuple[str, ...] = ()
    door: bool = False


@functools.cache
def _settings() -> tuple[Setting, ...]:
    return declared(Settings, PREFIX)


@functools.cache
def _flags() -> dict[str, Setting]:
    return {setting.flag.removeprefix("--"): setting for setting in _settings() if setting.flag}


class Reading:
    """One reading of a command line and an environment: values by field, and what is to be said of old names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.values: dict[str, Any] = {}
        # Of each secret its text and its file, which both count: with two of them none is right.
        self.secrets: dict[str, dict[str, str]] = {}
        self.old: dict[str, Any] = {}
        self.given: list[str] = []
        self.notices: list[str] = []
        self.config = ""

    def variables(self) -> None:
        """Take the variables, the older names of which win. Raises WrongSettings."""
        for setting in _settings():
            for name in setting.variables:
                text = self._variable(name)
                if text is None or (not text and setting.name in BEYOND):
                    continue
                if setting.secret:
                    self._secret(setting, "file" if name.endswith("_FILE") else "text", text)
                else:
                    self.values[setting.name] = _from_variable(setting, name, text)
        for flag, known in legacy.FLAGS.items():
            text = self.environ.get(known.variable) if known.variable else None
            if text is not None:
                self.notices.append(f"${known.variable} is deprecated: use {known.instead}")
                self.old[flag] = self._read_old(flag, known.variable, text, WrongSettings)
        self.config = self.environ.get(f"{PREFIX}CONFIG", "")

    def _variable(self, name: str) -> str | None:
        names = [old for old in legacy.VARIABLES.get(name, ()) if old in self.environ]
        for old in names:
            self.notices.append(f"${old} is deprecated: use ${name}")
        set_ = [each for each in (name, *names) if each in self.environ]
        for each in set_[:-1]:
            self.notices.append(f"${each} is overridden by ${set_[-1]}")
        return self.environ[set_[-1]] if set_ else None

    def _secret(self, setting: Setting, kind: str, text: str) -> None:
        given = self.secrets.setdefault(setting.name, {})
        given.pop(kind, None)
        if text:
            given[kind] = text

    def _read_old(self, flag: str, name: str, text: str, wrong: type[SidecarError]) -> Any:
        readers: dict[type, Any] = {str: str, int: whole, float: _number, bool: boolean}
        try:
            return readers[legacy.FLAGS[flag].kind](text)
        except ValueError:
            raise wrong(
                f"invalid value {text!r} for {name}; expected {_OLD_EXPECTED[legacy.FLAGS[flag].kind]}"
            ) from None

    def command_line(self, argv: Sequence[str]) -> None:
        """Take the flags; arguments that are none are ignored. Raises WrongWords."""
        words = list(argv)
        while words:
            word = words.pop(0)
            if word == "--":
                return
            if word.startswith("-") and word != "-":
                self._flag(word, words)

    def _flag(self, word: str, rest: list[str]) -> None:
        head, equals, text = word.partition("=")
        if head in _SHORT:
            name = _SHORT[head]
        elif head.startswith("-v") and not word.startswith("--"):
            name, equals, text = "verbose", "=", word[2:].removeprefix("=")
        elif head.startswith("--"):
            name = head[2:]
        else:
            raise WrongWords(f"unknown shorthand flag: {word[1]!r} in {head}; long flags have two dashes")
        if not equals:
            text = self._text(name, rest)
        self._take(name, text)

    def _text(self, name: str, rest: list[str]) -> str:
        """Give the text of a flag without `=`: a boolean needs none, and takes none."""
        kind = _kind_of(name)
        if kind is None:
            raise _unknown(name)
        if kind is bool:
            return "true"
        if not rest:
            raise WrongWords(f"flag needs an argument: --{name}")
        return rest.pop(0)

    def _take(self, name: str, text: str) -> None:
        if name == "config":
            self.config = text
            return
        if name in legacy.FLAGS:
            self.notices.append(f"--{name} is deprecated: use {legacy.FLAGS[name].instead}")
            self.old[name] = self._read_old(name, f"--{name}", text, WrongWords)
            return
        if name not in _flags():
            raise _unknown(name)
        self._keep(_flags()[name], name, text)

    def _keep(self, setting: Setting, name: str, text: str) -> None:
        shown = f"--{name}={checks.shown(setting.name, text)}"
        first = not any(each.startswith(f"--{name}=") for each in self.given)
        self.given.append(shown)
        try:
            if setting.secret:
                self._secret(setting, "file", text)
            elif setting.name == "credential":
                self.values[setting.name] = (*self.values.get(setting.name, ()), *credentials(text))
            elif sequence(setting.kind):
                before = () if first else self.values.get(setting.name, ())
                self.values[setting.name] = (*before, text)
            else:
                self.values[setting.name] = value(setting, text)
        except ValueError:
            told = "" if setting.name == "credential" else f" {text!r}"
            raise WrongWords(f"invalid argument{told} for --{name}; expected {_expected(setting)}") from None

    def all(self) -> dict[str, Any]:
        """Give the values by field, those of old flags in place. Raises checks.WrongConfiguration."""
        if password := self.old.get("password"):
            self.secrets.setdefault("password", {})["text"] = password
        checks.modernise(self.values, self.old)
        for name, given in self.secrets.items():
            if len(given) > 1:
                variable = f"{PREFIX}{name.upper()}"
                raise checks.WrongConfiguration(
                    f"--{name.replace('_', '-')}-file and {variable} are both set; keep one"
                )
            if given:
                self.values[name] = Secret(given.get("text"), file=given.get("file"))
        return self.values


def _kind_of(name: str) -> Any:
    """Give what a flag holds; None for one that does not exist."""
    if name == "config":
        return str
    if name in legacy.FLAGS:
        return legacy.FLAGS[name].kind
    return holds(_flags()[name].kind) if name in _flags() else None


def _unknown(name: str) -> WrongWords:
    return WrongWords(f"unknown flag: --{name}; {nearest('--' + name, ['--' + each for each in _flags()])}")


def _number(text: str) -> float:
    if "_" in text or not math.isfinite(float(text)):
        raise ValueError(text)
    return float(text)


def _from_variable(setting: Setting, name: str, text: str) -> Any:
    if setting.name == "credential":
        return credentials(text, quiet=True)
    if setting.name in _LISTS_BY_COLON:
        return tuple(part for part in text.split(":") if part)
    try:
        if sequence(setting.kind):
            return read(setting.kind, elements(text, Place(name)), Place(name))
        return value(setting, text)
    except ValueError:
        raise WrongSettings(f'invalid {_kind(setting)} env {name}="{text}"; expected {_expected(setting)}') from None


def value(setting: Setting, text: str) -> Any:
    """Read one value by git-sync's rules; ValueError when it is none."""
    kind = holds(setting.kind)
    if kind is bool:
        return boolean(text)
    if kind is int:
        return whole(text)
    if kind is str:
        return text
    if isinstance(kind, type) and issubclass(kind, Seconds):
        return kind.read(text)
    try:
        return read(setting.kind, text, Place(setting.flag), setting.help.none)
    except WrongSettings as error:
        if setting.name in checks.CHOICES:
            return text  # git-sync calls that a wrong configuration, not a wrong command line
        raise ValueError(text) from error


def _kind(setting: Setting) -> str:
    kind = holds(setting.kind)
    return {bool: "bool", int: "int", Duration: "duration"}.get(kind, "value")


def _expected(setting: Setting) -> str:
    kind = holds(setting.kind)
    if kind is bool:
        return "true or false"
    if kind is int:
        return "a whole number"
    if setting.name == "credential":
        return 'JSON such as {"url": "https://...", "username": "...", "password-file": "..."}'
    return str(getattr(kind, "expected", "another value"))


def asked(argv: Sequence[str]) -> str:
    """Give the first question of a command line: help, man or version; nothing without one."""
    words = list(argv)
    while words and (word := words.pop(0)) != "--":
        if word in _QUESTIONS:
            return _QUESTIONS[word]
        if word in _SHORT or (word.startswith("--") and _kind_of(word[2:]) not in (None, bool)):
            del words[:1]  # a flag's value is no question, whatever it looks like
    return ""


def answer(question: str) -> str:
    """Give the answer to a question."""
    if question == "version":
        return f"{PROG} {__version__}"
    if question == "man":
        from sidecars.syncer.manual import manual

        return manual()
    from sidecars.core.reference import usage  # only who asks pays for it

    return usage(Settings, PROG, PREFIX)


def load(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> Words:
    """Read what is asked for. Raises WrongWords (exit 2), and checks.WrongConfiguration and WrongSettings (exit 1)."""
    argv, environ = sys.argv[1:] if argv is None else argv, os.environ if environ is None else environ
    reading = Reading(environ)
    reading.variables()
    reading.command_line([word for word in argv if word != "--check-config"])
    values = reading.all()
    config = open_config(reading.config, environ) if reading.config else ConfigFile()
    entries = config.values.pop("repositories", None)
    values = {**(from_file(config, config.values, "") if config.values else {}), **values}
    base = Settings(**values, provenance=Provenance((), config.written, config.expanded))
    repositories = overlaid(base, config, entries) if entries is not None else [base]
    checks.check(repositories, several=entries is not None)
    finished = tuple(replace(each, name=each.called, provenance=_provenance(each)) for each in repositories)
    return Words(finished, _told(base, reading.given), tuple(reading.notices), strangers(environ), "admin" in values)


def _provenance(settings: Settings) -> Provenance:
    """Keep off the status page what may hold a secret: it shows what was written at the place instead."""
    known = settings.provenance
    hidden = {name: "REDACTED" for name in ("credential", *checks.PRIVATE) if getattr(settings, name)}
    return Provenance((), {**known.written, **hidden}, known.expanded)


def _told(settings: Settings, given: Sequence[str]) -> tuple[str, ...]:
    if settings.verbose < _TELL_SET:
        return tuple(given)
    found = []
    for name, setting in _flags().items():
        held = None if setting.secret else getattr(settings, setting.name)
        texts = held if isinstance(held, tuple) else ("" if held is None else _plain(held),)
        found += [
            f"--{name}={checks.shown(setting.name, each)}" for each in texts if each or settings.verbose >= _TELL_ALL
        ]
    return tuple(found)


def _plain(held: object) -> str:
    """Write a value as text; nothing for what is off, 0 or empty."""
    if isinstance(held, bool):
        return "true" if held else ""
    return str(held) if held else ""


def strangers(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Complain of variables with our prefix that no setting has, but for those that Kubernetes makes of a Service."""
    known = {f"{PREFIX}CONFIG", *(name for setting in _settings() for name in setting.variables)}
    return tuple(
        f"the variable {name} is unknown; {nearest(name, known)}"
        for name, text in sorted(environ.items())
        if name.startswith(PREFIX) and name not in known and not service_link(name.removeprefix(PREFIX), text)
    )
