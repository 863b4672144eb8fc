"""A configuration in a file of its own, and what becomes of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd import read
from sidecars.shipper.plan import Output, Plan, Stream

SOURCE = """
<source>
  @type tail
  path /logs/app.log
  tag app
  format none
</source>
"""
MATCH = """
<match **>
  @type s3
  s3_bucket b
</match>
"""


class Folder:
    """A folder of configuration files; places in errors and warnings are given without it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, text: str, name: str = "fluent.conf") -> str:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
        return str(file)

    def plan(self, text: str, environ: Mapping[str, str] | None = None, *, ignore_unknown: bool = False) -> Plan:
        return read(self.write(text), environ or {}, ignore_unknown=ignore_unknown)

    def warnings(self, text: str, *, ignore_unknown: bool = False) -> list[str]:
        plan = self.plan(text, ignore_unknown=ignore_unknown)
        return [warning.replace(f"{self.path}/", "") for warning in plan.warnings]

    def refused(self, text: str, environ: Mapping[str, str] | None = None) -> str:
        with pytest.raises(WrongSettings) as error:
            self.plan(text, environ)
        return str(error.value).replace(f"{self.path}/", "")

    def stream(self, lines: str, environ: Mapping[str, str] | None = None) -> Stream:
        """Give the stream of a source that has these lines too."""
        (stream,) = self.plan(source(lines) + MATCH, environ).streams
        return stream

    def output(self, lines: str, environ: Mapping[str, str] | None = None) -> Output:
        """Give the output of a match that has these lines too."""
        (stream,) = self.plan(SOURCE + match(lines), environ).streams
        return stream.output


def source(lines: str) -> str:
    return f"<source>\n@type tail\n{_given(lines, SOURCE)}{lines}\n</source>\n"


def match(lines: str) -> str:
    return f"<match **>\n@type s3\n{_given(lines, MATCH)}{lines}\n</match>\n"


def _given(lines: str, default: str) -> str:
    """Give the lines of the default that these do not give another value."""
    names = {line.split()[0] for line in lines.splitlines() if line.split()}
    if "<parse>" in lines:
        names.add("format")
    kept = [line.strip() for line in default.splitlines() if line.startswith("  ")]
    return "".join(f"{line}\n" for line in kept if line.split()[0] not in names | {"@type"})
