"""The config file: YAML, JSON or TOML by its name, with ${VAR} put in from the environment."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sidecars.core.errors import WrongSettings

VARIABLE = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class ConfigFile(msgspec.Struct):
    """What a config file holds, after ${VAR} was put in.

    written   the text as the file has it, by place, wherever ${VAR} was put in
    expanded  what was put in, with the ${VAR} it stands for
    """

    path: str = ""
    values: dict[str, object] = {}
    written: dict[str, str] = {}
    expanded: dict[str, str] = {}


def open_config(path: str, environ: Mapping[str, str]) -> ConfigFile:
    """Read a config file and expand it; WrongSettings when that cannot be done.

    `${VAR}` is the variable's value, `${VAR:-text}` has a default for one that is not set or empty, and `$$` is a `$`.
    Any other `$` stays as it is, so that a regular expression can be written as it is.
    """
    reader = READERS.get(path.rpartition(".")[2])
    if reader is None:
        raise WrongSettings(f"--config is {path!r}, expected a name that ends in .yaml, .yml, .json or .toml")
    try:
        with open(path, encoding="utf-8") as file:
            values = reader(file.read())
    except OSError as error:
        raise WrongSettings(f"cannot read --config {path}: {error.strerror}; is it mounted and readable?") from error
    except ValueError as error:
        raise WrongSettings(f"{path} is not valid {path.rpartition('.')[2].upper()}: {error}; correct it") from error
    if not isinstance(values, dict) and values is not None:
        raise WrongSettings(f"{path} holds no settings, expected a mapping, as key: value")
    config = ConfigFile(path)
    config.values = {str(key): expand(value, str(key), config, environ) for key, value in (values or {}).items()}
    return config


def expand(value: object, place: str, config: ConfigFile, environ: Mapping[str, str]) -> object:
    """Put variables in, in every text below a place."""
    if isinstance(value, dict):
        return {str(key): expand(item, f"{place}.{key}", config, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [expand(item, f"{place}[{index}]", config, environ) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value

    def variable(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name, default = match.groups()
        text = environ.get(name)
        if text is None and default is None:
            raise WrongSettings(f"{place} in {config.path} needs the variable {name}, which is not set: set it")
        config.written[place] = value
        if text:
            config.expanded[text] = match[0]
        return text or default or ""

    return VARIABLE.sub(variable, value)


def _yaml(text: str) -> Any:
    from sidecars.core import plainyaml  # 10 ms that only a YAML file costs

    return plainyaml.read(text)


def _json(text: str) -> Any:
    import json

    def mapping(pairs: list[tuple[str, object]]) -> dict[str, object]:
        values = dict(pairs)
        if len(values) < len(pairs):
            twice = next(key for index, (key, _) in enumerate(pairs) if key in dict(pairs[:index]))
            raise ValueError(f"{twice} is given twice")
        return values

    return json.loads(text, object_pairs_hook=mapping)


def _toml(text: str) -> Any:
    import tomllib

    return tomllib.loads(text)


READERS: dict[str, Callable[[str], Any]] = {"yaml": _yaml, "yml": _yaml, "json": _json, "toml": _toml}
