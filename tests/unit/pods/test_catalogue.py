from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecars.pods.catalogue import IMAGES, ROWS, table
from sidecars.pods.known import KNOWN
from tests.unit.pods.expected import Case, cases

PAGE = Path(__file__).parents[3] / "docs" / "convert.md"
SOURCES = Path(__file__).parents[3] / "sidecars" / "pods"


def test_the_page_has_every_row() -> None:
    assert "\n".join(table()) in PAGE.read_text(), (
        "put the lines of sidecars.pods.catalogue.table() into docs/convert.md"
    )


def test_there_is_a_row_for_each_loop_and_each_image() -> None:
    assert list(ROWS) == list(range(1, 39))
    assert {name.rpartition("/")[2] for name in IMAGES} <= {name.rpartition("/")[2] for name in KNOWN}


@pytest.mark.parametrize("case", [case for case in cases() if case.expected], ids=lambda case: case.name)
def test_verdicts_are_those_of_the_catalogue(case: Case) -> None:
    for _, kind, row in case.expected:
        assert row == "image" or kind in ROWS[int(row)].kinds


def test_the_messages_of_the_page_are_those_of_the_program() -> None:
    source = "\n".join(path.read_text() for path in SOURCES.glob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)
    told = re.findall(r"(?m)^\| `([^`]+)` \| [A-Z]", PAGE.read_text())
    assert len(told) > 6
    fixed = "its text goes through {node.fixed}"
    assert [text for text in told if text not in source and not (fixed in source and "a merge key" in text)] == []
