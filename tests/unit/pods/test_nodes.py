from __future__ import annotations

import re

import pytest

from sidecars.pods.nodes import WrongManifest, compose

LAUGHS = "a: &a [1]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]" for n in range(12)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: b\n c: d", "f.yaml:2: is no YAML: mapping values are not allowed"),
        ("a: 1\nb: [1, 2\nc: 3", "is no YAML"),
        ("a:\n\tb: c", "f.yaml:2: is no YAML: found character that cannot start any token"),
        ("a: b\nc: \x01d", "f.yaml:2: the character U+0001 cannot be in YAML; remove it"),
        ("a: *b", "is no YAML: found undefined alias"),
        ("a: &a [*a]", "f.yaml:1: an alias stands inside of what it names; write it out"),
        (LAUGHS, "its aliases make more of it than any cluster would take"),
        ("[" * 100_000, "is no YAML: exceeded maximum nesting depth"),
        ("[" * 600 + "]" * 600, "is nested too deeply to be a manifest"),
        ("? [a]\n: b", "is no YAML: a key that is a collection"),
        ("a: !!int x", "'x' is no int; put it in quotes"),
        ("{{ if .Values.on }}\na: b\n{{ end }}", "is a template and no YAML yet"),
        ("image: {{ .Values.image }}", "f.yaml:1: is a template and no YAML yet"),
        ("spec:\n  {{- toYaml .Values.spec | nindent 2 }}", "render it first, as with `helm template CHART | sidecars"),
        ("\ufeffa: b", "begins with a byte order mark"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(WrongManifest, match=re.escape(said)) as error:
        list(compose(text, "f.yaml"))
    assert str(error.value).startswith("f.yaml:")


def test_nodes_say_where_they_stand() -> None:
    text = '# é\na:  # of a\n- b: "c: d"   # of b\n  # deeper\n\n# of e\ne: |\n  f\n  g\n\nh: {i: [1, x]}\n'
    (root,) = compose(text, "f.yaml")
    shown = {
        path: text[node.start : node.end]
        for path in (("a",), ("a", 0, "b"), ("e",), ("h", "i"), ("h", "i", 1))
        if (node := root.at(*path))
    }
    assert shown == {
        ("a",): '- b: "c: d"',
        ("a", 0, "b"): '"c: d"',
        ("e",): "|\n  f\n  g\n",
        ("h", "i"): "[1, x]",
        ("h", "i", 1): "x",
    }
    node = root.at("a", 0)
    assert node is not None
    assert (node.line, node.column) == (3, 2)


def test_values_are_those_that_kubectl_would_send() -> None:
    (root,) = compose("a: 0644\nb: yes\nc: 2026-01-31\nd: ~\ne: 1.5\nf: '5'\ng: 0x10\nh:\ni: no-more\n", "f.yaml")
    assert root.data == {
        "a": 420, "b": True, "c": "2026-01-31", "d": None, "e": 1.5, "f": "5", "g": 16, "h": None, "i": "no-more",
    }  # fmt: skip


def test_what_aliases_and_merges_share_is_fixed() -> None:
    (root,) = compose("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\nf: {g: 1, g: 2}\nh: &y i\n", "f.yaml")
    assert {key: node.fixed for key, node in root.values.items()} == {
        "a": "an alias", "c": "an alias", "d": "a merge key", "f": "the key g, which is given twice", "h": "",
    }  # fmt: skip
    assert root.data["d"] == {"b": 1, "e": 2}


def test_documents_that_are_empty_are_left_out() -> None:
    assert [root.data for root in compose("---\n---\na: b\n---\n# c\n...\n", "f.yaml")] == [{"a": "b"}]
