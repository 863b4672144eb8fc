"""Compose files: their services judged as containers are, and those that are understood for sure replaced."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from sidecars.pods.drafting import Draft, Edit, Finding, shared
from sidecars.pods.editing import Edits
from sidecars.pods.images import TRAITS, is_root
from sidecars.pods.nodes import Node
from sidecars.pods.planning import Options
from sidecars.pods.rewriting import Unfit
from sidecars.pods.splicing import Fixed
from sidecars.pods.verdict import Container, Replacement, Verdict

# What compose puts in before a container is made. `$$` is a dollar of the container's own.
_INTERPOLATED = re.compile(r"\$(?:\$|\{[^}]*\}|[A-Za-z_][A-Za-z0-9_]*)")

_HIDDEN = re.compile(r"\{\{(\$.*?) \}\}")


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service of a compose file.

    awaited  how others depend on it: the conditions, `service_started` where there is only its name
    """

    name: str
    raw: dict[str, Any]
    node: Node
    container: Container
    awaited: frozenset[str]


def services(root: Node, target: tuple[int, int]) -> Iterator[Service]:
    """Give the services of a compose file with an image; none of what is no compose file."""
    there = root.at("services")
    if there is None or there.kind != "map":
        return
    images = {name: str(raw.get("image") or "") for name, raw in there.data.items() if isinstance(raw, dict)}
    for name, node in there.values.items():
        if node.kind == "map" and images[name] and "build" not in node.data:
            awaited = frozenset(_conditions(there.data, name))
            others = tuple(image for other, image in images.items() if other != name)
            container = _container(node.data, awaited, others, target)
            yield Service(name=name, raw=node.data, node=node, container=container, awaited=awaited)


def convert_services(draft: Draft, options: Options) -> None:
    """Judge the services of a draft's compose files, and convert those that are understood."""
    from sidecars.pods.converting import judge

    for number, root in enumerate(draft.manifest.roots):
        for service in services(root, options.target):
            verdict = judge(service.container)
            if verdict is not None:
                finding, edit = _converted(draft, number, service, _shown(verdict), options)
                draft.found([finding], edit)


def _converted(
    draft: Draft, number: int, service: Service, verdict: Verdict, options: Options
) -> tuple[Finding, Edit | None]:
    line = draft.manifest.roots[number].values["services"].keys[service.name].line
    finding = Finding(line=line, container=service.name, verdict=verdict)
    if verdict.kind != "exact":
        return finding, None
    path = ("services", service.name)
    left = shared(draft.manifest.roots[number], path)
    if left:
        return msgspec.structs.replace(finding, left=left), None
    notes: list[str] = []
    try:
        value = _rewritten(service, verdict, options, notes)
        edits = Edits(draft.manifest.text)
        edits.become(service.node, value)
    except (Fixed, Unfit) as error:
        return msgspec.structs.replace(finding, left=str(error)), None
    edit = Edit(number, path, value, edits.splices)
    return msgspec.structs.replace(finding, notes=tuple(notes)), edit


