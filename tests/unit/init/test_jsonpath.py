from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.init.kube.jsonpath import find, parse, written

POD = {
    "metadata": {"name": "web-0", "annotations": {"example.com/ready": "yes", "plain": "1"}, "labels": {}},
    "spec": {"containers": [{"name": "app", "image": "a:1"}, {"name": "log", "image": "b:2"}], "paused": False},
    "status": {
        "phase": "Running",
        "replicas": 3,
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}],
        "load": 0.5,
        "none": None,
    },
}
FOUND: list[tuple[str, list[Any]]] = [
    ("{.status.phase}", ["Running"]),
    (".status.phase", ["Running"]),
    ("status.phase", ["Running"]),
    ("{$.status.phase}", ["Running"]),
    ("{ .status.phase }", ["Running"]),
    ("{.status['phase']}", ["Running"]),
    ("{['status'][\"phase\"]}", ["Running"]),
    ("{.status.none}", [None]),
    ("{.status.missing}", []),
    ("{.status.phase.more}", []),
    ("{.metadata.annotations.example\\.com/ready}", ["yes"]),
    ("{.metadata.annotations['example.com/ready']}", ["yes"]),
    ("{.spec.containers[0].name}", ["app"]),
    ("{.spec.containers[-1].name}", ["log"]),
    ("{.spec.containers[7].name}", []),
    ("{.spec.containers[-3].name}", []),
    ("{.spec.containers[*].image}", ["a:1", "b:2"]),
    ("{.spec.containers.*.image}", ["a:1", "b:2"]),
    ("{.metadata.labels.*}", []),
    ('{.status.conditions[?(@.type=="Ready")].status}', ["True"]),
    ("{.status.conditions[?(@.type == 'Ready')].status}", ["True"]),
    ("{.status.conditions[?(@.type!='Ready')].status}", ["False"]),
    ("{.spec.containers[?(@.name=='none')].image}", []),
    ("{.status.conditions[?(@['type']=='Ready')].status}", ["True"]),
]


@pytest.mark.parametrize(("path", "expected"), FOUND)
def test_what_stands_at_a_path_is_found(path: str, expected: list[Any]) -> None:
    assert find(parse(path), POD) == expected


@pytest.mark.parametrize(
    "path", ["", "{}", "$", "{.a..b}", "{.a[}", "{.a[1:2]}", "{.a[?(@.b<3)]}", "{range .items[*]}", "{.a}{.b}", "a b"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"empty|cannot be read"):
        parse(path)


def test_values_are_written_as_kubectl_compares_them() -> None:
    assert [written(each) for each in ("Running", 3, 0.5, True, None, [1])] == [
        "Running", "3", "0.5", "true", "null", "[1]",
    ]  # fmt: skip


@settings(deadline=None)
@given(st.text(".[]{}*?@='\"\\ab0-()!$ ", max_size=40))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    try:
        path = parse(text)
    except ValueError:
        return
    find(path, POD)


DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab", max_size=2),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["a", "b"]), below, max_size=2),
    max_leaves=8,
)


@settings(deadline=None)
@given(DOCUMENTS, st.sampled_from(["{.a.b}", "{.a[0]}", "{.*.a}", "{.a[?(@.b=='a')]}", "{[*][*]}"]))
def test_no_document_is_too_strange(document: Any, path: str) -> None:
    assert isinstance(find(parse(path), document), list)
