"""How an object stands: whether what its status says is what is wanted of such an object. Nothing here asks anybody.

A status may be of before the last change; what a controller has not looked at yet (observedGeneration) is not ready.
Sources: the API's types; kubectl's wait and rollout status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from sidecars.init.checks import Result, shown
from sidecars.init.kube import jsonpath
from sidecars.init.kube.kinds import Kind

Object = dict[str, Any]


class Wish(msgspec.Struct, frozen=True):
    """What is wanted: a condition with a status, a value at a path (or any), only that it exists, or the usual."""

    condition: tuple[str, str] | None = None
    path: tuple[jsonpath.Step, ...] | None = None
    shown_path: str = ""
    value: str | None = None
    exists: bool = False


def judged(kind: Kind, found: Object, wish: Wish) -> Result:
    """Compare an object with what is wanted."""
    if wish.path is not None:
        return _valued(found, wish)
    if wish.exists:
        return Result("ok", "exists")
    usual = _USUAL.get((kind.group, kind.resource), _exists)
    if not wish.condition:
        return usual(found)
    if usual is _job and wish.condition[0].lower() not in ("failed", "failuretarget") and (lost := _failed(found)):
        return lost
    return _conditioned(found, *wish.condition)


def _valued(found: Object, wish: Wish) -> Result:
    values = [jsonpath.written(each) for each in jsonpath.find(wish.path or (), found) if each is not None]
    if not values:
        return Result("not-ready", f"has no {wish.shown_path} yet")
    if wish.value is not None and any(each != wish.value for each in values):
        return Result("not-ready", f"{wish.shown_path} is {shown(', '.join(values))}, not {shown(wish.value)}")
    return Result("ok", f"{wish.shown_path} is {shown(', '.join(values))}")


def number(found: Object, *names: str, default: int = 0) -> int:
    """Read a whole number below an object; what is none is the default."""
    value: Any = found
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, int) else default


def word(found: Object, *names: str) -> str:
    """Read a text below an object; what is none is empty."""
    value: Any = found
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def objects(value: Any) -> Iterator[Object]:
    """Go through what are objects in a list; anything else holds none."""
    yield from (each for each in (value if isinstance(value, list) else ()) if isinstance(each, dict))


def condition(found: Object, name: str) -> Object | None:
    """Find a condition by its type, in whichever letters, as kubectl does."""
    status = found.get("status")
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return next((each for each in objects(conditions) if word(each, "type").lower() == name.lower()), None)


def _generation(found: Object) -> int:
    return number(found, "metadata", "generation")


def _stale(found: Object) -> Result | None:
    if number(found, "status", "observedGeneration", default=_generation(found)) < _generation(found):
        return Result("not-ready", "has changed, and its controller has not seen it yet")
    return None


def _said(about: Object) -> str:
    """Give a condition's reason and message: " (MinimumReplicasUnavailable: ...)"."""
    said = ": ".join(filter(None, (word(about, "reason"), word(about, "message"))))
    return f" ({shown(said, 200)[1:-1]})" if said else ""


def _conditioned(found: Object, name: str, wanted: str = "True") -> Result:
    if stale := _stale(found):
        return stale
    about = condition(found, name)
    if about is None:
        return Result("not-ready", f"has no condition {name} yet")
    if number(about, "observedGeneration", default=_generation(found)) < _generation(found):
        return Result("not-ready", f"its condition {name} is from before its last change")
    status = word(about, "status")
    if status.lower() != wanted.lower():
        return Result("not-ready", f"its condition {name} is {shown(status)}{_said(about)}")
    return Result("ok", f"its condition {name} is {wanted}")


def _exists(found: Object) -> Result:
    return Result("ok", "exists")


def _failed(found: Object) -> Result | None:
    """A Job that has failed for good never completes."""
    about = condition(found, "Failed")
    if about is None or word(about, "status") != "True":
        return None
    return Result("impossible", f"has failed{_said(about)}; see the logs of its pods, delete it and run it again")


def _job(found: Object) -> Result:
    if lost := _failed(found):
        return lost
    about = condition(found, "Complete")
    if about and word(about, "status") == "True":
        return Result("ok", "is complete")
    if (held := condition(found, "Suspended")) and word(held, "status") == "True":
        return Result("not-ready", f"is suspended{_said(held)}")
    counts = {name: number(found, "status", name) for name in ("active", "succeeded", "failed")}
    said = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return Result("not-ready", f"is not complete yet: pods {said or 'none'}")


