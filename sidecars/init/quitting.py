"""pod-init quit: asks a pod's other sidecars to end, each in its own way, so that a Job can complete."""

from __future__ import annotations

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
            if "://" not in name and name not in DOORS:
                raise WrongSettings(f"{name!r} is unknown; {nearest(name, DOORS)}")

    def every_name(self) -> list[str]:
        """Give the names, whether they came as one word with commas or as several."""
        return [name for text in self.names for name in text.split(",") if name]


def run(settings: Settings) -> None:
    """Ask each; all are asked before a refusal is told. Raises SidecarError."""
    refusals = []
    for name in settings.every_name():
        for host, door in _doors(name):
            refusals += _ask(name, host, door, settings.timeout)
    if refusals:
        raise SidecarError("; ".join(refusals))


def _doors(name: str) -> list[tuple[str, Door]]:
    if "://" not in name:
        return [("127.0.0.1", door) for door in DOORS[name]]
    url = urlsplit(name)
    try:
        port = url.port or 80
    except ValueError:
        port = 0
    if url.scheme != "http" or not url.hostname or not port:
        raise WrongSettings(f"{redacted(name)!r} is no URL to ask, expected http://127.0.0.1:PORT/PATH")
    return [(url.hostname, Door(port, url.path or "/"))]


def _ask(name: str, host: str, door: Door, timeout: float) -> list[str]:
    """Ask one; what it refuses with, if it does. Nobody there is no refusal."""
    address = f"{host}:{door.port}"
    connection = http.client.HTTPConnection(host, door.port, timeout=timeout)
    try:
        connection.request("POST", door.path, headers=door.headers)
        status = connection.getresponse().status
    except ConnectionRefusedError:
        log.debug("not there", name=name, address=address)
        return []
    except (ConnectionResetError, http.client.RemoteDisconnected, http.client.IncompleteRead):
        # Some end so soon that they do not answer.
        log.info("asked to end", name=name, address=address, answer="none")
        return []
    except (OSError, http.client.HTTPException) as error:
        return [f"{name} at {address} does not answer: {error or type(error).__name__}; is it stuck?"]
    finally:
        connection.close()
    if status < 400:
        log.info("asked to end", name=name, address=address, status=status)
        return []
    advice = "start it with --admin-post" if name == "sidecars" else "does it let this be asked?"
    return [f"{name} at {address} refuses {door.path} with {status}; {advice}"]
