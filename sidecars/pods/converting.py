"""A manifest converted: each container judged, and what is understood for sure replaced."""

from __future__ import annotations

from sidecars.pods import podedits
from sidecars.pods.drafting import Conversion, Draft, Finding, shared
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

    left  why a container is left alone, by its identity
    """

    def __init__(self, draft: Draft, document: Document, pod: PodSpec, options: Options) -> None:
        self.draft, self.document, self.pod, self.options = draft, document, pod, options
        self.left: dict[int, str] = {}

    def run(self) -> None:
        """Judge the pod's containers, and convert those that are understood."""
        if self.pod.spec.get("os") == {"name": "windows"}:
            return  # none of these images is for Windows
        judged = [(found, verdict) for found in self.pod.containers if (verdict := judge(found.container))]
        exact = [each for each in judged if each[1].kind == "exact" and not self._shared(each[0])]
        try:
            done = self._convert(exact)
        except (Fixed, Unfit):
            done = self._some(exact)
        for found, verdict in judged:
            self.draft.found(self._finding(found, verdict, done))

    def _some(self, exact: list[tuple[Found, Verdict]]) -> Plan | None:
        """Convert those that can be; note of the others why not."""
        exact = [each for each in exact if self._may(*each)]
        try:
            return self._convert(exact)
        except (Fixed, Unfit) as error:
            self.left.update((id(found), str(error)) for found, _ in exact)
            return None

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

    def _convert(self, exact: list[tuple[Found, Verdict]]) -> Plan | None:
        """Note the edits that convert these containers. Raises Fixed or Unfit."""
        if not exact:
            return None
        done = plan(self.pod, exact, self.options)
        splices = podedits.edit(self.draft.manifest.text, self.pod, done)
        path = (*self.document.path, *self.pod.path)
        self.draft.edit(self.document.root, path, podedits.intended(self.pod, done), splices)
        return done

    def _finding(self, found: Found, verdict: Verdict, done: Plan | None) -> Finding:
        notes = next((change.notes for change in done.changes if change.found is found), ()) if done else ()
        left = self.left.get(id(found), "")
        return Finding(line=found.line, container=found.name, verdict=verdict, notes=notes, left=left)
