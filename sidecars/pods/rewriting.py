"""A container's plain value turned into that of the image in its place: what it keeps, loses and gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from sidecars.pods.images import PRIVILEGES, RESTRICTED, TRAITS, mebibytes
from sidecars.pods.manifests import maps
from sidecars.pods.verdict import Replacement

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")


class Unfit(Exception):  # noqa: N818
    """The replacement cannot do what the container does; the message says what, in half a sentence."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What the pod around it says of one container.

    image    the whole name that is written, as `sidecars/pod-init:0.1.0`
    name     the container's
    native   it becomes an init container with restartPolicy: Always
    ends     it is an init container that ends, which may have no probes
    port     of its admin door, another than the image's own where that is taken
    state    the volume for /state, tmp that for /tmp; empty: none
    grace    the pod's grace period; None: it is native, and the application ends first
    user     the user id to write; None: the image's or the pod's is right
    root     it stays root: its volumes may be root's alone
    """

    image: str
    name: str
    native: bool = False
    ends: bool = False
    port: int | None = None
    state: str = ""
    tmp: str = ""
    grace: int | None = None
    user: int | None = None
    root: bool = False


def rewritten(raw: Mapping[str, Any], replacement: Replacement, place: Place) -> dict[str, Any]:
    """The container's new value, its keys in the order in which they are to stand. Raises Unfit."""
    if "image" not in raw:
        raise Unfit("it has no image here, as a patch of another manifest has none")
    if _hooks(raw) and replacement.image != "git-syncer":
        raise Unfit("its lifecycle hook runs a program that the image does not have")
    new = {key: value for key, value in raw.items() if key not in {"args", "command", "restartPolicy"}}
    new = _behind(new, "image", _words(raw, replacement, place), _place_of_words(raw))
    new["image"] = place.image
    new["name"] = place.name
    _set(new, "env", _variables(raw, replacement))
    _set(new, "volumeMounts", _mounts(raw, replacement, place))
    new = _secured(new, raw, place)
    new = _limited(new, replacement.image)
    return _probed(new, replacement.image, place)


def _words(raw: Mapping[str, Any], replacement: Replacement, place: Place) -> dict[str, Any]:
    traits = TRAITS[replacement.image]
    args = list(replacement.args)
    if traits.port is not None and place.port not in {None, traits.port}:
        args.append(f"--admin=:{place.port}")
    if traits.drains and place.grace is not None and place.grace >= 15:
        args += [f"--quiet={min(20, place.grace - 10)}s", f"--grace={place.grace - 3}s"]
    words: dict[str, Any] = {"restartPolicy": "Always"} if place.native else {}
    if args:
        words["args"] = args
    return words


def _place_of_words(raw: Mapping[str, Any]) -> str:
    """The key behind which args come: where they or the command were, else behind the image."""
    keys = list(raw)
    first = next((at for at, key in enumerate(keys) if key in {"command", "args"}), 0)
    return next((key for key in reversed(keys[:first]) if key not in {"command", "args", "restartPolicy"}), "image")


def _behind(new: dict[str, Any], image: str, words: dict[str, Any], before: str) -> dict[str, Any]:
    """Put restartPolicy behind the image, and args behind the key that they followed."""
    made: dict[str, Any] = {}
    for key, value in new.items():
        made[key] = value
        if key == image and "restartPolicy" in words:
            made["restartPolicy"] = words["restartPolicy"]
        if key == before and "args" in words:
            made["args"] = words["args"]
    return made


def _set(new: dict[str, Any], key: str, value: list[Any]) -> None:
    if value:
        new[key] = value
    else:
        new.pop(key, None)


def _variables(raw: Mapping[str, Any], replacement: Replacement) -> list[Any]:
    kept = [each for each in maps(raw.get("env")) if each.get("name") not in {*replacement.drop_env, *replacement.env}]
    return kept + [{"name": name, "value": value} for name, value in replacement.env.items()]


