"""What a pod becomes when some of its containers are replaced: ports, volumes, users, and where each stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from sidecars.pods.images import TRAITS, base, is_root
from sidecars.pods.manifests import Found, PodSpec, maps
from sidecars.pods.rewriting import Place, raised, rewritten
from sidecars.pods.verdict import Replacement, Verdict

NATIVE = (1, 29)
# Kinds whose controllers give a pod's init containers to the API server as they are.
_WITH_INIT = {"Pod", "PodTemplate", "CronJob", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet",
              "ReplicationController", "Job", "Rollout"}  # fmt: skip
# Volumes that the kubelet makes for the pod, so that any user may read them, and write where they can be written.
_OPEN = {"emptyDir", "configMap", "projected", "downwardAPI", "secret", "image"}


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written: for which Kubernetes, and the names of the images.

    native  sidecars may become native ones, where the target has these
    """

    target: tuple[int, int]
    registry: str
    tag: str
    native: bool = True

    def image(self, name: str) -> str:
        """The whole name of an image."""
        return f"{self.registry.rstrip('/')}/{name}:{self.tag}" if self.registry else f"{name}:{self.tag}"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of one container: its new values, several for an init container that needs several.

    moved  it goes from the containers to the end of the init containers
    notes  what a person should know, a sentence each
    """

    found: Found
    values: tuple[dict[str, Any], ...]
    moved: bool
    notes: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a pod.

    volumes   to add
    fs_group  to set; None: not
    """

    changes: tuple[Change, ...]
    volumes: tuple[dict[str, Any], ...]
    fs_group: int | None


def plan(pod: PodSpec, exact: Sequence[tuple[Found, Verdict]], options: Options) -> Plan:
    """Plan the pod's conversion. Raises rewriting.Unfit when a container's replacement is not up to it."""
    planned = _Planner(pod, exact, options)
    changes = [planned.change(found, verdict) for found, verdict in exact]
    return Plan(changes=tuple(changes), volumes=tuple(planned.volumes), fs_group=planned.fs_group())


