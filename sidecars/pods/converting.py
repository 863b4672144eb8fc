"""A manifest converted: each container judged, what is understood for sure replaced, and the result read once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from sidecars.pods import podedits
from sidecars.pods.known import known
from sidecars.pods.manifests import Document, Found, Manifest, Path, PodSpec, read
from sidecars.pods.nodes import Node, WrongManifest, compose
from sidecars.pods.planning import Options, Plan, plan
from sidecars.pods.recognise import recognise
from sidecars.pods.rewriting import Unfit
from sidecars.pods.splicing import Edits, Fixed, Splice, spliced
from sidecars.pods.verdict import Container, Verdict

__all__ = ["Conversion", "Finding", "Options", "convert"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in one container.

    line  of the container in the text that was read, from 1
    left  why an exact one was left alone all the same, half a sentence; empty: it was not
    """

    line: int
    container: str
    verdict: Verdict
    notes: tuple[str, ...] = ()
    left: str = ""

    @property
    def kind(self) -> str:
        """The verdict's; what could not be put in is a person's to finish."""
        return "partial" if self.left else self.verdict.kind


class Conversion(msgspec.Struct, frozen=True, kw_only=True):
    """A text after its conversion, and what was found in it, in the order of the text."""

    name: str
    before: str
    after: str
    findings: tuple[Finding, ...]


def judge(container: Container) -> Verdict | None:
    """Say what is known of a container: by its image, else by what it runs."""
    return known(container) or recognise(container)


def convert(text: str, name: str, options: Options) -> Conversion:
    """Convert the manifests of one file. The name is the file's, for messages.

    Raises WrongManifest when it cannot be read.
    """
    manifest = read(text, name, options.target)
    if not manifest.documents:
        from sidecars.pods.compose import convert_compose  # few files are

        return convert_compose(manifest, options)
    conversion = _Conversion(manifest, options)
    for document in manifest.documents:
        for pod in document.pods:
            conversion.pod(document, pod)
    return conversion.result()


class _Conversion:
    """A manifest on its way: the splices so far, and what each document is to be."""

    def __init__(self, manifest: Manifest, options: Options) -> None:
        self.manifest, self.options = manifest, options
        self._wanted: list[Any] = [root.data for root in manifest.roots]
        self._splices: list[Splice] = []
        self._findings: list[Finding] = []

    def pod(self, document: Document, pod: PodSpec) -> None:
        """Judge the pod's containers, and convert it."""
        judged = [(found, verdict) for found in pod.containers if (verdict := judge(found.container))]
        if pod.spec.get("os") == {"name": "windows"}:
            return
        left: dict[int, str] = {}
        root = self.manifest.roots[document.root]
        exact = [(found, verdict) for found, verdict in judged if verdict.kind == "exact"]
        path = (*document.path, *pod.path)
        chosen, done = self._settled(root, path, pod, exact, left)
        self._findings += [_finding(found, verdict, done, left) for found, verdict in judged]
        if done is not None and chosen:
            self._wanted[document.root] = replaced(self._wanted[document.root], path, podedits.intended(pod, done))

    def _settled(
        self, root: Node, path: Path, pod: PodSpec, exact: Sequence[tuple[Found, Verdict]], left: dict[int, str]
    ) -> tuple[Sequence[tuple[Found, Verdict]], Plan | None]:
        """Plan and edit the pod with all containers that can be; say of the others why not."""
        exact = [each for each in exact if not _refused(root, path, pod, each, self, left)]
        if not exact:
            return exact, None
        try:
            done = plan(pod, exact, self.options)
            self._splices += podedits.edit(self.manifest.text, pod, done)
        except (Fixed, Unfit) as error:
            left.update({id(found): str(error) for found, _ in exact})
            return [], None
        return exact, done

    def tried(self, pod: PodSpec, each: tuple[Found, Verdict]) -> None:
        """Convert one container for nothing. Raises Unfit, or Fixed."""
        change = plan(pod, [each], self.options).changes[0]
        for value in change.values[:1]:
            Edits(self.manifest.text).become(change.found.node, value)

    def result(self) -> Conversion:
        """Put the splices in, and read the text again: what is not as it was meant is not given out."""
        text = self.manifest.text
        findings = tuple(sorted(self._findings, key=lambda finding: finding.line))
        problem = ""
        try:
            after = spliced(text, self._splices)
            problem = differs(after, self._wanted, self.manifest.name) if self._splices else ""
        except Fixed as error:
            problem = str(error)
        if problem:
            findings = tuple(
                msgspec.structs.replace(finding, left=problem, notes=()) if finding.kind == "exact" else finding
                for finding in findings
            )
            after = text
        return Conversion(name=self.manifest.name, before=text, after=after, findings=findings)


def differs(text: str, wanted: Sequence[Any], name: str) -> str:
    """Say how a text that was written differs from what it was to be; empty when it does not."""
    try:
        found = [root.data for root in compose(text, name)]
    except WrongManifest as error:
        return f"the result would be no YAML ({error})"
    return "" if found == list(wanted) else "the result would not be what was meant"


def replaced(data: Any, path: Path, value: Any) -> Any:
    """Give a plain value with another one at a path, the rest shared."""
    if not path:
        return value
    step, *rest = path
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[step] = replaced(data[step], tuple(rest), value)
    return copy


def shared(root: Node, path: Path) -> str:
    """Say what stands between the document and a node that an edit cannot go through; empty when nothing does."""
    for length in range(len(path) + 1):
        node = root.at(*path[:length])
        if node is not None and node.fixed == "an alias":
            return "its text stands in several places by an alias"
    return ""


def _refused(
    root: Node, path: Path, pod: PodSpec, each: tuple[Found, Verdict], conversion: _Conversion, left: dict[int, str]
) -> bool:
    """Whether one container cannot be converted; it is noted why."""
    found = each[0]
    reason = shared(root, (*path, *found.path[len(pod.path) :]))
    if not reason:
        try:
            conversion.tried(pod, each)
        except (Fixed, Unfit) as error:
            reason = str(error)
    if reason:
        left[id(found)] = reason
    return bool(reason)


def _finding(found: Found, verdict: Verdict, done: Plan | None, left: dict[int, str]) -> Finding:
    changes = done.changes if done else ()
    notes: tuple[str, ...] = next((change.notes for change in changes if change.found is found), ())
    return Finding(line=found.line, container=found.name, verdict=verdict, notes=notes, left=left.get(id(found), ""))


Judge = Callable[[Container], Verdict | None]
