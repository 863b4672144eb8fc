"""`sidecars demo` and its parts, and `python -m sidecars.demo`, which is the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from sidecars.core import program

if TYPE_CHECKING:
    from sidecars.core.service import Service

Parts = tuple[type[Any], Callable[[Any], "Service"]]


def demo(arguments: Sequence[str]) -> None:
    """`sidecars demo`, or one of its parts, as `sidecars demo app`. Never returns."""
    if arguments and arguments[0] in _PARTS:
        part, options = _PARTS[arguments[0]]
        sys.argv[1:] = arguments[1:]
        program.main(part, name=f"sidecars demo {arguments[0]}", prefix=f"DEMO_{arguments[0].upper()}_", **options)
    sys.argv[1:] = arguments
    program.main(_suite, name="sidecars demo", prefix="DEMO_")


def _application() -> Parts:
    from sidecars.demo.application import Application
    from sidecars.demo.settings import ApplicationSettings

    return ApplicationSettings, Application


def _host() -> Parts:
    from sidecars.demo.host import Host
    from sidecars.demo.settings import HostSettings

    return HostSettings, Host


def _web() -> Parts:
    from sidecars.demo.settings import WebSettings
    from sidecars.demo.web import Web

    return WebSettings, Web


def _api() -> Parts:
    from sidecars.demo.api import Api
    from sidecars.demo.settings import ApiSettings

    return ApiSettings, Api


def _caller() -> Parts:
    from sidecars.demo.caller import Caller
    from sidecars.demo.settings import CallerSettings

    return CallerSettings, Caller


def _objects() -> Parts:
    from sidecars.demo.objects import Objects, Settings

    return Settings, Objects


def _suite() -> Parts:
    from sidecars.demo.demo import Demo
    from sidecars.demo.settings import Settings

    return Settings, Demo


_PARTS: dict[str, tuple[Callable[[], Parts], dict[str, Any]]] = {
    "app": (_application, {}),
    "git": (_host, {"children": True}),
    "web": (_web, {}),
    "api": (_api, {}),
    "caller": (_caller, {"one_shot": lambda settings: settings.count is not None}),
    "objects": (_objects, {"one_shot": lambda _: True}),
}


if __name__ == "__main__":
    demo(sys.argv[1:])