def _pod(found: Object) -> Result:
    phase = word(found, "status", "phase")
    if phase in ("Failed", "Succeeded"):
        status = found.get("status")
        said = _said(status if isinstance(status, dict) else {})
        return Result("not-ready", f"has ended as {phase}{said}, and will not be ready")
    if word(found, "metadata", "deletionTimestamp"):
        return Result("not-ready", "is being deleted")
    result = _conditioned(found, "Ready")
    return result if result.state == "ok" or not phase else Result(result.state, f"is {shown(phase)}: {result.text}")


def _deployment(found: Object) -> Result:
    if stale := _unseen(found):
        return stale
    result = _conditioned(found, "Available")
    about = condition(found, "Progressing")
    if result.state != "ok" and about and word(about, "status") == "False":
        return Result("not-ready", f"does not progress{_said(about)}")
    return result


def _unseen(found: Object) -> Result | None:
    """An object whose controller always writes observedGeneration, and has not yet."""
    if number(found, "status", "observedGeneration") < _generation(found):
        return Result("not-ready", "has changed, and its controller has not seen it yet")
    return None


def _statefulset(found: Object) -> Result:
    wanted = number(found, "spec", "replicas", default=1)
    if stale := _unseen(found):
        return stale
    if (ready := number(found, "status", "readyReplicas")) < wanted:
        return Result("not-ready", f"has {ready} of {wanted} replicas ready")
    rolls = word(found, "spec", "updateStrategy", "type") != "OnDelete"
    due = wanted - number(found, "spec", "updateStrategy", "rollingUpdate", "partition")
    updated = number(found, "status", "updatedReplicas")
    current, update = (word(found, "status", name) for name in ("currentRevision", "updateRevision"))
    if rolls and current != update and updated < due:
        return Result("not-ready", f"has {updated} of {due} replicas updated")
    return Result("ok", f"has {ready} of {wanted} replicas ready")


def _daemonset(found: Object) -> Result:
    if stale := _unseen(found):
        return stale
    wanted = number(found, "status", "desiredNumberScheduled")
    rolls = word(found, "spec", "updateStrategy", "type") != "OnDelete"
    updated, ready = (number(found, "status", name) for name in ("updatedNumberScheduled", "numberAvailable"))
    if rolls and updated < wanted:
        return Result("not-ready", f"has {updated} of {wanted} pods updated")
    return Result("ok" if ready >= wanted else "not-ready", f"has {ready} of {wanted} pods available")


def _replicaset(found: Object) -> Result:
    if stale := _unseen(found):
        return stale
    wanted, ready = number(found, "spec", "replicas", default=1), number(found, "status", "readyReplicas")
    return Result("ok" if ready >= wanted else "not-ready", f"has {ready} of {wanted} replicas ready")


def _phase(wanted: str) -> Callable[[Object], Result]:
    def judge(found: Object) -> Result:
        phase = word(found, "status", "phase")
        return Result("ok", f"is {wanted}") if phase == wanted else Result("not-ready", f"is {shown(phase)}")

    return judge


def _with(name: str) -> Callable[[Object], Result]:
    return lambda found: _conditioned(found, name)


_USUAL: dict[tuple[str, str], Callable[[Object], Result]] = {
    ("batch", "jobs"): _job,
    ("", "pods"): _pod,
    ("apps", "deployments"): _deployment,
    ("apps", "statefulsets"): _statefulset,
    ("apps", "daemonsets"): _daemonset,
    ("apps", "replicasets"): _replicaset,
    ("", "persistentvolumeclaims"): _phase("Bound"),
    ("", "namespaces"): _phase("Active"),
    ("", "nodes"): _with("Ready"),
    ("apiextensions.k8s.io", "customresourcedefinitions"): _with("Established"),
    ("apiregistration.k8s.io", "apiservices"): _with("Available"),
}


def addresses(slice: Object) -> set[str]:
    """Collect the addresses of an EndpointSlice that are ready; ready is true where it is not said."""
    found: set[str] = set()
    for endpoint in objects(slice.get("endpoints")):
        conditions = endpoint.get("conditions")
        if not isinstance(conditions, dict) or conditions.get("ready") is not False:
            listed = endpoint.get("addresses")
            found.update(one for one in (listed if isinstance(listed, list) else ()) if isinstance(one, str))
    return found
