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


class Edit(msgspec.Struct, frozen=True):
    """What is spliced in for one pod or service, and the value that it makes at a path of a document."""

    root: int
    path: Path
    value: Any
    splices: Sequence[Splice]


class Draft:
    """A manifest while it is converted."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self._found: list[tuple[Finding, Edit | None]] = []

    def found(self, findings: Sequence[Finding], edit: Edit | None) -> None:
        """Note what was found in a pod or service, and the edit that converts what is exact of it."""
        self._found += [(finding, edit) for finding in findings]

    def finished(self) -> Conversion:
        """Put the edits in, and read the text again: what is not as it was meant is not given out."""
        edits = list({id(edit): edit for _, edit in self._found if edit}.values())
        after, sound = self._sound(edits)
        kept = {id(edit) for edit in sound}
        findings = [finding if edit is None or id(edit) in kept else _left(finding) for finding, edit in self._found]
        findings.sort(key=lambda finding: finding.line)
        return Conversion(name=self.manifest.name, before=self.manifest.text, after=after, findings=tuple(findings))

    def _sound(self, edits: list[Edit]) -> tuple[str, list[Edit]]:
        """Put in all edits that can be, halving where they cannot; give the text, and which they are."""
        after = self._written(edits)
        if after is not None:
            return after, edits
        if len(edits) == 1:
            return self.manifest.text, []
        middle = len(edits) // 2
        sound = [*self._sound(edits[:middle])[1], *self._sound(edits[middle:])[1]]
        after = self._written(sound)
        return (self.manifest.text, []) if after is None else (after, sound)

    def _written(self, edits: Sequence[Edit]) -> str | None:
        """The text with these edits in it; None when it does not say what was meant."""
        if not edits:
            return self.manifest.text
        wanted = [root.data for root in self.manifest.roots]
        for edit in edits:
            wanted[edit.root] = _replaced(wanted[edit.root], edit.path, edit.value)
        try:
            text = spliced(self.manifest.text, [splice for edit in edits for splice in edit.splices])
            read = (root.data for root in compose(text, self.manifest.name))
            return text if all(one == other for one, other in zip_longest(read, wanted)) else None
        except (WrongManifest, Fixed):
            return None


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


def _left(finding: Finding) -> Finding:
    if finding.kind != "exact":
        return finding
    return msgspec.structs.replace(finding, left="it is written in a way that no edit keeps", notes=())
