"""Names as the application will look them up: by the system's getaddrinfo, in a thread, failures told apart."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sidecars.core.resolvconf import Remembered, is_address, parse_search
from sidecars.init.checks import Result, Unmet, late

T = TypeVar("T")

LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?")
LIKE_IPV4 = re.compile(r"[0-9]+(?:\.[0-9]+){3}")
_SEARCH = Remembered("/etc/resolv.conf", parse_search)
_MOST_NAMES = 8


class Address(NamedTuple):
    """Where to connect to."""

    family: int
    where: tuple[Any, ...]

    def __str__(self) -> str:
        host, port = self.where[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def impossible(name: str) -> str | None:
    """Say why a name can never exist, whoever is asked; None when it may.

    Sources: RFC 1035 2.3.4 (lengths), RFC 6761 6.4 (.invalid).
    """
    if is_address(name):
        return None
    labels = name.removesuffix(".").split(".")
    if not all(labels):
        return "it has an empty label; was it written with a variable that is not set?"
    if LIKE_IPV4.fullmatch(name):
        return "it looks like an IPv4 address and is none"
    if any(len(label) > 63 for label in labels) or len(name) > 253:
        return "it is too long: 63 characters between two dots, and 253 in all, are the most"
    wrong = next((label for label in labels if not LABEL.fullmatch(label)), None)
    if wrong is not None:
        return f"{wrong!r} in it is no part of a name: letters, digits and hyphens are"
    if labels[-1].lower() == "invalid":
        return "names in .invalid are reserved never to exist"
    return None


def tried(name: str) -> str:
    """List the names that the system asks for, in words: "tried db.prod.svc.cluster.local., db."."""
    names = _SEARCH.get().names(name)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"tried {', '.join(names[:_MOST_NAMES])}{more}"


async def lookup(name: str, port: int = 0, family: int = 0) -> list[Address]:
    """Look a name up, in the order in which an application would try the addresses. Raises Unmet."""
    if complaint := impossible(name):
        raise Unmet("impossible", f"the name {name} can never exist ({await _try(name)}); {complaint}")
    if is_address(name):
        return _getaddrinfo(name, port, family)
    silence = f"the name server does not answer for {name} ({tried(name)}); is it reachable from here?"
    late.set(lambda: Result("error", silence))
    try:
        found = await in_thread(("name", name, port, family), lambda: _getaddrinfo(name, port, family))
    except socket.gaierror as error:
        raise _failure(name, error) from None
    late.set(None)
    return found


async def _try(name: str) -> str:
    """Ask for a name in .invalid once, and say so; what is no name is asked of nobody."""
    names = tried(name).removeprefix("tried ")
    if not name.lower().rstrip(".").endswith(".invalid"):
        return f"it would be asked for as {names}"
    try:
        async with asyncio.timeout(2):
            await in_thread(("name", name), lambda: _getaddrinfo(name, 0, 0))
    except TimeoutError:
        return f"tried {names}, without an answer"
    except OSError:
        return f"tried {names}"
    return f"tried {names}, and the name server makes one up"


def _getaddrinfo(name: str, port: int, family: int) -> list[Address]:
    # ASCII as bytes: of a str Python would import its IDNA codec, and refuse what the system takes.
    host = name.encode() if name.isascii() else name
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except UnicodeError as error:
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
    return list(dict.fromkeys(Address(each[0], each[4]) for each in found))


def _failure(name: str, error: socket.gaierror) -> Unmet:
    if error.errno == socket.EAI_NONAME:
        return Unmet(
            "no-name", f"the name {name} does not exist ({tried(name)}); is it right, and its Service created?"
        )
    if error.errno in (socket.EAI_NODATA, socket.EAI_ADDRFAMILY):
        return Unmet("no-endpoints", f"the name {name} exists and has no address; is any pod behind it ready?")
    if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
        return Unmet("error", f"the name server fails, or does not answer, for {name} ({tried(name)})")
    return Unmet("error", f"cannot look {name} up: {error.strerror}")


_running: dict[object, asyncio.Future[Any]] = {}


async def in_thread(key: object, work: Callable[[], T]) -> T:
    """Do what blocks in a thread. While it hangs, who asks again by the same key waits for the same thread.

    A look-up cannot be ended: attempts that gave up would else leave one hanging thread each. The thread holds back
    nothing when the process ends.
    """
    if key not in _running:
        _running[key] = _start(work)
        _running[key].add_done_callback(lambda _: _running.pop(key, None))
    return await asyncio.shield(_running[key])


def _start(work: Callable[[], Any]) -> asyncio.Future[Any]:
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)
            future.exception()  # It may be that nobody waits any more: then it is no surprise.

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  (it is raised where it is waited for)
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, daemon=True).start()
    return future
