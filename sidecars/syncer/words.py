"""git-sync's command line and environment, read as it reads them; with a config file beside them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from sidecars import __version__
from sidecars.core.configfile import ConfigFile, open_config
from sidecars.core.declaration import Provenance, Setting, declared, holds, sequence
from sidecars.core.errors import SidecarError, WrongSettings
from sidecars.core.settings import service_link
from sidecars.core.units import Seconds, Secret
from sidecars.core.values import Place, fill, nearest, read
from sidecars.syncer import checks, legacy
from sidecars.syncer.settings import PREFIX, PROG, Credential, Settings
from sidecars.syncer.units import Duration, boolean, whole

_SHORT = {"-v": "verbose"}
_QUESTIONS = {"-h": "help", "-?": "help", "--help": "help", "--man": "man", "--version": "version"}
_LISTS_BY_COLON = ("ssh_key_file",)


class WrongWords(SidecarError):  # noqa: N818
    """The command line cannot be read."""

    exit_code = 2


class Words(NamedTuple):
    """What was asked for.

    repositories  the settings of each repository; the first one's are also the process's
    given         the flags of the command line as `--name=value`, secrets left out
    notices       lines for stderr about names that are deprecated
    """

    repositories: tuple[Settings, ...]
    given: tuple[str, ...]
    notices: tuple[str, ...]


class Reading:
    """One reading of a command line and an environment: values by field, and what is to be said of old names."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.settings = declared(Settings, PREFIX)
        self.flags = {setting.flag.removeprefix("--"): setting for setting in self.settings if setting.flag}
        self.values: dict[str, Any] = {}
        self.old: dict[str, Any] = {}
        self.given: list[str] = []
        self.notices: list[str] = []
        self.config = ""

    def variables(self) -> None:
        """Take the variables, the older names of which win. Raises WrongSettings."""
        for setting in self.settings:
            for name in setting.variables:
                text = self._variable(name)
                if text is not None:
                    self.values[setting.name] = self._from_variable(setting, name, text)
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

    def _from_variable(self, setting: Setting, name: str, text: str) -> Any:
        if setting.secret:
            return Secret(file=text) if name.endswith("_FILE") and text else Secret(text) if text else None
        if setting.name == "credential":
            return _credentials(text, quiet=True)
        if sequence(setting.kind):
            parts = text.split(":") if setting.name in _LISTS_BY_COLON else text.splitlines()
            return tuple(part for part in parts if part)
        try:
            return value(setting, text)
        except ValueError:
            shown = "" if setting.secret else f"={text!r}"
            raise WrongSettings(f"invalid {_kind(setting)} env {name}{shown}; expected {_expected(setting)}") from None

    def _read_old(self, flag: str, name: str, text: str, wrong: type[SidecarError]) -> Any:
        readers: dict[type, Any] = {str: str, int: whole, float: float, bool: boolean}
        try:
            return readers[legacy.FLAGS[flag].kind](text)
        except ValueError:
            raise wrong(f"invalid value {text!r} for {name}") from None

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
            raise WrongWords(f"unknown shorthand flag: {word!r}")
        if not equals:
            text = self._text(name, rest)
        self._take(name, text)

    def _text(self, name: str, rest: list[str]) -> str:
        """Give the text of a flag without `=`: a boolean needs none, and takes none."""
        known = self.flags.get(name)
        kind = legacy.FLAGS[name].kind if name in legacy.FLAGS else holds(known.kind) if known else None
        if kind is bool:
            return "true"
        if kind is None and name != "config":
            raise WrongWords(f"unknown flag: --{name}; {nearest('--' + name, ['--' + each for each in self.flags])}")
        if not rest:
            raise WrongWords(f"flag needs an argument: --{name}")
        return rest.pop(0)

    def _take(self, name: str, text: str) -> None:
        if name == "config":
            self.config = text
            return
        if name in legacy.FLAGS and name not in self.flags:
            self.notices.append(f"--{name} is deprecated: use {legacy.FLAGS[name].instead}")
            self.old[name] = self._read_old(name, f"--{name}", text, WrongWords)
            return
        setting = self.flags.get(name)
        if setting is None:
            raise WrongWords(f"unknown flag: --{name}; {nearest('--' + name, ['--' + each for each in self.flags])}")
        self._keep(setting, name, text)

    def _keep(self, setting: Setting, name: str, text: str) -> None:
        shown = f"--{name}={checks.shown(setting.name, text)}"
        first = not any(each.startswith(f"--{name}=") for each in self.given)
        self.given.append(shown)
        try:
            if setting.secret:
                self.values[setting.name] = Secret(file=text) if text else None
            elif setting.name == "credential":
                self.values[setting.name] = (*self.values.get(setting.name, ()), *_credentials(text))
            elif sequence(setting.kind):
                before = () if first else self.values.get(setting.name, ())
                self.values[setting.name] = (*before, text)
            else:
                self.values[setting.name] = value(setting, text)
        except ValueError:
            raise WrongWords(f"invalid argument for --{name}: {text!r}; expected {_expected(setting)}") from None


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


