"""pod-init quit: asks a pod's other sidecars to end, each in its own way, so that a Job can complete."""

from __future__ import annotations

import errno
import http.client
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from sidecars.core.errors import SidecarError, WrongSettings, redacted
from sidecars.core.log import log
from sidecars.core.settings import Help, Seconds
from sidecars.core.values import nearest
from sidecars.init.settings import Common


class Door(NamedTuple):
    """Where a sidecar is asked to end, by POST, on loopback."""

    port: int
    path: str
    headers: dict[str, str] = {}  # noqa: RUF012  (nobody changes it)


LOOPBACK = ("127.0.0.1", "::1")
_OURS = {"X-Sidecars": "1"}
# From the documentation of each.
DOORS: dict[str, tuple[Door, ...]] = {
    "istio": (Door(15020, "/quitquitquit"),),
    "linkerd": (Door(4191, "/shutdown"),),
    "dapr": (Door(3500, "/v1.0/shutdown"),),
    "cloud-sql-proxy": (Door(9091, "/quitquitquit"),),
    "sidecars": tuple(Door(port, "/quitquitquit", _OURS) for port in range(9101, 9106)),
}


class Settings(Common, frozen=True, kw_only=True):
    """Ask other sidecars of this pod to end, as a Job needs it whose sidecars are ordinary containers.

    The names are istio, linkerd, dapr, cloud-sql-proxy and sidecars (this suite, started with --admin-post); or give
    the URL that takes a POST. One that is not there is no error.

        pod-init quit istio,sidecars
        pod-init quit http://127.0.0.1:8080/exit
    """

    names: Annotated[tuple[str, ...], Help("Whom to ask.", "Whom to ask", metavar="NAME|URL", positional=True)] = ()
    timeout: Annotated[Seconds, Help("How long each may take to answer.", "Whom to ask")] = Seconds(5)

    def __post_init__(self) -> None:
        """Check what no single setting can say; WrongSettings."""
        if not self.names:
            raise WrongSettings(f"quit needs a NAME; known are {', '.join(DOORS)}, or give a URL")
        for name in self.every_name():
            _doors(name)

    def every_name(self) -> list[str]:
        """Give the names, whether they came as one word with commas or as several."""
        return [name for text in self.names for name in text.split(",") if name]


def run(settings: Settings) -> None:
    """Ask each; all are asked before a refusal is told. Raises SidecarError."""
    refusals = []
    for name in settings.every_name():
        hosts, doors = _doors(name)
        for door in doors:
            refusals += _ask(name, hosts, door, settings.timeout)
    if refusals:
        raise SidecarError("; ".join(refusals))


def _doors(name: str) -> tuple[tuple[str, ...], tuple[Door, ...]]:
    """Give the addresses to try in turn, and what to ask there. Raises WrongSettings."""
    if "://" in name:
        return _door(name)
    if name not in DOORS:
        raise WrongSettings(f"{name!r} is unknown; {nearest(name, DOORS)}")
    return LOOPBACK, DOORS[name]


def _door(text: str) -> tuple[tuple[str, ...], tuple[Door, ...]]:
    try:
        url = urlsplit(text)
        host, port = url.hostname, 80 if url.port is None else url.port
    except ValueError:
        host, port = None, 0
    if not host or not port or url.scheme != "http":
        raise WrongSettings(f"{redacted(text)!r} is no URL to ask, expected http://127.0.0.1:PORT/PATH")
    return (host,), (Door(port, (url.path or "/") + (f"?{url.query}" if url.query else "")),)


def _ask(name: str, hosts: tuple[str, ...], door: Door, timeout: float) -> list[str]:
    """Ask one; what it refuses with, if it does. Nobody there is no refusal."""
    for host in hosts:
        try:
            return _asked(name, host, door, timeout)
        except ConnectionRefusedError:
            log.debug("not there", name=name, address=f"{host}:{door.port}")
        except OSError as error:
            # A pod may be without IPv6, or have nothing else.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return [f"{redacted(name)} at {host}:{door.port} does not answer: {error}; is it stuck?"]
    return []


def _asked(name: str, host: str, door: Door, timeout: float) -> list[str]:
    """Ask at one address. Raises OSError when nobody answers there."""
    address = f"{host}:{door.port}"
    connection = http.client.HTTPConnection(host, door.port, timeout=timeout)
    try:
        connection.request("POST", door.path, headers=door.headers)
        status = connection.getresponse().status
    except (ConnectionResetError, BrokenPipeError, http.client.IncompleteRead):
        # Some end so soon that they do not answer: RemoteDisconnected is one of these.
        log.info("asked to end", name=name, address=address, answer="none")
        return []
    except http.client.HTTPException as error:
        return [f"{redacted(name)} at {address} does not speak HTTP: {type(error).__name__}; is it what it should be?"]
    finally:
        connection.close()
    if 200 <= status < 300:
        log.info("asked to end", name=name, address=address, status=status)
        return []
    advice = "start it with --admin-post" if name == "sidecars" else "does it let this be asked?"
    return [f"{redacted(name)} at {address} refuses {door.path} with {status}; {advice}"]
