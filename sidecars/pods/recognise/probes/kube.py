"""Looks at objects of Kubernetes, by kubectl."""

from __future__ import annotations

from collections.abc import Callable

from sidecars.pods.recognise.options import Options, parted
from sidecars.pods.recognise.probes.probe import Probe
from sidecars.pods.recognise.scope import Scope, escaped, seconds
from sidecars.pods.statements import Command

_LONG = ("namespace", "for", "timeout", "selector", "output", "field-selector", "context", "kubeconfig")
_KNOWN = "n namespace for timeout l selector ignore-not-found v"
# What has no state of its own: to exist is all that there is to wait for.
_PLAIN = frozenset(
    ("configmap", "configmaps", "cm", "secret", "secrets", "serviceaccount", "serviceaccounts", "sa", "ingress", "ing")
)
_IMAGE = "pod-init-full"
_RIGHTS = "pod-init asks by the service account: for a name the verb is get, with a selector list"


def _kubectl(command: Command, scope: Scope) -> Probe | None:
    options = parted(scope.texts(command)[1:], "nlof", _LONG)
    match options.operands:
        case ["wait", *names] if names:
            return _wait(options, names)
        case ["rollout", "status", *names] if names:
            return _probe(options, names, "", "")
        case ["get", *names] if names:
            return _get(options, names)
    return None


def _wait(options: Options, names: list[str]) -> Probe | None:
    wanted = options.value("for") or ""
    kind, _, value = wanted.partition("=")
    if kind == "condition" and value:
        name = value.partition("=")[0]
        own = name.lower() == "complete" or (name.lower() in ("ready", "available") and value == name)
        return _probe(options, names, "" if own else f"condition={name[:1].upper()}{value[1:]}", "")
    if kind == "delete" and not value:
        return _probe(options, names, "", "", gone=True)
    if kind == "jsonpath":
        path, _, expected = value.partition("=")
        extra = f"jsonpath={path}" + (f"&value={expected}" if expected else "")
        return _probe(options, names, extra, "")
    return _probe(options, names, "", f"--for={wanted}")


def _get(options: Options, names: list[str]) -> Probe | None:
    plain = names[0].partition("/")[0].lower() in _PLAIN
    return _probe(
        options, names, "", "" if plain else "it waits until the object exists, and pod-init until it is ready"
    )


def _probe(options: Options, names: list[str], extra: str, doubt: str, *, gone: bool = False) -> Probe:
    selector = options.value("l", "selector")
    namespace = options.value("n", "namespace")
    more = [
        extra,
        f"selector={escaped(selector, '=,')}" if selector else "",
        f"namespace={namespace}" if namespace else "",
    ]
    query = "&".join(filter(None, more))
    objects = _objects(names, bool(selector))
    if not objects:
        doubt = doubt or "which objects it asks for"
        objects = ["/".join(names)]
    prefix = "not:" if gone else ""
    limit = options.value("timeout")
    return Probe(
        pattern=8,
        found="a wait for an object of Kubernetes by kubectl",
        wrong="to exist is not to be ready, and a Job that has failed is waited for",
        targets=tuple(f"{prefix}k8s:{name}{'?' if query else ''}{query}" for name in objects),
        limit=seconds(limit) if limit else None,
        image=_IMAGE,
        doubt=doubt or ("" if options.only(_KNOWN) else "its options"),
        notes=(_RIGHTS,),
    )


def _objects(names: list[str], selected: bool) -> list[str]:
    """Write what kubectl is given as KIND/NAME."""
    if all("/" in name for name in names):
        return names
    kind, *rest = names
    if selected and not rest:
        return [kind]
    return [f"{kind}/{name}" for name in rest] if rest and not any("/" in name for name in names) else []


LOOKS: dict[str, Callable[[Command, Scope], Probe | None]] = {"kubectl": _kubectl}