def _credentials(text: str, *, quiet: bool = False) -> tuple[str, ...]:
    """Read one --credential: an object or a list of them. ValueError, or nothing, when the text is none."""
    try:
        found = json.loads(text)
        items = [json.dumps(item) for item in (found if isinstance(found, list) else [found])]
        for item in items:
            msgspec.json.decode(item, type=Credential)
        return tuple(items)
    except ValueError:
        if quiet:
            return ()
        raise


def asked(argv: Sequence[str]) -> str:
    """Give the first question of a command line: help, man or version; nothing without one."""
    return next((_QUESTIONS[word] for word in argv if word in _QUESTIONS), "")


def answer(question: str) -> str:
    """Give the answer to a question."""
    if question == "version":
        return f"{PROG} {__version__}"
    from sidecars.core.reference import page, usage  # only who asks pays for it

    return usage(Settings, PROG, PREFIX) if question == "help" else page(Settings, PROG, PREFIX)


def load(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> Words:
    """Read what is asked for. Raises WrongWords (exit 2), and checks.WrongConfiguration and WrongSettings (exit 1)."""
    argv, environ = sys.argv[1:] if argv is None else argv, os.environ if environ is None else environ
    reading = Reading(environ)
    reading.variables()
    reading.command_line([word for word in argv if word != "--check-config"])
    config = open_config(reading.config, environ) if reading.config else ConfigFile()
    entries = config.values.pop("repositories", None)
    common = _from_file(config, config.values, "")
    values = {**common, **reading.values}
    checks.modernise(values, reading.old)
    base = _built({**values, "provenance": Provenance(strangers(environ), config.written, config.expanded)})
    repositories = tuple(_overlaid(base, config, entries)) if entries else (base,)
    checks.check(repositories, several=bool(entries))
    return Words(repositories, tuple(reading.given), tuple(reading.notices))


def _built(values: dict[str, Any]) -> Settings:
    return Settings(**values)


def _from_file(config: ConfigFile, mapping: dict[str, object], place: str) -> dict[str, Any]:
    known = {key.replace("-", "_"): each for key, each in mapping.items()}
    return fill(declared(Settings, PREFIX), known, Place(place, config.path, config.written))


def _overlaid(base: Settings, config: ConfigFile, entries: object) -> list[Settings]:
    """Give each entry of `repositories` as settings of its own, over those of all."""
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise WrongSettings(f"repositories in {config.path} is no list of mappings; write - repo: URL for each")
    return [replace(base, **_from_file(config, entry, f"repositories[{index}]")) for index, entry in enumerate(entries)]


def strangers(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Complain of variables with our prefix that no setting has, but for those that Kubernetes makes of a Service."""
    settings = declared(Settings, PREFIX)
    known = {f"{PREFIX}CONFIG", *(name for setting in settings for name in setting.variables)}
    return tuple(
        f"the variable {name} is unknown; {nearest(name, known)}"
        for name, text in sorted(environ.items())
        if name.startswith(PREFIX) and name not in known and not service_link(name.removeprefix(PREFIX), text)
    )
