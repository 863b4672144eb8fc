"""What a container is, as far as a recogniser may know, and what it says of it."""

from collections.abc import Mapping
from typing import Literal

import msgspec


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container of a pod (or one service of a compose file), as plain values.

        Container(image="busybox:1.28", command=("sh", "-c", "until nc -z db 5432; do sleep 1; done"), init=True)

    Of a compose file, entrypoint is the command and command the args, with `$$` undone.
    """

    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    init: bool = False
    """An init container without `restartPolicy: Always`: it has to end."""
    env: Mapping[str, str | None] = {}
    """The container's own variables; None for one that comes from elsewhere (valueFrom)."""
    env_from: bool = False
    """There are more variables, which the manifest does not name: envFrom, or compose's env_file."""
    expands: bool = True
    """`$(NAME)` in command and args stands for a variable, as Kubernetes has it; of a compose file it does not."""
    mounts: tuple[tuple[str, str, bool], ...] = ()
    """Volume name, mount path, whether it is read only."""
    working_dir: str | None = None
    others: tuple[str, ...] = ()
    """The images of the pod's other containers."""
    only: bool = False
    """The pod's only container beside init containers: the application itself, which no image of ours replaces."""
    target: tuple[int, int] = (1, 37)
    """The Kubernetes version that the manifest is for."""


class Replacement(msgspec.Struct, frozen=True, kw_only=True):
    """A container of ours that takes the place of the one that was recognised.

        Replacement(image="pod-init", args=("wait", "tcp://db:5432"))

    The container that is replaced loses its command; its volumes and resources stay.
    """

    image: str
    """The name without registry and tag: `pod-init`, `log-tailer`, ..."""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = {}
    """Variables to add."""
    drop_env: tuple[str, ...] = ()
    """Variables of the container that nothing needs any more."""
    notes: tuple[str, ...] = ()
    """What a person should know or may want to change; a sentence each."""
    sidecar: bool = False
    """It runs beside the application: an init container with `restartPolicy: Always` where the target has it."""
    read_only: tuple[str, ...] = ()
    """Mount paths that it only reads, so that they may become `readOnly`."""


Kind = Literal["exact", "partial", "refuse", "native"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a container, and what is to be done.

    - exact    every statement was understood: the replacements do the same, and better
    - partial  there is something to convert, and a person has to finish it
    - refuse   none of our images serves this; it is left alone
    - native   a feature of Kubernetes does it without a container
    """

    kind: Kind
    pattern: int
    """The row of the catalogue of shell loops, 1 to 38."""
    found: str
    """One short phrase: what was recognised."""
    wrong: str
    """One line: what was wrong with it."""
    instead: str
    """One line: what to do; of an exact one, what was put in its place."""
    replacements: tuple[Replacement, ...] = ()
    """Only of an exact one. Several take the place of one init container and run one after another."""
