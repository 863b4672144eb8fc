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
    if arguments[:1] == ["app"]:
        sys.argv[1:] = arguments[1:]
        program.main(_application, name="sidecars demo app", prefix="DEMO_APP_")
    if arguments[:1] == ["git"]:
        sys.argv[1:] = arguments[1:]
        program.main(_host, name="sidecars demo git", prefix="DEMO_GIT_", children=True)
    if arguments[:1] == ["web"]:
        sys.argv[1:] = arguments[1:]
        program.main(_web, name="sidecars demo web", prefix="DEMO_WEB_")
    if arguments[:1] == ["objects"]:
        sys.argv[1:] = arguments[1:]
        program.main(_objects, name="sidecars demo objects", prefix="DEMO_OBJECTS_", one_shot=lambda _: True)
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


def _objects() -> Parts:
    from sidecars.demo.objects import Objects, Settings

    return Settings, Objects


def _suite() -> Parts:
    from sidecars.demo.demo import Demo
    from sidecars.demo.settings import Settings

    return Settings, Demo


if __name__ == "__main__":
    demo(sys.argv[1:])
