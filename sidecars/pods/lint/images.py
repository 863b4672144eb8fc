"""Rules about the name of an image."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sidecars.pods.lint.rule import Complaint, Rule, Subject, at
from sidecars.pods.manifests import Found

_FROZEN = ("k8s.gcr.io/", "gcr.io/google-containers/", "gcr.io/google_containers/")
_BITNAMI = re.compile(r"(?:(?:docker\.io|registry-1\.docker\.io|index\.docker\.io)/)?(bitnami(?:legacy)?)/.+")
# From this one on nslookup is as it was before 1.29, and nc has -z where it is built.
_BUSYBOX: tuple[int, int] = (1, 36)


def _named(subject: Subject) -> Iterator[tuple[Found, str]]:
    """Each container with its image, where the manifest has one; not where something will be put in first."""
    for found in subject.containers:
        image = found.container.image
        if image and not any(sign in image for sign in ("$", "{", "<")):
            yield found, image


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def untagged(subject: Subject) -> Iterator[Complaint]:
    """Complain of images whose content may change under their name."""
    for found, image in _named(subject):
        if "@" in image or _tag(image) not in {"", "latest"}:
            continue
        what = f"is {image}" if _tag(image) else f"is {image}, which means {image}:latest"
        yield at(found, "image"), f"the image of {found.name} {what}: each node may run another version; name one"


def old_busybox(subject: Subject) -> Iterator[Complaint]:
    """Complain of busybox as it was years ago."""
    for found, image in _named(subject):
        name = image.partition("@")[0].rpartition("/")[2]
        version = re.match(r"busybox:(\d+)\.(\d+)", name)
        if version and (int(version[1]), int(version[2])) < _BUSYBOX:
            remedy = "wait with pod-init" if subject.roles[found.name].waits else "take busybox:1.37"
            yield at(found, "image"), f"{found.name} is pinned to {name}, which gets no fixes any more; {remedy}"


def frozen_registry(subject: Subject) -> Iterator[Complaint]:
    """Complain of registries that get nothing new, and will be gone."""
    for found, image in _named(subject):
        for registry in _FROZEN:
            if image.startswith(registry):
                yield (
                    at(found, "image"),
                    f"{found.name} is pulled from {registry.rstrip('/')}, which is frozen since 2023; take "
                    f"{_moved(image.removeprefix(registry))}",
                )


def _moved(image: str) -> str:
    """Where an image of the frozen registry is today."""
    name = image.partition(":")[0]
    # Moved within the registry too, and its tags have three numbers since.
    return "registry.k8s.io/git-sync/git-sync, or git-syncer" if name == "git-sync" else f"registry.k8s.io/{image}"


def bitnami(subject: Subject) -> Iterator[Complaint]:
    """Complain of a catalogue that was closed."""
    for found, image in _named(subject):
        if match := _BITNAMI.fullmatch(image):
            why = "is gone but for latest" if match[1] == "bitnami" else "gets no fixes"
            yield (
                at(found, "image"),
                f"{found.name} is {image}, and {match[1]}/ {why}; take the image that its project publishes",
            )


RULES = (
    Rule(
        id="untagged-image",
        level="warning",
        title="an image without a tag, or `:latest`",
        why="""\
Which version runs is decided by the moment at which a node pulls it: two pods of one Deployment may differ, a restart
may bring a new major version, and there is nothing to roll back to. Name a version, nginx:1.29, or a digest.""",
        check=untagged,
    ),
    Rule(
        id="old-busybox",
        level="warning",
        title="busybox before 1.36, as the `busybox:1.28` of countless examples",
        why="""\
Examples pin busybox:1.28 because the nslookup of 1.29 to 1.35 answers otherwise, with an exit code that loops do not
expect. It is of 2018, and nothing in it was mended since. Where it waits, `pod-init wait tcp://db:5432` needs no
nslookup; elsewhere busybox:1.37 does.""",
        check=old_busybox,
    ),
    Rule(
        id="frozen-registry",
        level="error",
        title="an image of `k8s.gcr.io` or `gcr.io/google-containers`",
        why="""\
k8s.gcr.io gets no images since April 2023 and is to be switched off: what is there now may be gone tomorrow, and
newer versions were never there. The same images are on registry.k8s.io; git-sync moved to
registry.k8s.io/git-sync/git-sync.""",
        check=frozen_registry,
    ),
    Rule(
        id="bitnami-image",
        level="error",
        title="an image of `bitnami/` or `bitnamilegacy/`",
        why="""\
In 2025 the public catalogue was closed: the versioned tags of bitnami/ are gone, and a pod that lands on a new node
cannot pull them; bitnamilegacy/ has them as they were and gets no fixes. Take the image that the project itself
publishes. Where bitnami/kubectl only waits for an object, `pod-init wait k8s:job/NAME` does that.""",
        check=bitnami,
    ),
)
