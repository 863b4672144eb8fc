"""Rules about volumes, and about who mounts them where."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecars.pods.lint.rule import Complaint, Rule, Subject, at, mapping, maps
from sidecars.pods.lint.words import command_lines
from sidecars.pods.manifests import Found
from sidecars.pods.nodes import Node

# Since when kubelet refuses gitRepo unless a gate is opened.
_NO_GIT_REPO = (1, 33)
_RELOADERS = ("reload", "k8s-sidecar", "config-watcher")
_WATCHING = ("inotifywait", "inotifyd", "--watch", "--watch-config", "--web.enable-lifecycle", "--config.watch")


def _volumes(subject: Subject, kind: str) -> Iterator[tuple[Node, dict[str, Any]]]:
    """Each volume of a kind, with its node."""
    for number, volume in enumerate(subject.pod.volumes):
        if kind in volume:
            yield subject.pod.node.at("volumes", number) or subject.pod.node, volume


def _mounts(found: Found) -> Iterator[tuple[Node, dict[str, Any]]]:
    for number, mount in enumerate(maps(found.raw.get("volumeMounts"))):
        yield at(found, "volumeMounts", number), mount


def git_repo(subject: Subject) -> Iterator[Complaint]:
    """Complain of gitRepo volumes."""
    refused = "kubelet refuses it" if subject.target >= _NO_GIT_REPO else "from 1.33 on kubelet refuses it"
    for node, volume in _volumes(subject, "gitRepo"):
        yield node, f"volume {volume.get('name')} is a gitRepo, and {refused}; take an emptyDir and git-syncer"


def unbounded(subject: Subject) -> Iterator[Complaint]:
    """Complain of emptyDir volumes that may fill a node."""
    for node, volume in _volumes(subject, "emptyDir"):
        volume_ = mapping(volume["emptyDir"])
        if "sizeLimit" not in volume_:
            fills = "the node's memory" if volume_.get("medium") == "Memory" else "the node's disk"
            yield (
                node.at("emptyDir") or node,
                f"volume {volume.get('name')} has no bound and may fill {fills}; give its emptyDir a sizeLimit",
            )


def unknown(subject: Subject) -> Iterator[Complaint]:
    """Complain of mounts of volumes that the pod has not."""
    spec = mapping(subject.document.data.get("spec"))
    strays = {str(each.get("name")) for each in maps(spec.get("volumes"))} if spec is not subject.pod.spec else set()
    for found in subject.containers:
        for node, mount in _mounts(found):
            name = str(mount.get("name"))
            if subject.volume(name) is None:
                move = "move it from spec.volumes to the pod's" if name in strays else "add it to the pod's volumes"
                yield node, f"{found.name} mounts volume {name}, which the pod has not: it cannot start; {move}"


def unread(subject: Subject) -> Iterator[Complaint]:
    """Complain of files that are followed where nobody else can write them."""
    for found in subject.containers:
        for path in subject.roles[found.name].reads:
            mount = _mount(found, path)
            if mount is None:
                yield (
                    found.node,
                    f"{found.name} reads {path}, where no volume is mounted: it sees its own image's files; "
                    "mount the volume that the application writes to",
                )
            elif _is_alone(subject, found, mount):
                yield (
                    found.node,
                    f"{found.name} reads {path} on volume {mount['name']}, which no other container of the pod mounts "
                    "at the same subPath; mount it where the file is written",
                )


def _mount(found: Found, path: str) -> dict[str, Any] | None:
    mounts = [mount for _, mount in _mounts(found) if _covers(str(mount.get("mountPath") or ""), path)]
    return max(mounts, key=lambda mount: len(str(mount["mountPath"])), default=None)


def _covers(directory: str, path: str) -> bool:
    directory = directory.rstrip("/")
    return path == directory or path.startswith(f"{directory}/")


def _is_alone(subject: Subject, found: Found, mount: dict[str, Any]) -> bool:
    """Whether nobody else has what is mounted there: only an emptyDir is the pod's alone."""
    volume = subject.volume(str(mount.get("name")))
    if not volume or "emptyDir" not in volume:
        return False
    ours = str(mount.get("subPath") or "")
    for other in subject.containers:
        for _, each in _mounts(other):
            theirs = str(each.get("subPath") or "")
            nested = not ours or not theirs or _covers(theirs, ours) or _covers(ours, theirs)
            if other is not found and each.get("name") == mount.get("name") and nested:
                return False
    return True


