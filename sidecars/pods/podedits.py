"""A pod's text edited to what was planned for it: containers changed where they stand, moved, and given volumes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sidecars.pods import writing
from sidecars.pods.editing import Edits
from sidecars.pods.manifests import Found, PodSpec
from sidecars.pods.nodes import Node
from sidecars.pods.planning import Change, Plan
from sidecars.pods.splicing import Fixed, Splice, is_json, spliced

_QUOTE = '"'


def intended(pod: PodSpec, plan: Plan) -> dict[str, Any]:
    """The plain value that the pod's text is to have."""
    spec = dict(pod.spec)
    by_place: dict[str, list[Any]] = {}
    changes = {id(change.found): change for change in plan.changes}
    moved: list[Any] = []
    for found in pod.containers:
        change = changes.get(id(found))
        values = list(change.values) if change else [found.raw]
        (moved if change and change.moved else by_place.setdefault(found.place, [])).extend(values)
    for place, values in by_place.items():
        spec[place] = values if isinstance(spec[place], list) else values[0]
    if moved:
        spec["initContainers"] = [*(spec.get("initContainers") or []), *moved]
    if plan.volumes:
        spec["volumes"] = [*(spec.get("volumes") or []), *plan.volumes]
    if plan.fs_group is not None:
        spec["securityContext"] = {**(spec.get("securityContext") or {}), "fsGroup": plan.fs_group}
    return spec


def edit(text: str, pod: PodSpec, plan: Plan) -> list[Splice]:
    """The splices that make a pod what was planned. Raises Fixed."""
    editor = _PodEditor(text, pod)
    for change in plan.changes:
        if not change.moved:
            editor.change(change)
    editor.spec(plan)
    editor.move([change for change in plan.changes if change.moved])
    return editor.edits.splices


