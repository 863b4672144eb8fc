"""What a person may set for the demo, and for its application alone."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from sidecars.core.settings import LIFE, LOGS, Address, Common, Help, Seconds

SHOW = "What to show"

Rate = Annotated[float, Help("How many records the application writes per second, over all its logs.", SHOW)]
Duration = Annotated[Seconds | None, Help("End after this time.", SHOW, none="", default="only when asked to")]
NoState = Annotated[str | None, Help("Not needed: there is no state to keep.", LIFE, none="", metavar="DIR")]


class ApplicationSettings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Write logs of several kinds, with rotation, as real applications do."""

    dir: Annotated[str, Help("The folder to write the logs to. It is made if it is missing.", SHOW, metavar="DIR")]
    rate: Rate = 10.0
    seconds: Duration = None
    state_dir: NoState = "off"

    def __post_init__(self) -> None:
        """Refuse a rate that is none."""
        _positive(self.rate)


class HostSettings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serve a git repository over HTTP, with a new commit every few seconds."""

    dir: Annotated[str, Help("The folder to keep it in. It is made if it is missing.", SHOW, metavar="DIR")]
    listen: Annotated[Address, Help("Where to serve it, as host:port.", SHOW)] = Address("127.0.0.1:9418")
    every: Annotated[Seconds, Help("The time between two commits; 0: there is only the first.", SHOW)] = Seconds(3)
    state_dir: NoState = "off"


class WebSettings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serve the files of a folder, read anew for each request."""

    dir: Annotated[str, Help("The folder. It may be missing at first, and may be a symlink.", SHOW, metavar="DIR")]
    listen: Annotated[Address, Help("Where to serve it, as host:port.", SHOW)] = Address("127.0.0.1:8080")
    state_dir: NoState = "off"


class ApiSettings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Serve an API that fails now and then; /counts says how often, and never fails."""

    listen: Annotated[Address, Help("Where to serve it, as host:port.", SHOW)] = Address("127.0.0.1:8090")
    fail: Annotated[
        int, Help("So many percent of the requests fail, by chance, never more than two in a row.", SHOW)
    ] = 20
    state_dir: NoState = "off"

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 <= self.fail <= 100:
            raise ValueError(f"--fail is {self.fail}, expected 0 to 100")


class CallerSettings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Call an API as an application does that tries nothing again; exit 1 if a call came to nothing."""

    url: Annotated[str, Help("What to call: the ambassador, which tries again.", SHOW)] = "http://127.0.0.1:8088/"
    rate: Annotated[float, Help("How many calls a second, at most.", SHOW)] = 5.0
    count: Annotated[int | None, Help("End after so many.", SHOW, none="", default="only when asked to")] = None
    state_dir: NoState = "off"

    def __post_init__(self) -> None:
        """Refuse a rate that is none, and what cannot be called."""
        _positive(self.rate)
        there = urlsplit(self.url)
        if there.scheme not in ("http", "https") or not there.hostname:
            raise ValueError(f"--url is {self.url!r}, expected http://HOST:PORT/")


class Settings(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Show the suite on this machine: an application that writes logs, and the sidecars at work on them."""

    rate: Rate = 10.0
    seconds: Duration = None
    state_dir: NoState = "off"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], Help("How much to log.", LOGS)] = "warning"

    def __post_init__(self) -> None:
        """Refuse a rate that is none."""
        _positive(self.rate)


def _positive(rate: float) -> None:
    if rate <= 0:
        raise ValueError(f"--rate is {rate:g}, expected more than 0")