def writable(subject: Subject) -> Iterator[Complaint]:
    """Complain of mounts that may be written to by a container that only reads."""
    for found in subject.containers:
        for node, mount in _mounts(found):
            path = str(mount.get("mountPath") or "")
            if path in subject.roles[found.name].only and mount.get("readOnly") is not True:
                yield (
                    node,
                    f"{found.name} only reads from {path} and may write to it; add `readOnly: true` to the mount",
                )


def never_updated(subject: Subject) -> Iterator[Complaint]:
    """Complain of subPath mounts of configuration in pods that expect it to change."""
    watcher = next((found for found in subject.containers if _watches(found, subject)), None)
    if watcher is None:
        return
    for found in subject.containers:
        for node, mount in _mounts(found):
            volume = subject.volume(str(mount.get("name"))) or {}
            if ("subPath" in mount or "subPathExpr" in mount) and volume.keys() & {"configMap", "secret", "projected"}:
                yield (
                    node,
                    f"{found.name} mounts {mount.get('mountPath')} by subPath, which never changes after the start, "
                    f"and {watcher.name} waits for changes; mount the whole directory",
                )


def _watches(found: Found, subject: Subject) -> bool:
    image = found.container.image.rpartition("/")[2]
    if any(word in image for word in _RELOADERS):
        return True
    lines = command_lines((*found.container.command, *found.container.args))
    return any(word.partition("=")[0] in _WATCHING for line in lines for word in line)


RULES = (
    Rule(
        id="unknown-volume",
        level="error",
        title="a mount of a volume that the pod has not",
        why="""\
The API server refuses the pod, or a Deployment whose pods it refuses never gets one. Often the volumes stand one
level too high: in spec.volumes of a Deployment nothing reads them, they belong in spec.template.spec.volumes.""",
        check=unknown,
    ),
    Rule(
        id="git-repo-volume",
        level="error",
        title="a `gitRepo` volume",
        why="""\
Whoever may create a pod could run commands as root on the node through a repository's hooks, so kubelet refuses
gitRepo since 1.33, and it will be removed. It also never fetched again. Take an emptyDir and git-syncer, as an init
container with --one-time or as a sidecar that keeps it up to date.""",
        check=git_repo,
    ),
    Rule(
        id="unbounded-empty-dir",
        level="warning",
        title="an emptyDir without `sizeLimit`",
        why="""\
A log that nobody rotates fills the node's disk, and kubelet then evicts pods, others too. With a sizeLimit this pod
is evicted, alone and with a reason. With `medium: Memory` what is written counts as memory of the container that
wrote it.""",
        check=unbounded,
    ),
    Rule(
        id="unshared-log",
        level="error",
        title="a sidecar reads a file where no other container can have written it",
        why="""\
Containers of a pod share volumes, and nothing else of their file systems. A reader without a mount there, with a
volume that only itself mounts, or with another subPath, waits for a file that never comes; `tail -f` even ends. Known
only for our images and for loops that `sidecars convert` recognises.""",
        check=unread,
    ),
    Rule(
        id="writable-log-mount",
        level="warning",
        title="a sidecar that only reads mounts the volume writable",
        why="""\
Whoever breaks into the sidecar can then change the application's files. A mount with `readOnly: true` costs nothing.
A sidecar that removes rotated files (--remove-rotated-after) does write, and is left alone.""",
        check=writable,
    ),
    Rule(
        id="sub-path-never-updates",
        level="error",
        title="a ConfigMap or Secret mounted by `subPath` in a pod that waits for its changes",
        why="""\
kubelet changes a mounted ConfigMap by swapping the link ..data in its directory. A subPath is bound to the file that
was there when the container started, and keeps it. Mount the directory, and let the program read the file in it.""",
        check=never_updated,
    ),
)