class _PodEditor:
    def __init__(self, text: str, pod: PodSpec) -> None:
        self.text, self.pod = text, pod
        self.edits = Edits(text, _dash(pod))

    def change(self, change: Change) -> None:
        """Change a container where it stands, and put others behind it where one does not do."""
        found = change.found
        self.edits.become(found.node, change.values[0])
        if len(change.values) == 1:
            return
        items, at = self._list(found)
        for value in change.values[1:]:
            if items.style == "{":
                self.edits.put(found.node.end, found.node.end, f", {writing.flow(value, json=is_json(found.node))}")
            else:
                self.edits.lines(self._end(items, at), writing.item(value, items.column, self.edits.dash))

    def move(self, changes: list[Change]) -> None:
        """Take containers from where they stand and put them behind the init containers."""
        if not changes:
            return
        items = self._plain("containers")
        if items.style == "{":
            self._add_between_brackets([self._flow_item(change) for change in changes])
            self._cut_between_brackets(items, {change.found.path[-1] for change in changes})
            return
        texts = []
        for change in changes:
            at = self._list(change.found)[1]
            start, end = self._start(items, at), self._end(items, at)
            inner = Edits(self.text, self.edits.dash)
            inner.become(change.found.node, change.values[0])
            text = spliced(self.text, inner.splices, start, end)
            texts.append(text.rstrip("\r\n") if text.endswith("\n") else text)
            self.edits.put(start, end, "")
        self._add(items, self.edits.newline.join(texts))

    def spec(self, plan: Plan) -> None:
        """Give the pod its new volumes and its group."""
        node = self.pod.node
        if node.fixed and (plan.volumes or plan.fs_group is not None):
            raise Fixed(f"its text goes through {node.fixed}")
        new = dict(self.pod.spec)
        if plan.fs_group is not None and "securityContext" in node.values:
            new["securityContext"] = {**(new["securityContext"] or {}), "fsGroup": plan.fs_group}
        elif plan.fs_group is not None:
            self._add_before_containers({"securityContext": {"fsGroup": plan.fs_group}})
        if plan.volumes and "volumes" in node.values:
            new["volumes"] = [*(new["volumes"] or []), *plan.volumes]
        elif plan.volumes:
            self._add_volumes(list(plan.volumes))
        if new != self.pod.spec:
            self.edits.become(node, new)

    def _add_before_containers(self, value: dict[str, Any]) -> None:
        key = next(key for name, key in self.pod.node.keys.items() if name in {"initContainers", "containers"})
        if self.pod.node.style == "{":
            between = self.edits.between(key)
            self.edits.put(key.start, key.start, f"{writing.flow(value, json=key.style == _QUOTE)[1:-1]},{between}")
        elif self.edits.alone(key.start):
            at = self._above(self.edits.line_of(key.start), key.column)
            self.edits.lines(at, " " * key.column + writing.block(value, key.column, self.edits.dash))
        else:
            text = writing.block(value, key.column, self.edits.dash)
            self.edits.put(key.start, key.start, f"{text}\n{' ' * key.column}")

    def _add_volumes(self, volumes: list[Any]) -> None:
        """Put a new list of volumes behind the last key of the pod: behind comments of a last container too."""
        node = self.pod.node
        last = node.values[next(reversed(node.values))]
        if node.style == "{":
            pair = writing.flow({"volumes": volumes}, json=is_json(node))[1:-1]
            self.edits.put(last.end, last.end, f",{self.edits.between(next(reversed(node.keys.values())))}{pair}")
            return
        block = last.kind == "seq" and last.style != "{" and last.items
        column = next(iter(node.keys.values())).column
        text = writing.block({"volumes": volumes}, column, self.edits.dash)
        at = self._end(last, len(last.items) - 1) if block else self.edits.line_behind(last)
        self.edits.lines(at, " " * column + text)

    def _plain(self, place: str) -> Node:
        """The list at a place of the pod. Raises Fixed when its text cannot be edited, or the pod's cannot."""
        items = self.pod.node.values[place]
        for node in (self.pod.node, items):
            if node.fixed:
                raise Fixed(f"its text goes through {node.fixed}")
        return items

    def _list(self, found: Found) -> tuple[Node, int]:
        at = found.path[-1]
        items = self.pod.node.at(found.place)
        if not isinstance(at, int) or items is None:
            raise Fixed("it is the one container of its kind there")
        return items, at

    def _flow_item(self, change: Change) -> str:
        inner = Edits(self.text, self.edits.dash)
        inner.become(change.found.node, change.values[0])
        return spliced(self.text, inner.splices, *change.found.position)

    def _add_between_brackets(self, texts: list[str]) -> None:
        node, key = self.pod.node, self.pod.node.keys["containers"]
        there = self._plain("initContainers") if "initContainers" in node.values else None
        if there is not None and there.style == "{" and not there.items:
            self.edits.put(there.start, there.end, f"[{', '.join(texts)}]")
            return
        if there is not None:
            if there.style != "{" or not there.items:
                raise Fixed("its init containers are written in another way than its containers")
            self.edits.put(there.items[-1].end, there.items[-1].end, "".join(f", {text}" for text in texts))
            return
        name = '"initContainers"' if key.style == '"' else "initContainers"
        comma = "," if node.style == "{" else ""
        self.edits.put(key.start, key.start, f"{name}: [{', '.join(texts)}]{comma}{self.edits.between(key)}")

    def _cut_between_brackets(self, items: Node, gone: set[Any]) -> None:
        """Remove items with the comma behind them, or before them where none stays behind them."""
        staying = [at for at in range(len(items.items)) if at not in gone]
        for at in sorted(gone):
            child = items.items[at]
            if at < staying[-1]:
                start, end = child.start, items.items[at + 1].start
            else:
                start, end = items.items[at - 1].end, child.end
            if self.edits.comments(start, child.start) or self.edits.comments(child.end, end):
                raise Fixed("it has comments between brackets")
            self.edits.put(start, end, "")

    def _add(self, items: Node, text: str) -> None:
        """Put the lines of items, without the last line end, behind the init containers, or before the containers."""
        node = self.pod.node
        there = self._plain("initContainers") if "initContainers" in node.values else None
        key = node.keys["containers"]
        if there is None:
            if not self.edits.alone(key.start) or node.style == "{":
                raise Fixed("its pod spec is written in an odd way")
            at = self._above(self.edits.line_of(key.start), key.column)
            head = f"{' ' * key.column}initContainers:{self.edits.newline}"
            self.edits.lines(at, head + text, raw=True)
        elif there.kind == "seq" and there.items and there.style != "{":
            text = _shifted(text, there.column - items.column)
            self.edits.lines(self._end(there, len(there.items) - 1), text, raw=True)
        elif there.style == "{" and not there.items:
            colon = self.edits.colon(node.keys["initContainers"], there)
            self.edits.put(colon + 1, there.end, "")
            self.edits.lines(self.edits.line_behind(there), text, raw=True)
        else:
            raise Fixed("its init containers are no list of lines")

    def _above(self, at: int, column: int) -> int:
        """The beginning of the comment lines that stand right above a line, at its column."""
        while at:
            start = self.text.rfind("\n", 0, at - 1) + 1
            line = self.text[start:at]
            if not line.lstrip(" ").startswith("#") or len(line) - len(line.lstrip(" ")) != column:
                break
            at = start
        return at

    def _start(self, items: Node, at: int) -> int:
        """Where an item begins, with the comments right above it."""
        dash = self.edits.dash_of(items, at)
        if not self.edits.alone(dash):
            raise Fixed("two lists begin on one line")
        return self._above(self.edits.line_of(dash), items.column)

    def _end(self, items: Node, at: int) -> int:
        """Where the line after an item begins, with comments below it that are further to the right than its dash."""
        end = self.edits.line_behind(items.items[at])
        for start, line in _lines(self.text, end):
            text = line.strip()
            if text and (not text.startswith("#") or len(line) - len(line.lstrip(" ")) <= items.column):
                break
            if text:
                end = start + len(line)
        return end


def _dash(pod: PodSpec) -> int:
    """How far the text has its dashes to the right of their key."""
    for place in ("containers", "initContainers", "volumes"):
        items = pod.node.at(place)
        if items is not None and items.kind == "seq" and items.items and items.style != "{":
            return max(0, items.column - pod.node.keys[place].column)
    return 2


def _lines(text: str, at: int) -> Iterator[tuple[int, str]]:
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        yield at, text[at:end]
        at = end


def _shifted(text: str, by: int) -> str:
    """The lines of a text moved to the right, or to the left. Raises Fixed when they have no room there."""
    if not by:
        return text
    lines = text.splitlines(keepends=True)
    if by < 0 and any(line.strip() and not line.startswith(" " * -by) for line in lines):
        raise Fixed("a line of it is too far to the left to be moved")
    return "".join(line if not line.strip() else " " * by + line if by > 0 else line[-by:] for line in lines)
