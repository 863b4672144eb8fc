"""A manifest converted: each container judged, and what is understood for sure replaced."""

from __future__ import annotations

import msgspec

from sidecars.pods import podedits
from sidecars.pods.drafting import Conversion, Draft, Edit, Finding, shared
from sidecars.pods.editing import Edits
from sidecars.pods.known import known
from sidecars.pods.manifests import Document, Found, PodSpec, read
from sidecars.pods.planning import Options, Plan, plan
from sidecars.pods.recognise import recognise
from sidecars.pods.rewriting import Unfit
from sidecars.pods.splicing import Fixed
from sidecars.pods.verdict import Container, Verdict

MARK = "\ufeff"
"""The byte order mark, which some editors begin a file with."""


def judge(container: Container) -> Verdict | None:
    """Say what is known of a container: by its image, else by what it runs."""
    return known(container) or recognise(container)


def convert(text: str, name: str, options: Options) -> Conversion:
    """Convert the manifests of one file, or its compose services. The name is the file's, for messages.

    Raises WrongManifest when it cannot be read.
    """
    if text.startswith(MARK):
        done = convert(text[1:], name, options)
        return Conversion(name=name, before=text, after=MARK + done.after, findings=done.findings)
    draft = Draft(read(text, name, options.target))
    for document in draft.manifest.documents:
        for pod in document.pods:
            _PodConverter(draft, document, pod, options).run()
    if not draft.manifest.documents:
        from sidecars.pods.compose import convert_services  # few files are of compose

        convert_services(draft, options)
    return draft.finished()


class _PodConverter:
    """One pod of a manifest.

    left     why a container is left alone, by its identity
    unmoved  why no container could be moved to the init containers; empty when none had to, or all could
    """

    def __init__(self, draft: Draft, document: Document, pod: PodSpec, options: Options) -> None:
        self.draft, self.document, self.pod, self.options = draft, document, pod, options
        self.left: dict[int, str] = {}
        self.unmoved = ""

    def run(self) -> None:
        """Judge the pod's containers, and convert those that are understood."""
        if self.pod.spec.get("os") == {"name": "windows"}:
            return  # none of these images is for Windows
        judged = [(found, verdict) for found in self.pod.containers if (verdict := judge(found.container))]
        exact = [each for each in judged if each[1].kind == "exact" and not self._shared(each[0])]
        done, edit = self._settled(exact)
        self.draft.found([self._finding(found, verdict, done) for found, verdict in judged], edit)

    def _settled(self, exact: list[tuple[Found, Verdict]]) -> tuple[Plan | None, Edit | None]:
        """Convert all that can be, in their places where none can be moved; note why of the others."""
        try:
            return self._convert(exact, self.options)
        except (Fixed, Unfit):
            exact = [each for each in exact if self._may(*each)]
        for options in (self.options, msgspec.structs.replace(self.options, native=False)):
            try:
                return self._convert(exact, options)
            except (Fixed, Unfit) as error:
                self.unmoved = str(error)
        self.left.update((id(found), self.unmoved) for found, _ in exact)
        return None, None

    def _shared(self, found: Found) -> bool:
        reason = shared(self.draft.manifest.roots[self.document.root], (*self.document.path, *found.path))
        if reason:
            self.left[id(found)] = reason
        return bool(reason)

    def _may(self, found: Found, verdict: Verdict) -> bool:
        """Try one container alone; note why it cannot be converted."""
        try:
            value = plan(self.pod, [(found, verdict)], self.options).changes[0].values[0]
            Edits(self.draft.manifest.text).become(found.node, value)
        except (Fixed, Unfit) as error:
            self.left[id(found)] = str(error)
            return False
        return True

    def _convert(self, exact: list[tuple[Found, Verdict]], options: Options) -> tuple[Plan | None, Edit | None]:
        """Plan and edit the pod with these containers. Raises Fixed or Unfit."""
        if not exact:
            return None, None
        done = plan(self.pod, exact, options)
        splices = podedits.edit(self.draft.manifest.text, self.pod, done)
        path = (*self.document.path, *self.pod.path)
        return done, Edit(self.document.root, path, podedits.intended(self.pod, done), splices)

    def _finding(self, found: Found, verdict: Verdict, done: Plan | None) -> Finding:
        notes = next((change.notes for change in done.changes if change.found is found), ()) if done else ()
        if self.unmoved and any(each.sidecar for each in verdict.replacements):
            notes = (*notes, f"it stays a second container, for it could not be moved: {self.unmoved}")
        left = self.left.get(id(found), "")
        return Finding(line=found.line, container=found.name, verdict=verdict, notes=() if left else notes, left=left)