def _rewritten(service: Service, verdict: Verdict, options: Options, notes: list[str]) -> dict[str, Any]:
    if len(verdict.replacements) > 1:
        raise Unfit("it takes several containers, one after another")
    (replacement,) = verdict.replacements
    if "service_healthy" in service.awaited and TRAITS[replacement.image].port is None:
        raise Unfit("others wait until it is healthy, which pod-init does not tell")
    notes += replacement.notes
    raw = service.raw
    new: dict[str, Any] = {}
    for key, value in raw.items():
        if key in {"entrypoint", "command", "healthcheck", "privileged"}:
            continue
        new[key] = value
        if key == "image":
            new[key] = options.image(replacement.image)
            new |= _command(replacement)
    new |= _environment(raw, replacement)
    new |= _volumes(raw, replacement)
    if "user" not in raw and raw.get("volumes") and is_root(service.container.image):
        notes.append("it stays root, for a volume of compose is root's at first")
        return {**new, "user": "0:0", "read_only": True, **_scratch(raw, replacement)}
    dropped = {"cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}
    return {**new, "read_only": True, **dropped, **_scratch(raw, replacement)}


def _command(replacement: Replacement) -> dict[str, Any]:
    return {"command": [word.replace("$", "$$") for word in replacement.args]} if replacement.args else {}


def _environment(raw: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    given = raw.get("environment")
    if not replacement.env and not replacement.drop_env:
        return {}
    if isinstance(given, list):
        kept = [each for each in given if str(each).partition("=")[0] not in {*replacement.drop_env, *replacement.env}]
        return {"environment": [*kept, *(f"{name}={value}" for name, value in replacement.env.items())]}
    kept_map = {name: value for name, value in (given or {}).items() if name not in replacement.drop_env}
    return {"environment": {**kept_map, **replacement.env}} if kept_map or replacement.env else {}


def _volumes(raw: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    volumes = raw.get("volumes")
    if not isinstance(volumes, list) or not replacement.read_only:
        return {}
    return {"volumes": [_read_only(each) if _target(each)[1] in replacement.read_only else each for each in volumes]}


def _read_only(volume: Any) -> Any:
    if isinstance(volume, dict):
        return {**volume, "read_only": True}
    return volume if _target(volume)[2] else f"{volume}:ro" if volume.count(":") == 1 else volume


def _scratch(raw: Mapping[str, Any], replacement: Replacement) -> dict[str, Any]:
    """Room for what writes to /tmp, on a root that is read-only."""
    needed = TRAITS[replacement.image].tmp and "tmpfs" not in raw
    return {"tmpfs": ["/tmp"]} if needed else {}  # noqa: S108  (a mount's path in a container)


def _container(
    raw: Mapping[str, Any], awaited: frozenset[str], others: tuple[str, ...], target: tuple[int, int]
) -> Container:
    return Container(
        image=str(raw.get("image") or ""),
        command=_words(raw.get("entrypoint")),
        args=_words(raw.get("command")),
        init="service_completed_successfully" in awaited,
        env=_variables(raw.get("environment")),
        env_from=bool(raw.get("env_file")),
        expands=False,
        mounts=tuple(_target(each) for each in _listed(raw.get("volumes"))),
        working_dir=raw.get("working_dir") if isinstance(raw.get("working_dir"), str) else None,
        others=others,
        only=not others,
        target=target,
    )


def _words(value: Any) -> tuple[str, ...]:
    """The words of a command or entrypoint, as the container gets them; one text is split as a shell does it.

    What compose puts in is hidden as a template is, for nobody knows it here.
    """
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError:
            return ()
    if not isinstance(value, list):
        return ()
    return tuple(_INTERPOLATED.sub(_hidden, str(each)) for each in value)


def _hidden(found: re.Match[str]) -> str:
    return "$" if found[0] == "$$" else f"{{{{{found[0]} }}}}"


def _shown(verdict: Verdict) -> Verdict:
    """Show what compose puts in as the file has it."""
    texts = {name: getattr(verdict, name) for name in ("found", "wrong", "instead")}
    said = {name: _HIDDEN.sub(r"\1", text) for name, text in texts.items()}
    return msgspec.structs.replace(verdict, **said)


def _variables(given: Any) -> dict[str, str | None]:
    if isinstance(given, list):
        pairs = (str(each).partition("=") for each in given)
        return {name: _literal(value) if equals else None for name, equals, value in pairs}
    if not isinstance(given, dict):
        return {}
    return {str(name): None if value is None else _literal(str(value)) for name, value in given.items()}


def _literal(text: str) -> str | None:
    """A variable's value; None where compose puts something in."""
    return None if any(found != "$$" for found in _INTERPOLATED.findall(text)) else text.replace("$$", "$")


def _listed(value: Any) -> list[Any]:
    return [each for each in value if isinstance(each, (str, dict))] if isinstance(value, list) else []


def _target(volume: Any) -> tuple[str, str, bool]:
    """What a volume is called, where it is mounted, and whether it is read-only."""
    if isinstance(volume, dict):
        return str(volume.get("source") or ""), str(volume.get("target") or ""), volume.get("read_only") is True
    source, _, rest = str(volume).partition(":")
    target, _, options = rest.partition(":")
    return (source, target, "ro" in options.split(",")) if rest else ("", source, False)


def _conditions(all_services: Mapping[str, Any], name: str) -> Iterator[str]:
    """How other services depend on one."""
    for raw in all_services.values():
        given = raw.get("depends_on") if isinstance(raw, dict) else None
        if isinstance(given, list) and name in given:
            yield "service_started"
        if isinstance(given, dict) and name in given:
            condition = given[name].get("condition") if isinstance(given[name], dict) else None
            yield str(condition or "service_started")
