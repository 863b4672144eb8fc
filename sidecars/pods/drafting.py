"""A conversion on its way: what is to be spliced in, what each document is to be then, and what was found."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import msgspec

from sidecars.pods.manifests import Manifest, Path
from sidecars.pods.nodes import ALIAS, Node, WrongManifest, compose
from sidecars.pods.splicing import Fixed, Splice, spliced
from sidecars.pods.verdict import Kind, Verdict


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one container.

    line   of the container in the text that was read, from 1
    notes  on what was put in its place, a sentence each
    left   why an exact one was left alone all the same, half a sentence; empty: it was not
    """

    line: int
    container: str
    verdict: Verdict
    notes: tuple[str, ...] = ()
    left: str = ""

    @property
    def kind(self) -> Kind:
        """The verdict's; what could not be put in is a person's to finish."""
        return "partial" if self.left else self.verdict.kind


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """A text before and after, and what was found in it, in its order."""

    name: str
    before: str
    after: str
    findings: tuple[Finding, ...]


class Draft:
    """A manifest while it is converted."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._wanted: list[Any] = [root.data for root in manifest.roots]
        self._splices: list[Splice] = []
        self._findings: list[Finding] = []

    def found(self, finding: Finding) -> None:
        """Note a finding."""
        self._findings.append(finding)

    def edit(self, root: int, path: Path, value: Any, splices: Sequence[Splice]) -> None:
        """Note splices, and that they make the value at a path of a document what is given."""
        self._splices += splices
        self._wanted[root] = _replaced(self._wanted[root], path, value)

    def finished(self) -> Conversion:
        """Put the splices in, and read the text again: what is not as it was meant is not given out."""
        text, name = self.manifest.text, self.manifest.name
        after, problem = text, ""
        if self._splices:
            try:
                after = spliced(text, self._splices)
                problem = self._differs(after)
            except Fixed as error:
                problem = str(error)
        findings = sorted(self._findings, key=lambda finding: finding.line)
        if problem:
            after, findings = text, [_left(finding, problem) for finding in findings]
        return Conversion(name=name, before=text, after=after, findings=tuple(findings))

    def _differs(self, text: str) -> str:
        try:
            found = (root.data for root in compose(text, self.manifest.name))
            same = all(one == other for one, other in zip_longest(found, self._wanted))
        except WrongManifest as error:
            return f"the result would be no YAML ({error})"
        return "" if same else "the result would not be what was meant"


def shared(root: Node, path: Path) -> str:
    """Say why the text of a node cannot be edited from the document down; empty when it can."""
    for length in range(len(path) + 1):
        node = root.at(*path[:length])
        if node is not None and node.fixed == ALIAS:
            return "its text stands in several places by an alias"
    return ""


def _replaced(data: Any, path: Path, value: Any) -> Any:
    """Give a plain value with another one at a path, the rest shared."""
    if not path:
        return value
    copy: Any = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _replaced(data[path[0]], path[1:], value)
    return copy


def _left(finding: Finding, problem: str) -> Finding:
    if finding.kind != "exact":
        return finding
    return msgspec.structs.replace(finding, left=problem, notes=())
