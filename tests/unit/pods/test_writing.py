from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from sidecars.pods import writing

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", "yes", "No", "null", "~", "0644", "1e3", "1:30", "a: b", "a #b", "- a", "*a", "&a", "!a", "%a", "@a", "`a",
     "2026-01-31", "0x1f", "0o17", ".5", "=", "<<", "tcp://db:5432", "--timeout=5m", "a,b", "[a]", "{a}", "?", "y",
     "$(HOST):80", "trailing:", "'", '"', "\\", "\n", " a", "a ", "\u2028", "\x7f", "#", "---", "...", "1_000", ".inf"]
)  # fmt: skip
SCALARS = TEXTS | st.integers(-(10**9), 10**9) | st.booleans() | st.none()
KEYS = st.text("abcXYZ019./-_", min_size=1, max_size=8) | TEXTS
READER = YAML(typ="safe", pure=True)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4))


@settings(max_examples=25, deadline=None)
@given(value=VALUES)
def test_between_brackets_every_value_is_read_back(value: Any) -> None:
    assert yaml.safe_load(writing.flow(value)) == value


@settings(max_examples=25, deadline=None)
@given(value=VALUES)
def test_json_is_json_and_yaml(value: Any) -> None:
    text = writing.flow(value, json=True)
    assert json.loads(text) == value
    assert yaml.safe_load(text) == value


@settings(max_examples=25, deadline=None)
@given(
    value=st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), column=st.integers(0, 6), dash=st.sampled_from([0, 2])
)
def test_in_lines_every_value_is_read_back(value: dict[str, Any], column: int, dash: int) -> None:
    text = " " * column + writing.block(value, column, dash) + "\n"
    assert yaml.safe_load(text) == value
    assert yaml.safe_load(f"a:\n{writing.item(value, dash, dash)}\n") == {"a": [value]}


@settings(max_examples=25, deadline=None)
@given(value=TEXTS)
def test_readers_of_yaml_1_2_read_the_same_texts(value: str) -> None:
    for text in (writing.scalar(value), writing.scalar(value, quote="'"), writing.flow([value])[1:-1]):
        assert READER.load(f"a: {text}\n") == {"a": value}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("sidecars/pod-init:0.1.0", "sidecars/pod-init:0.1.0"),
        ("tcp://db:5432", "tcp://db:5432"),
        ("--timeout=5m", "--timeout=5m"),
        ("5432", '"5432"'),
        ("yes", '"yes"'),
        (["wait", "tcp://db:5432", "--timeout=5m"], '[wait, "tcp://db:5432", --timeout=5m]'),
        ({"drop": ["ALL"]}, "{drop: [ALL]}"),
    ],
)
def test_quotes_stand_where_they_are_needed(value: Any, written: str) -> None:
    assert (writing.flow(value) if isinstance(value, (list, dict)) else writing.scalar(value)) == written
