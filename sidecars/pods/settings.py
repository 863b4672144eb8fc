"""What `sidecars convert` may be told."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from sidecars import __version__
from sidecars.core.errors import WrongSettings
from sidecars.core.settings import Help
from sidecars.pods.manifests import NEWEST

PROG = "sidecars convert"
PREFIX = "CONVERT_"

WRITE, SHOW = "What to write", "What to show"

# As docker's reference grammar has them.
_REGISTRY = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]+)?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*/?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=lambda n: n.rstrip("_")):
    """Put these sidecars in the place of the shell loops and images that they replace.

    Reads manifests and compose files; a directory stands for all *.yaml, *.yml and *.json below it, - for stdin. The
    result goes to stdout. stderr has a line for each container:

        FILE:LINE CONTAINER exact #12: what was wrong with it; what was put in its place

        exact      every statement was understood, and it was replaced
        partial    there is something to convert, and a person has to finish it
        native     a feature of Kubernetes does it without a container
        refuse     none of these images does that; it is left alone

    Exit codes: 0 done, 1 --check has found something, 2 wrong usage or a file that cannot be read.
    """

    files: Annotated[
        tuple[str, ...], Help("Manifests, compose files, directories, or -.", metavar="FILE", positional=True)
    ] = ()
    check: Annotated[bool, Help("Write nothing; exit 1 if there is something exact, partial or native.", SHOW)] = False
    diff: Annotated[bool, Help("Show what would change instead of the result.", SHOW)] = False
    in_place: Annotated[bool, Help("Write each file that changes, and nothing to stdout.", SHOW)] = False
    format: Annotated[
        Literal["text", "json"], Help("Lines for people on stderr, or one JSON document on stdout.", SHOW)
    ] = "text"
    target_version: Annotated[
        str, Help("The Kubernetes that the manifests are for: 1.29 has native sidecars.", WRITE, "VERSION")
    ] = "{}.{}".format(*NEWEST)
    registry: Annotated[str, Help("Where the images come from, as registry.example/sidecars.", WRITE, "NAME")] = (
        "sidecars"
    )
    tag: Annotated[str, Help("The images' tag.", WRITE, "TAG")] = __version__

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not self.files:
            raise WrongSettings("no FILE is given: name manifests or directories, or - for stdin")
        ways = [
            flag for flag, on in (("--check", self.check), ("--diff", self.diff), ("--in-place", self.in_place)) if on
        ]
        if len(ways) > 1:
            raise WrongSettings(f"{' and '.join(ways)} contradict each other; keep one")
        if self.in_place and "-" in self.files:
            raise WrongSettings("--in-place cannot write to stdin; name files")
        if not _REGISTRY.fullmatch(self.registry):
            raise WrongSettings(f"--registry is {self.registry!r}, expected a name, as registry.example/sidecars")
        if not _TAG.fullmatch(self.tag):
            raise WrongSettings(f"--tag is {self.tag!r}, expected a tag, as {__version__}")
        self.target  # noqa: B018  (it refuses what is none)

    @property
    def target(self) -> tuple[int, int]:
        """The Kubernetes version, as (1, 37)."""
        return version(self.target_version)


def version(text: str) -> tuple[int, int]:
    """Read a version of Kubernetes: 1.29, v1.29, 1.29.4. Raises WrongSettings."""
    found = re.match(r"v?(\d+)\.(\d+)(?:[.+-].*)?\Z", text)
    if not found or found[1] != "1":
        raise WrongSettings(f"--target-version is {text!r}, expected a version of Kubernetes, as 1.29")
    return int(found[1]), int(found[2])
