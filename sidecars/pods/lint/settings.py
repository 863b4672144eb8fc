"""What `sidecars lint` may be told."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.core.settings import Help
from sidecars.core.values import nearest
from sidecars.pods.lint.rules import RULES
from sidecars.pods.manifests import NEWEST
from sidecars.pods.settings import version

PROG = "sidecars lint"
PREFIX = "LINT_"

ALL = "all"

READ, SHOW = "What to read", "What to show"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is wrong with the pods in manifests, beside the shell loops that `sidecars convert` replaces.

    Reads manifests; a directory stands for all *.yaml, *.yml and *.json below it, - for stdin. stdout has a line for
    each thing that is found:

        FILE:LINE:COLUMN: error or warning: KIND/NAME: what, where, and what to do [ID]

    Exit codes: 0 nothing found, 1 something found, 2 wrong usage or a file that cannot be read.
    """

    files: Annotated[tuple[str, ...], Help("Manifests, directories, or -.", READ, metavar="FILE", positional=True)] = ()
    target_version: Annotated[str, Help("The Kubernetes that the manifests are for.", READ, "VERSION")] = (
        "{}.{}".format(*NEWEST)
    )
    ignore: Annotated[tuple[str, ...], Help("Rules to leave out.", READ, "ID")] = ()
    format: Annotated[
        Literal["text", "json", "sarif"], Help("Lines, a JSON array, or SARIF 2.1.0, which code hosts show.", SHOW)
    ] = "text"
    explain: Annotated[str, Help(f"Say what a rule means, why, and what to do; {ALL} lists them.", SHOW, "ID")] = ""

    def __post_init__(self) -> None:
        """Refuse rules that there are not, and nothing to do."""
        known = [*RULES, ALL] if self.explain else list(RULES)
        for rule in filter(None, (*self.ignore, self.explain)):
            if rule not in known:
                raise WrongSettings(f"there is no rule {rule!r}; {nearest(rule, known)}")
        if not self.files and not self.explain:
            raise WrongSettings("no FILE is given: name manifests or directories, or - for stdin")
        self.target  # noqa: B018  (it refuses what is none)

    @property
    def target(self) -> tuple[int, int]:
        """The Kubernetes version, as (1, 37)."""
        return version(self.target_version)
