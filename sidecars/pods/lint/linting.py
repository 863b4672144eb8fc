"""The rules held against every pod of the files that are read together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from sidecars.pods.lint.rule import Level, Rule, Service, Subject, Version
from sidecars.pods.manifests import Document, Manifest, PodSpec


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong.

    file, line, column  of what the message is about; both from 1
    rule, level         the rule's id, and error or warning
    object              whose pod it is: Deployment/web
    message             one line: what, where, what to do
    """

    file: str
    line: int
    column: int
    rule: str
    level: Level
    object: str
    message: str


def findings(manifests: Sequence[Manifest], rules: Iterable[Rule], target: Version) -> list[Finding]:
    """Hold rules against each pod; what is found comes in the order of the files and their lines.

    The Services of one file are known in all others. target is the Kubernetes version that the files are for.
    """
    documents = [(manifest, document) for manifest in manifests for document in manifest.documents]
    services = [found for _, document in documents if (found := Service.of(document))]
    pods = [(document, pod) for _, document in documents for pod in document.pods]
    chosen = list(rules)
    return [
        finding
        for manifest in manifests
        for finding in sorted(_of(manifest, services, pods, chosen, target), key=lambda each: (each.line, each.column))
    ]


def _of(
    manifest: Manifest,
    services: Sequence[Service],
    pods: Sequence[tuple[Document, PodSpec]],
    rules: Sequence[Rule],
    target: Version,
) -> Iterator[Finding]:
    for document in manifest.documents:
        for pod in document.pods:
            subject = Subject(document, pod, services, pods, target)
            for rule in rules:
                for node, message in rule.check(subject):
                    yield Finding(
                        file=manifest.name,
                        line=node.line,
                        column=node.column + 1,
                        rule=rule.id,
                        level=rule.level,
                        object=f"{document.kind}/{document.name}",
                        message=" ".join(message.split()),
                    )
