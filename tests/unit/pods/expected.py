"""Hand-written manifests, and what is expected of each: `# expect CONTAINER KIND ROW` lines before a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "manifests"
EXPECT = re.compile(r"^# expect (\S+) (\S+) (\S+)$", re.MULTILINE)


class Case(NamedTuple):
    """One document of a file, and what is to be found in it: container, kind, row."""

    name: str
    text: str
    expected: list[tuple[str, str, str]]


def cases() -> Iterator[Case]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for number, text in enumerate(re.split(r"(?m)^---\n", path.read_text())):
            expected = [(match[1], match[2], match[3]) for match in EXPECT.finditer(text)]
            yield Case(f"{path.stem}-{number}", text, expected)