class _Planner:
    def __init__(self, pod: PodSpec, exact: Sequence[tuple[Found, Verdict]], options: Options) -> None:
        self.pod, self.options = pod, options
        self.volumes: list[dict[str, Any]] = []
        self._exact = exact
        replaced = {id(found) for found, _ in exact}
        self._ports = {port for found in pod.containers for port in _ports(found, id(found) in replaced)}
        self._names = {found.name for found in pod.containers}
        self._taken = {str(each.get("name")) for each in pod.volumes}
        self._groups: list[int] = []
        leaving = sum(found.place == "containers" and _sidecar(verdict) for found, verdict in exact)
        self._may_move = leaving < sum(found.place == "containers" for found in pod.containers)

    def change(self, found: Found, verdict: Verdict) -> Change:
        """Plan what becomes of one container."""
        native = found.sidecar or (_sidecar(verdict) and self._native(found))
        notes: list[str] = []
        values = []
        for number, replacement in enumerate(verdict.replacements):
            place = self._place(found, replacement, number, native, notes)
            value = rewritten(found.raw, replacement, place)
            if raised(found.raw, value):
                notes.append(
                    f"its memory limit is {TRAITS[replacement.image].memory}Mi now, which {replacement.image} needs"
                )
            notes += (note for note in replacement.notes if not (place.state and "/state" in note))
            values.append(value)
        moved = native and found.place == "containers"
        notes += self._ports_noted(found, verdict, moved)
        return Change(found=found, values=tuple(values), moved=moved, notes=tuple(dict.fromkeys(notes)))

    def _ports_noted(self, found: Found, verdict: Verdict, moved: bool) -> Iterator[str]:
        names = [each["name"] for each in maps(found.raw.get("ports")) if "name" in each]
        if moved and names:
            yield f"a Service that means its port by the name {names[0]} should give the number, for older clusters"
        if self.pod.spec.get("hostNetwork") is True and _sidecar(verdict):
            yield "the pod has the node's network, and so has the admin door: is its port free there?"

    def fs_group(self) -> int | None:
        """The group that the pod's volumes should belong to, where that is new and changes nothing else."""
        given = self.pod.spec.get("securityContext")
        if not self._groups or (isinstance(given, dict) and "fsGroup" in given):
            return None
        return self._groups[0] if all(_grouped(volume) for volume in self.pod.volumes) else None

    def _native(self, found: Found) -> bool:
        may = self.options.native and self.options.target >= NATIVE and self.pod.kind in _WITH_INIT
        return may and (found.init or (found.place == "containers" and self._may_move))

    def _place(self, found: Found, replacement: Replacement, number: int, native: bool, notes: list[str]) -> Place:
        traits = TRAITS[replacement.image]
        user, root = self._user(found, traits.user, notes)
        grace = self.pod.spec.get("terminationGracePeriodSeconds", 30)
        if not root and self._uses_scratch(found):
            self._groups.append(traits.user)
        return Place(
            image=self.options.image(replacement.image),
            name=self._name(found.name, number),
            native=native,
            ends=found.init and not native,
            port=self._port(traits.port),
            state=self._volume(found, "/state", "state") if traits.state and _keeps_state(found, replacement) else "",
            tmp=self._volume(found, "/tmp", "tmp") if traits.tmp else "",  # noqa: S108  (a mount's path in a pod)
            grace=grace if not native and isinstance(grace, int) else None,
            user=user,
            root=root,
        )

    def _user(self, found: Found, own: int, notes: list[str]) -> tuple[int | None, bool]:
        """The user id to write, if any, and whether it has to stay root."""
        container, pod = (_context(each).get("runAsUser") for each in (found.raw, self.pod.spec))
        effective = container if container is not None else pod
        closed = self._closed(found)
        if closed and (effective == 0 or (effective is None and is_root(found.container.image))):
            notes.append(f"it stays root, for {closed} may be root's alone")
            return (0 if effective is None else None), True
        if closed and effective is None:
            notes.append(f"its user is {own} now, who must be let into {closed}")
        return (own if pod == 0 and not container else None), False

    def _closed(self, found: Found) -> str:
        """A volume of the container's that may let nobody in but root; empty when there is none."""
        volumes = {str(each.get("name")): each for each in self.pod.volumes}
        group = "fsGroup" in _context(self.pod.spec)
        # A volume that is not declared is a claim's of a StatefulSet; elsewhere there is no such pod.
        other: dict[str, Any] = {"persistentVolumeClaim": {}} if self.pod.kind == "StatefulSet" else {"emptyDir": {}}
        for name, _, _ in found.container.mounts:
            volume = volumes.get(name, other)
            if "hostPath" in volume or not (group or _open(volume)):
                return f"the volume {name}"
        return ""

    def _uses_scratch(self, found: Found) -> bool:
        scratch = {str(each.get("name")) for each in self.pod.volumes if "emptyDir" in each}
        return any(name in scratch for name, _, _ in found.container.mounts)

    def _volume(self, found: Found, path: str, suffix: str) -> str:
        """Add a volume for this path of the container; give its name, or nothing when something is mounted there."""
        if any(mount.rstrip("/") == path for _, mount, _ in found.container.mounts):
            return ""
        name = _unique(f"{(found.name or 'sidecar')[: 62 - len(suffix)]}-{suffix}", self._taken)
        self.volumes.append({"name": name, "emptyDir": {"sizeLimit": "16Mi"}})
        return name

    def _name(self, name: str, number: int) -> str:
        return _unique(f"{name[:60]}-{number + 1}", self._names) if number else name

    def _port(self, port: int | None) -> int | None:
        while port is not None and port in self._ports:
            port += 10
        if port is not None:
            self._ports.add(port)
        return port


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    taken.add(found)
    return found


def _sidecar(verdict: Verdict) -> bool:
    return any(replacement.sidecar for replacement in verdict.replacements)


def _keeps_state(found: Found, replacement: Replacement) -> bool:
    """fluentd's configuration says itself where the state is."""
    return replacement.image != "s3-shipper" or not ("FLUENTD_ARGS" in found.container.env or "-c" in replacement.args)


def _ports(found: Found, replaced: bool) -> Iterator[int]:
    """The ports of the pod's address that a container says it has; of ours that of its admin door too."""
    yield from (port for each in maps(found.raw.get("ports")) if isinstance(port := each.get("containerPort"), int))
    traits = TRAITS.get(base(found.container.image))
    if replaced or traits is None or traits.port is None:
        return
    given = [word.rpartition(":")[2] for word in found.container.args if word.startswith("--admin=")]
    yield int(given[-1]) if given and given[-1].isdigit() else traits.port


def _context(raw: Any) -> dict[str, Any]:
    context = raw.get("securityContext")
    return context if isinstance(context, dict) else {}


def _open(volume: dict[str, Any]) -> bool:
    """Whether any user may read a volume, and write to it if that can be written."""
    return any(kind in volume for kind in _OPEN) and not _hidden(volume)


def _hidden(volume: dict[str, Any]) -> bool:
    """Whether a secret's files are for their owner alone."""
    for kind in ("secret", "projected", "configMap", "downwardAPI"):
        given = volume.get(kind)
        mode = given.get("defaultMode", 0o644) if isinstance(given, dict) else 0o644
        if not isinstance(mode, int) or not mode & 0o004:
            return True
    return False


def _grouped(volume: dict[str, Any]) -> bool:
    """Whether fsGroup changes nothing of a volume that could matter: of a claim it may change every file."""
    return "hostPath" in volume or _open(volume)
