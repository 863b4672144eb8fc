"""YAML with version 1.2's plain words; PyYAML alone reads 1.1, where `off` is false and 12:30 is 750."""

from __future__ import annotations

import re
from typing import Any

import yaml

WORDS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)", "-+.0123456789"),
    ("merge", r"<<", "<"),
)


class Loader(yaml.SafeLoader):
    """Read plain data; a key that stands twice in a mapping is an error, for the first would be lost in silence."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Look for doubled keys before merge keys are put in, which may be overridden."""
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key is no word", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in WORDS:
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


class _Texts(Loader):
    """Read every plain word as the text it is."""


_Texts.yaml_implicit_resolvers = {}


def read(text: str) -> Any:
    """Read one document; ValueError says the line and never repeats what stands there."""
    return _read(text, Loader)


def read_texts(text: str) -> Any:
    """Read one document whose values are texts, as they are written: 0660, 1.50, true. ValueError as read()."""
    return _read(text, _Texts)


def _read(text: str, loader: type[Loader]) -> Any:
    try:
        return yaml.load(text, loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
