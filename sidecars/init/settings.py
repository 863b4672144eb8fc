"""What every subcommand of pod-init lets an operator set."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sidecars.core.settings import LIFE, LOGS, Help, Provenance

PREFIX = "INIT_"


class Logging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename=lambda n: n.rstrip("_")):
    """How a subcommand logs."""

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Help("The least severe events to log.", LOGS)
    ] = "info"
    log_format: Annotated[
        Literal["json", "text"] | None,
        Help("One JSON object per event, or text for people.", LOGS, none="", default="json, or text on a terminal"),
    ] = None
    provenance: Provenance = Provenance()


class Common(Logging, frozen=True, kw_only=True):
    """What every subcommand of an init container has; its own Settings inherit from this."""

    termination_log: Annotated[str, Help("Where to leave the reason of a failure for Kubernetes.", LIFE, "PATH")] = (
        "/dev/termination-log"
    )
