from __future__ import annotations

import stat
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.syncer.plan import Plan, plan
from sidecars.syncer.tree import Seen

FILE, LINK, FOLDER, FIFO = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777, stat.S_IFDIR | 0o755, stat.S_IFIFO | 0o644


def tree(paths: Mapping[str, int]) -> dict[str, Seen]:
    return {path: Seen(mode, 1, 1, 1, 1) for path, mode in paths.items()}


@pytest.mark.parametrize(
    ("source", "mirror", "expected"),
    [
        ({}, {}, Plan([], [], [], [], [])),
        ({"a": FILE}, {"a": FILE}, Plan([], [], [], [], [])),
        ({"changed": FILE}, {"changed": FILE}, Plan([], [], ["changed"], [], [])),
        ({"a": FILE}, {"a": stat.S_IFREG | 0o600}, Plan([], [], [], ["a"], [])),
        ({"d": FOLDER}, {"d": stat.S_IFDIR | 0o2700}, Plan([], [], [], ["d"], [])),
        ({"d": FOLDER}, {"d": stat.S_IFDIR | 0o2755}, Plan([], [], [], [], [])),
        ({"a": FILE}, {"a": LINK}, Plan([], [], ["a"], [], [])),
        ({"a": FILE}, {"a": FIFO}, Plan([], [], ["a"], [], [])),
        ({"d": FOLDER, "d/a": FILE}, {}, Plan([], ["d"], ["d/a"], [], [])),
        ({}, {"d": FOLDER, "d/a": FILE}, Plan([], [], [], [], ["d/a", "d"])),
        ({"a": FILE}, {"a": FOLDER, "a/b": FOLDER, "a/b/c": FILE}, Plan(["a/b/c", "a/b", "a"], [], ["a"], [], [])),
        ({"a": FOLDER, "a/b": FILE}, {"a": LINK}, Plan(["a"], ["a"], ["a/b"], [], [])),
        ({"a": FILE, "ab": FOLDER}, {"a": FOLDER, "ab": FOLDER, "ab/c": FILE}, Plan(["a"], [], ["a"], [], ["ab/c"])),
    ],
)  # fmt: skip
def test_a_plan_holds_what_differs(source: dict[str, int], mirror: dict[str, int], expected: Plan) -> None:
    assert plan(tree(source), tree(mirror), lambda path: path != "changed") == expected


PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), max_size=8)


def grown(paths: list[str]) -> dict[str, int]:
    """Give a tree that a filesystem could hold: what is above another path is a directory."""
    above = {path[:end] for path in paths for end, each in enumerate(path) if each == "/"}
    return {**dict.fromkeys(above, FOLDER), **{path: FILE for path in paths if path not in above}}


@given(PATHS, PATHS)
def test_a_plan_can_be_carried_out_in_its_order_and_leads_to_the_source(one: list[str], other: list[str]) -> None:
    source, there = grown(one), grown(other)
    changes = plan(tree(source), tree(there), lambda _: True)

    def empty(path: str) -> bool:
        return not any(each.startswith(path + "/") for each in there)

    def in_folder(path: str) -> bool:
        return "/" not in path or there.get(path.rpartition("/")[0]) == FOLDER

    for path in changes.clear:
        assert empty(path)
        del there[path]
    for path in changes.make:
        assert path not in there
        assert in_folder(path)
        there[path] = FOLDER
    for path in changes.write:
        assert there.get(path) != FOLDER
        assert in_folder(path)
        there[path] = FILE
    for path in changes.remove:
        assert empty(path)
        del there[path]
    assert there == source
