"""Pods in the layouts that people give them: indentation, comments, blank lines, order of keys, by the dice."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

MOUNTS = (
    ("volumeMounts: [{name: l, mountPath: /l}]",),
    ("volumeMounts:", "- name: l", "  mountPath: /l"),
    ("volumeMounts:", "  - {name: l, mountPath: /l}", "resources:", "  limits:", "    memory: 10Mi"),
)
ENDS = ("", "\n", "\n\n", "\n# end\n", "\n---\na: b\n", "\n...\n")


class Layout:
    """One pod: an application, one or two containers that tail its logs, perhaps init containers that wait."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.comments = 0
        self.margin = self.dice.choice([2, 4])

    def text(self) -> str:
        keys = [self.containers(), *self.others()]
        self.dice.shuffle(keys)
        lines = ["kind: Pod", "spec:", *(line for key in keys for line in key)]
        text = "\n".join(lines) + self.dice.choice(ENDS)
        return text.replace("\n", "\r\n") if self.chance(0.2) else text

    def chance(self, share: float) -> bool:
        return self.dice.random() < share

    def comment(self, column: int) -> str:
        self.comments += 1
        return f"{' ' * column}# c{self.comments}"

    def containers(self) -> list[str]:
        number = self.dice.randint(1, 2)
        tails = [
            (f"name: t{at}", "image: busybox", f"command: [tail, -f, /l/{at}.log]", *self.dice.choice(MOUNTS))
            for at in range(number)
        ]
        items: list[Sequence[str]] = [("name: app", "image: app:1"), *tails]
        self.dice.shuffle(items)
        above = [self.comment(self.margin)] if self.chance(0.2) else []
        return [*above, *self.list("containers", items)]

    def others(self) -> list[list[str]]:
        found = []
        if self.chance(0.5):
            loop = ("command:", "- sh", "- -c", "- until nc -z db 1; do sleep 1; done")
            found.append(self.list("initContainers", [("name: w", "image: busybox", *loop)]))
        elif self.chance(0.3):
            found.append([f"{' ' * self.margin}initContainers: []"])
        if self.chance(0.4):
            found.append([f"{' ' * self.margin}volumes: [{{name: l, emptyDir: {{}}}}]"])
        elif self.chance(0.6):
            found.append(self.list("volumes", [("name: l", "emptyDir: {}")]))
        if self.chance(0.3):
            found.append([f"{' ' * self.margin}securityContext:", f"{' ' * self.margin}  runAsUser: 0"])
        return found

    def list(self, key: str, items: Sequence[Sequence[str]]) -> list[str]:
        column = self.margin + self.dice.choice([0, 2])
        lines = [line for item in items for line in self.item(column, item)]
        return [self.ended(f"{' ' * self.margin}{key}:"), *lines]

    def item(self, column: int, keys: Sequence[str]) -> list[str]:
        gap = self.dice.choice([1, 1, 1, 3])
        lines = [f"{' ' * column}-{' ' * gap}{keys[0]}", *(f"{' ' * (column + 1 + gap)}{key}" for key in keys[1:])]
        if self.chance(0.1):  # the dash on a line of its own
            lines = [f"{' ' * column}-", *(f"{' ' * (column + 2)}{key}" for key in keys)]
        found = [self.comment(column)] if self.chance(0.25) else []
        for at, line in enumerate(lines):
            if at and self.chance(0.1):
                found.append(self.comment(len(line) - len(line.lstrip())))
            found.append(self.ended(line))
        if self.chance(0.15):
            found.append(self.comment(column + 2))
        return [*found, ""] if self.chance(0.15) else found

    def ended(self, line: str) -> str:
        return f"{line}  {self.comment(0)}" if self.chance(0.15) else line
