"""What a conversion has found, for people and for programs."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from sidecars.pods.drafting import Conversion, Finding
from sidecars.pods.known import IMAGE


def lines(conversion: Conversion) -> Iterator[str]:
    """Say each finding in one line, and the notes on it in a line each.

    web.yaml:12 logs exact #12: tail -f stays on the rotated file; log-tailer follows it
    """
    for finding in conversion.findings:
        place = f"{conversion.name}:{finding.line} {finding.container or '-'}"
        yield f"{place} {finding.kind} {row(finding)}: {finding.verdict.wrong}; {instead(finding)}"
        yield from (f"{place} note: {note}" for note in finding.notes)


def row(finding: Finding) -> str:
    """The row of the catalogue, as #12; of an image by its name `image`."""
    return "image" if finding.verdict.pattern == IMAGE else f"#{finding.verdict.pattern}"


def instead(finding: Finding) -> str:
    """What was done, or is to be done."""
    said = finding.verdict.instead
    return f"left alone, for {finding.left}; a person can: {said}" if finding.left else said


def diff(conversion: Conversion) -> str:
    """The change as `diff -u` writes it, which `patch` takes; empty when nothing changes."""
    before, after = (text.splitlines(keepends=True) for text in (conversion.before, conversion.after))
    found = difflib.unified_diff(before, after, conversion.name, conversion.name)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)


def document(conversions: Sequence[Conversion], errors: Sequence[str], *, manifests: bool) -> str:
    """Everything as one JSON document; with `manifests` the converted texts too."""
    files = [_file(conversion, manifests) for conversion in conversions]
    return json.dumps({"files": files, "errors": list(errors)}, indent=2, ensure_ascii=False)


def _file(conversion: Conversion, manifests: bool) -> dict[str, Any]:
    found = {
        "file": conversion.name,
        "changed": conversion.after != conversion.before,
        "findings": [_finding(finding) for finding in conversion.findings],
    }
    return {**found, "manifest": conversion.after} if manifests else found


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "line": finding.line,
        "container": finding.container,
        "kind": finding.kind,
        "row": finding.verdict.pattern or None,
        "found": finding.verdict.found,
        "wrong": finding.verdict.wrong,
        "instead": instead(finding),
        "images": [each.image for each in finding.verdict.replacements] if finding.kind == "exact" else [],
        "notes": list(finding.notes),
    }
