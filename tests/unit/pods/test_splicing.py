from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.pods.editing import Edits
from sidecars.pods.nodes import compose
from sidecars.pods.splicing import Fixed, spliced

COMMENT = re.compile(r"#[a-z0-9]+#")

# A key's value in several spellings: the text behind the colon, in lines that follow each other, and what it means.
SPELLINGS: dict[str, list[tuple[list[str], Any]]] = {
    "name": [([" app"], "app"), ([' "app"'], "app"), ([" 'app'"], "app")],
    "image": [([" busybox:1"], "busybox:1"), ([' "busybox:1"'], "busybox:1")],
    "command": [
        ([' [sh, "-c"]'], ["sh", "-c"]),
        (["", "- sh", "- -c"], ["sh", "-c"]),
        (["", "  - sh", "  - -c"], ["sh", "-c"]),
    ],
    "args": [
        ([" ['a # b: c']"], ["a # b: c"]),
        (["", "- |", "  a", "  # b"], ["a\n# b\n"]),
        (["", "- >-", "  a", "  b"], ["a b"]),
    ],
    "env": [
        (["", "- name: A", "  value: one", "- name: B"], [{"name": "A", "value": "one"}, {"name": "B"}]),
        ([" [{name: A, value: one}, {name: B}]"], [{"name": "A", "value": "one"}, {"name": "B"}]),
    ],
    "securityContext": [
        (["", "  runAsUser: 0", "  privileged: true"], {"runAsUser": 0, "privileged": True}),
        ([" {runAsUser: 0}"], {"runAsUser": 0}),
    ],
    "stdin": [([" true"], True), ([""], None)],
}
NEW: dict[str, list[Any]] = {
    "image": ["sidecars/pod-init:0.1.0", "busybox:1"],
    "args": [["wait", "tcp://db:5432"], ["a # b: c"]],
    "command": [["x"]],
    "env": [[{"name": "A", "value": "1"}], [{"name": "A", "value": "2"}, {"name": "C", "value": "#"}], [{"name": "C"}]],
    "securityContext": [
        {"runAsUser": 1, "capabilities": {"drop": ["ALL"]}},
        {"privileged": True},
        {"a": 1, "privileged": 0},
    ],
    "volumeMounts": [[{"name": "v", "mountPath": "/v", "readOnly": True}]],
    "stdin": [False],
}


@st.composite
def maps(draw: st.DrawFn) -> tuple[str, dict[str, Any], int]:
    """An item of a list in lines, with comments wherever they may stand; its value; how many comments it has."""
    keys = draw(st.permutations(list(SPELLINGS)))[: draw(st.integers(2, len(SPELLINGS)))]
    lines, value, comments = [], {}, 0

    def comment() -> str:
        nonlocal comments
        comments += 1
        return f"#c{comments}#"

    for key in keys:
        spelling, value[key] = draw(st.sampled_from(SPELLINGS[key]))
        if lines and draw(st.booleans()):
            lines.append(comment())
        for at, line in enumerate([f"{key}:{spelling[0]}", *spelling[1:]]):
            in_block = "|" in "".join(spelling[:at]) or ">" in "".join(spelling[:at])
            ends = draw(st.booleans()) and not in_block and not line.endswith(("|", ">-"))
            lines.append(f"{line}  {comment()}" if ends else line)
    column = draw(st.sampled_from([0, 2, 4]))
    text = "\n".join(f"{' ' * column}{'- ' if not at else '  '}{line}" for at, line in enumerate(lines))
    return text, value, comments


@st.composite
def edits(draw: st.DrawFn) -> tuple[str, dict[str, Any], int]:
    text, value, comments = draw(maps())
    kept = draw(st.sets(st.sampled_from(list(value)), min_size=1))
    new = {key: each for key, each in value.items() if key in kept}
    for key in draw(st.permutations(list(NEW)))[: draw(st.integers(0, 4))]:
        new[key] = draw(st.sampled_from(NEW[key]))
    return text, new, comments


@settings(max_examples=80, deadline=None)
@given(edit=edits(), newline=st.sampled_from(["\n", "\r\n"]), ending=st.sampled_from(["", "\n", "\n# after\n- z\n"]))
def test_a_map_becomes_another_and_all_else_stays(
    edit: tuple[str, dict[str, Any], int], newline: str, ending: str
) -> None:
    text, new, comments = edit
    column = len(text) - len(text.lstrip())
    before = f"# before\n{' ' * column}- first\n"
    after = ending.replace("- z", f"{' ' * column}- z")
    whole = f"{before}{text}{after}".replace("\n", newline)
    (root,) = compose(whole, "f.yaml")
    editor = Edits(whole)
    try:
        editor.become(root.items[1], new)
    except Fixed:
        assert "[{name" in text or "securityContext: {" in text  # comments do not stand between brackets here
        return
    result = spliced(whole, editor.splices)
    (read,) = compose(result, "f.yaml")
    assert read.data == ["first", new, *(["z"] if "z" in ending else [])]
    assert result.startswith(before.replace("\n", newline))
    assert result.endswith(after.replace("\n", newline))
    assert len(COMMENT.findall(result)) == comments
    assert newline == "\n" or "\n" not in result.replace("\r\n", "")


def test_what_is_shared_is_refused() -> None:
    text = "a: &x {b: 1}\nc: *x\n"
    (root,) = compose(text, "f.yaml")
    node = root.at("a")
    assert node is not None
    with pytest.raises(Fixed, match="its text goes through an alias"):
        Edits(text).become(node, {"b": 2})


def test_edits_that_meet_are_refused() -> None:
    editor = Edits("abcdef")
    editor.put(0, 3, "x")
    editor.put(2, 4, "y")
    with pytest.raises(Fixed, match="two edits of it meet"):
        spliced("abcdef", editor.splices)
