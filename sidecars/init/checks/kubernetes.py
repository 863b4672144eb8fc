"""k8s:KIND/NAME and k8s:KIND?selector=...: objects of the Kubernetes API are as wanted, or with `not:` gone.

The account needs the verb get, with a selector list, for the kind that is named; of a Service, list for EndpointSlices.
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sidecars.core.errors import WrongSettings
from sidecars.core.values import nearest
from sidecars.init.checks import Result, State, Unmet, explained, late, shown
from sidecars.init.kube import jsonpath, kinds
from sidecars.init.kube.client import ACCOUNT, Account, Answer, Client, pages
from sidecars.init.kube.kinds import Kind, Word
from sidecars.init.kube.standing import Wish, addresses, judged, objects, word

if TYPE_CHECKING:
    from sidecars.init.target import Target

_GRACE = 30.0  # seconds: a RoleBinding may be made after the pod
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:-]{0,251}[A-Za-z0-9])?")
_SERVICES = ("", "services")
_SLICES = Kind("endpointslices", "discovery.k8s.io", "v1")
_USER = re.compile(r'User "([^"]{1,300})"')


def validate(target: Target) -> None:
    """Read the options once; WrongSettings."""
    options = target.options
    asked, name = _asked(target)
    if kinds.known(asked) is None and asked.group is None:
        raise WrongSettings(
            f"{target.text} names the kind {asked.name!r}, which is not built in; "
            f"write one of a CRD as {asked.name}.GROUP/NAME; {nearest(asked.name, kinds.BUILT_IN)}"
        )
    if bool(name) is ("selector" in options):
        raise WrongSettings(f"{target.text} is to have either a name, k8s:KIND/NAME, or k8s:KIND?selector=LABEL=VALUE")
    if name and not _NAME.fullmatch(name):
        raise WrongSettings(f"{target.text} has the name {name!r}, which no object can have")
    if options.get("namespace", "x") and not _NAME.fullmatch(options.get("namespace", "x")):
        raise target.wrong("namespace", "a name")
    if "jsonpath" in options and "condition" in options:
        raise WrongSettings(f"{target.text} has both a condition and a jsonpath; keep one, or write two targets")
    if "value" in options and "jsonpath" not in options:
        raise WrongSettings(f"{target.text} has a value without the jsonpath={{.PATH}} where it is to be")
    target.number("count", 1, least=1)
    target.seconds("grace")
    _wish(target)


def _asked(target: Target) -> tuple[Word, str]:
    kind, _, name = target.path.strip("/").partition("/")
    return kinds.read(kind), name


def _wish(target: Target) -> Wish:
    """Read what is wanted. Of what shall not be, without a word more, that is its existence."""
    options = target.options
    if "jsonpath" in options:
        try:
            path = jsonpath.parse(options["jsonpath"])
        except ValueError as error:
            raise target.wrong("jsonpath", f"a path such as {{.status.phase}}; {error}") from None
        return Wish(path=path, shown_path=options["jsonpath"].strip("{}"), value=options.get("value"))
    if "condition" in options:
        name, equals, status = options["condition"].partition("=")
        if not name or (equals and not status):
            raise target.wrong("condition", "a name such as Ready, or Ready=False")
        return Wish(condition=(name, status or "True"))
    return Wish(exists=target.negated)


async def check(target: Target, patience: float) -> Result:
    """Ask for the object once. What failed in asking proves nothing of the object, also not that it is gone."""
    late.set(None)
    try:
        return await _look(target, patience)
    except Unmet as unmet:
        return _failed(target, unmet.result)
    except TimeoutError:
        raise
    except (OSError, EOFError) as error:
        return _failed(target, explained(error))
    except asyncio.CancelledError:
        meaning = late.get()
        found = meaning() if meaning else Result("error", f"does not answer within {round(patience, 2):g} s")
        late.set(lambda: _failed(target, found))
        raise


def _failed(target: Target, result: Result) -> Result:
    state = "error" if target.negated and result.state != "impossible" else result.state
    return Result(state, f"the API server: {result.text}", result.again)


async def _look(target: Target, patience: float) -> Result:
    account = Account(target.options.get("account", ACCOUNT))
    client = Client(target, account, patience)
    namespace = target.options.get("namespace") or account.namespace()
    asked, name = _asked(target)
    kind = kinds.known(asked) or await _discovered(target, client, asked)
    if isinstance(kind, Result):
        return kind
    wish = _wish(target)
    if not name:
        return await _several(target, client, kind, namespace, wish)
    if (kind.group, kind.resource) == _SERVICES and wish == Wish():
        return await _service(target, client, namespace, name)
    answer = await client.get(f"{kind.path(namespace)}/{quote(name, safe='')}")
    if answer.status == 404:
        _heard(target)
        return Result("not-ready", _missing(kind, namespace, answer))
    _accepted(target, answer, "get", kind, namespace)
    return _judged(target, kind, answer.document, wish)


def _missing(kind: Kind, namespace: str, answer: Answer) -> str:
    # A path that is none is answered by another text, or without a name.
    details = answer.document.get("details")
    if not isinstance(details, dict) or not details.get("name"):
        return f"does not exist: the API has no {kind.resource} in {kind.group or 'its core'}/{kind.version}"
    return f"does not exist{f' in the namespace {namespace}' if kind.namespaced else ''}"


async def _discovered(target: Target, client: Client, asked: Word) -> Kind | Result:
    """Ask the API where it has a kind that is not built in; once known it is remembered."""
    if isinstance(kept := target.memory.get("kind"), Kind):
        return kept
    version = asked.version
    if not version:
        answer = await client.get(f"/apis/{quote(asked.group or '', safe='')}")
        if answer.status == 404:
            return Result("not-ready", f"does not exist: the API has no group {asked.group}; is its CRD installed?")
        _accepted(target, answer, "get", Kind("", asked.group or "", ""), "")
        version = kinds.preferred(answer.document)
    answer = await client.get(f"/apis/{quote(asked.group or '', safe='')}/{version}")
    if answer.status != 404:
        _accepted(target, answer, "get", Kind("", asked.group or "", version), "")
    kind = kinds.discovered(answer.document, asked, version)
    if kind is None:
        where = f"{asked.group}/{version}"
        return Result("not-ready", f"does not exist: {where} has no {asked.name}; is its CRD installed?")
    target.memory["kind"] = kind
    return kind


async def _several(target: Target, client: Client, kind: Kind, namespace: str, wish: Wish) -> Result:
    """Look at all that a selector chooses: `count` of them are to be as wanted, or all, and one at least."""
    results: list[tuple[str, Result]] = []
    async for answer in pages(client, kind.path(namespace), labelSelector=target.options["selector"]):
        _accepted(target, answer, "list", kind, namespace)
        found = objects(answer.document.get("items"))
        results += [(word(each, "metadata", "name"), _judged(target, kind, each, wish)) for each in found]
    good = sum(result.state == "ok" for _, result in results)
    wanted = target.number("count", 1 if wish.exists else max(len(results), 1), least=1)
    said = f"{good} of {wanted} {kind.resource} as wanted"
    if good >= wanted:
        return Result("ok", said)
    if not results:
        where = f" in the namespace {namespace}" if kind.namespaced else ""
        return Result("not-ready", f"no {kind.resource}{where} match the selector")
    name, worst = min(results, key=lambda each: (each[1].state == "ok", each[1].state != "impossible"))
    if worst.state == "ok":
        return Result("not-ready", said)
    # Where all are wanted, one that never will be is enough.
    lost = worst.state == "impossible" and "count" not in target.options
    return Result("impossible" if lost else "not-ready", f"{said}, {shown(name)[1:-1]} {worst.text}")


def _judged(target: Target, kind: Kind, found: dict[str, Any], wish: Wish) -> Result:
    result = judged(kind, found, wish)
    # What can never be is just what `not:` waits for.
    return Result("not-ready", result.text) if target.negated and result.state == "impossible" else result


async def _service(target: Target, client: Client, namespace: str, name: str) -> Result:
    """Count the addresses of a Service that are ready."""
    selector = f"kubernetes.io/service-name={name}"
    slices, found = 0, set[str]()
    async for answer in pages(client, _SLICES.path(namespace), labelSelector=selector):
        _accepted(target, answer, "list", _SLICES, namespace)
        for each in objects(answer.document.get("items")):
            slices, found = slices + 1, found | addresses(each)
    if not slices:
        return Result("no-endpoints", f"has no EndpointSlice in the namespace {namespace}; is there such a Service?")
    count, wanted = len(found), target.number("count", 1, least=1)
    if count < wanted:
        return Result("no-endpoints", f"has {count} of {wanted} ready addresses; is a pod behind it ready?")
    return Result("ok", f"has {count} ready addresses")


def _heard(target: Target) -> None:
    """It was allowed to ask: the grace begins anew."""
    target.memory.pop("denied", None)


def _accepted(target: Target, answer: Answer, verb: str, kind: Kind, namespace: str) -> None:
    """Take an answer that is an object. Raises Unmet for every other, a denial that lasts as what can never be."""
    if answer.status == 403:
        raise _denied(target, answer, verb, kind, namespace)
    _heard(target)
    if answer.status == 200 and answer.document:
        return
    if answer.status == 401:
        raise Unmet("auth", "does not accept the token (401); is it of this cluster, and not out of date?")
    if answer.status == 200:
        raise Unmet("not-ready", "answers, but not with an object of its API")
    state: State = "error" if answer.status < 429 else "not-ready"
    raise Unmet(state, f"answers {answer.status}: {answer.said()}", answer.again)


def _denied(target: Target, answer: Answer, verb: str, kind: Kind, namespace: str) -> Unmet:
    """Say which right is missing, in the words of the Role that would give it."""
    user = _USER.search(str(answer.document.get("message", "")))
    who = shown(user[1], 300)[1:-1] if user else "the service account"
    if not kind.resource:
        return Unmet("auth", f"denies {who} to see which resources there are (403); bind system:discovery to it")
    where = f" in the namespace {namespace}" if kind.namespaced else ""
    role = "Role" if kind.namespaced else "ClusterRole"
    rule = f'apiGroups: ["{kind.group}"], resources: [{kind.resource}], verbs: [{verb}]'
    text = f'denies {who} the verb {verb} for {kind.resource} of the group "{kind.group}"{where} (403)'
    grace = target.seconds("grace")
    grace = _GRACE if grace is None else grace
    since = target.memory.setdefault("denied", monotonic())
    left = since + grace - monotonic()
    if left <= 0:
        return Unmet("impossible", f"{text}, for {grace:g} s; bind a {role} with {rule}")
    return Unmet("auth", f"{text}; bind a {role} with {rule}", left)
