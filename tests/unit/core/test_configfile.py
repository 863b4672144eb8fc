"""The config file: its formats, and ${VAR} in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecars.core.configfile import open_config
from sidecars.core.errors import WrongSettings


def values(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, name: str = "app.yaml"
) -> dict[str, object]:
    (folder / name).write_text(text)
    return open_config(str(folder / name), environ or {}).values


def refused(folder: Path, text: str, name: str = "app.yaml") -> str:
    with pytest.raises(WrongSettings) as error:
        values(folder, text, {}, name)
    return str(error.value).replace(str(folder), "DIR")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yaml", 'grace: 5\ntag: [a, b]\nsources: [{from: "end"}]\n'),
        ("a.yml", "%YAML 1.2\n---\ngrace: 5\ntag:\n- a\n- b\nsources:\n- from: end\n"),
        ("a.json", '{"grace": 5, "tag": ["a", "b"], "sources": [{"from": "end"}]}'),
        ("a.toml", 'grace = 5\ntag = ["a", "b"]\n[[sources]]\nfrom = "end"\n'),
    ],
)
def test_yaml_json_and_toml_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert values(tmp_path, text, {}, name) == {"grace": 5, "tag": ["a", "b"], "sources": [{"from": "end"}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("12:30", "12:30"),
        ("2026-01-31", "2026-01-31"),
        ("5s", "5s"),
        ("5", 5),
        ("-5", -5),
        ("0.5", 0.5),
        ("0755", "0755"),
        ("089", "089"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("~", None),
        ("", None),
        ('"5"', "5"),
        ("'$x'", "$x"),
    ],
)
def test_yaml_has_the_plain_words_of_version_1_2(tmp_path: Path, text: str, value: object) -> None:
    found = values(tmp_path, f"key: {text}")["key"]
    assert (found, type(found)) == (value, type(value))


def test_yaml_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    text = "base: &base {a: 1, b: 2}\nlist:\n- {<<: *base, b: 3}\n- *base\n"
    assert values(tmp_path, text)["list"] == [{"a": 1, "b": 3}, {"a": 1, "b": 2}]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_sets_nothing(tmp_path: Path, text: str) -> None:
    assert values(tmp_path, text) == {}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${A}", "a"),
        ("x-${A}-${B}", "x-a-b"),
        ("${C:-def}", "def"),
        ("${EMPTY:-def}", "def"),
        ("${EMPTY}", ""),
        ("${C:-}", ""),
        ("$${A}", "${A}"),
        ("$$$${A}", "$${A}"),
        ("^a$", "^a$"),
        ("$A", "$A"),
        ("${A", "${A"),
        ("${A-x}", "${A-x}"),
        ("${NESTED}", "${A}"),
    ],
)
def test_a_variable_is_put_in(tmp_path: Path, text: str, value: str) -> None:
    environ = {"A": "a", "B": "b", "EMPTY": "", "NESTED": "${A}"}
    assert values(tmp_path, f"list: [{{key: '{text}'}}]", environ) == {"list": [{"key": value}]}


def test_what_was_put_in_is_remembered_by_place_and_by_value(tmp_path: Path) -> None:
    (tmp_path / "app.yaml").write_text("list: [plain, {key: 'x-${A}', other: '${C:-def}'}]\nescaped: $$\n")
    config = open_config(str(tmp_path / "app.yaml"), {"A": "hunter2"})
    assert config.written == {"list[1].key": "x-${A}", "list[1].other": "${C:-def}"}
    assert config.expanded == {"hunter2": "${A}"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "a: ${NONE}", "a in DIR/a.yaml needs the variable NONE, which is not set: set it"),
        ("a.yaml", "a: 1\nb: 2\na: 3", "DIR/a.yaml is not valid YAML: line 3: a is given twice; correct it"),
        ("a.yaml", "a: [", "DIR/a.yaml is not valid YAML: line 1: "),
        ("a.yaml", "a: !!python/object:os.system x", "DIR/a.yaml is not valid YAML: line 1: could not determine"),
        ("a.yaml", "a: 1\n---\nb: 2", "DIR/a.yaml is not valid YAML: line 2: but found another document; correct it"),
        ("a.yaml", "a: \x07", "DIR/a.yaml is not valid YAML: "),
        ("a.yaml", "- a", "DIR/a.yaml holds no settings, expected a mapping, as key: value"),
        ("a.yaml", "? [a]\n: b", "DIR/a.yaml is not valid YAML: line 1: a key is no word; correct it"),
        ("a.json", '{"a": 1, "b": 2, "a": 3}', "DIR/a.json is not valid JSON: a is given twice; correct it"),
        ("a.json", "{", "DIR/a.json is not valid JSON: "),
        ("a.toml", "a = ", "DIR/a.toml is not valid TOML: "),
        ("a.txt", "", "--config is 'DIR/a.txt', expected a name that ends in .yaml, .yml, .json or .toml"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    assert refused(tmp_path, text, name).startswith(message)


def test_a_file_that_is_not_text_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(WrongSettings, match=r"a.yaml is not valid YAML: .* can't decode byte"):
        open_config(str(tmp_path / "a.yaml"), {})