def _mounts(raw: Mapping[str, Any], replacement: Replacement, place: Place) -> list[Any]:
    mounts = [
        {**each, "readOnly": True} if each.get("mountPath") in replacement.read_only else each
        for each in maps(raw.get("volumeMounts"))
    ]
    if place.state:
        mounts.append({"name": place.state, "mountPath": "/state"})
    if place.tmp:
        mounts.append({"name": place.tmp, "mountPath": "/tmp"})  # noqa: S108  (a mount's path in a pod)
    return mounts


def _secured(new: dict[str, Any], raw: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """The security context: restricted, or root's with no more privileges than it had."""
    given = raw.get("securityContext")
    given = dict(given) if isinstance(given, dict) else {}
    if place.root:
        wanted = {**given, "runAsUser": place.user} if place.user is not None else given
        wanted = {**wanted, "readOnlyRootFilesystem": True}
        if not given.get("privileged"):
            wanted["allowPrivilegeEscalation"] = False
    else:
        kept = {key: value for key, value in given.items() if key not in PRIVILEGES and not _root(key, value)}
        user = {"runAsUser": place.user} if place.user is not None and "runAsUser" not in kept else {}
        wanted = {
            **kept,
            **user,
            **{key: given.get(key) if given.get(key) == value else value for key, value in RESTRICTED.items()},
        }
    return _inserted(new, "securityContext", wanted, ("volumeMounts", "volumeDevices"))


def _root(key: str, value: Any) -> bool:
    """Whether a key of the security context makes it root, or is of no use where it is not."""
    return (key in {"runAsUser", "runAsGroup"} and value == 0) or key == "procMount"


def _limited(new: dict[str, Any], image: str) -> dict[str, Any]:
    """A limit that busybox had room in is raised to what the image needs: the kernel would kill it."""
    resources = new.get("resources")
    limits = resources.get("limits") if isinstance(resources, dict) else None
    limit = mebibytes(limits.get("memory")) if isinstance(limits, dict) and "memory" in limits else None
    needed = TRAITS[image].memory
    if limit is None or limit >= needed or not isinstance(resources, dict) or not isinstance(limits, dict):
        return new
    return {**new, "resources": {**resources, "limits": {**limits, "memory": f"{needed}Mi"}}}


def raised(raw: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether the memory limit was raised."""
    return "resources" in raw and raw["resources"] != new.get("resources")


def _probed(new: dict[str, Any], image: str, place: Place) -> dict[str, Any]:
    """Probes of its admin door; those that ran a program in the container go, for the image has no such program."""
    new = {key: value for key, value in new.items() if key not in PROBES or not _runs(value)}
    traits = TRAITS[image]
    if traits.port is None or place.ends:
        return {key: value for key, value in new.items() if key not in PROBES}
    port = place.port or traits.port
    probes = {
        "startupProbe": {
            "httpGet": {"path": "/startupz", "port": port},
            "periodSeconds": 1,
            "failureThreshold": traits.tries,
        },
        "livenessProbe": {"httpGet": {"path": "/livez", "port": port}, "timeoutSeconds": 3},
    }
    for name, probe in probes.items():
        if name not in new:
            new = _inserted(new, name, probe, ("livenessProbe", "readinessProbe", "resources", "securityContext"))
    return new


def _runs(probe: Any) -> bool:
    return isinstance(probe, dict) and "exec" in probe


def _hooks(raw: Mapping[str, Any]) -> bool:
    lifecycle = raw.get("lifecycle")
    return isinstance(lifecycle, dict) and any(_runs(hook) for hook in lifecycle.values())


def _inserted(new: dict[str, Any], key: str, value: Any, before: tuple[str, ...]) -> dict[str, Any]:
    """Give the map with one more key, which stands before the first of these, or last; or with another value of it."""
    if key in new:
        return {**new, key: value}
    return dict(_with(new, key, value, next((each for each in new if each in before), None)))


def _with(new: dict[str, Any], key: str, value: Any, before: str | None) -> Iterator[tuple[str, Any]]:
    for name, each in new.items():
        if name == before:
            yield key, value
        yield name, each
    if before is None:
        yield key, value
