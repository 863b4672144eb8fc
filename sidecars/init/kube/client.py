"""The API server as a pod reaches it: its address, the pod's service account, and one GET at a time."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import h11
import msgspec

from sidecars import __version__
from sidecars.init.checks import Unmet, shown
from sidecars.init.connecting import Streams, connected
from sidecars.init.tls import context_of

if TYPE_CHECKING:
    from sidecars.init.target import Target

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_MOST = 16 * 1024 * 1024  # bytes of one answer
_MOST_PAGES = 100
_PAGE = 100
_TOKEN = re.compile(r"[!-~]+")


class Answer(msgspec.Struct, frozen=True):
    """What the API server says: the status, and the object, which is empty when it was none."""

    status: int
    document: dict[str, Any]
    again: float | None = None

    def said(self) -> str:
        """Quote the message of a Status."""
        return shown(str(self.document.get("message", "")), 300)


class Account(msgspec.Struct, frozen=True):
    """A service account, as it is mounted into a pod."""

    folder: str

    def token(self) -> str:
        """Read the token: anew each time, for kubelet renews it. Raises Unmet."""
        path = os.path.join(self.folder, "token")
        try:
            with open(path, encoding="ascii") as file:
                token = file.read().strip()
        except FileNotFoundError:
            raise Unmet(
                "impossible",
                f"there is no {path}; set automountServiceAccountToken: true for the pod, or mount a projected token",
            ) from None
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not ASCII"
            raise Unmet("error", f"cannot read {path}: {why}; give the pod an fsGroup") from None
        if not _TOKEN.fullmatch(token):
            raise Unmet("error", f"what is in {path} is no token")
        return token

    def namespace(self) -> str:
        """Say the pod's own namespace."""
        try:
            with open(os.path.join(self.folder, "namespace"), encoding="ascii") as file:
                return file.read(300).strip()
        except (OSError, UnicodeError):
            return os.environ.get("POD_NAMESPACE", "") or "default"


def server() -> tuple[str, int]:
    """Say where the API server is: by the variables that Kubernetes sets in every container, else by its name."""
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "")
    return (
        os.environ.get("KUBERNETES_SERVICE_HOST", "") or "kubernetes.default.svc",
        int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 443,
    )


class Client:
    """Asks with a service account; every request is a connection of its own, as seldom as they are."""

    def __init__(self, target: Target, account: Account, patience: float) -> None:
        host, port = server()
        options = {"ca": os.path.join(account.folder, "ca.crt")}
        self._place = msgspec.structs.replace(target, host=host, port=port, options=options)
        self._account = account
        self._patience = patience

    async def get(self, path: str, **query: str | int) -> Answer:
        """GET a path. Raises Unmet, OSError, EOFError."""
        token = self._account.token()
        asked = f"{path}?{urlencode(query)}" if query else path
        async with connected(self._place, self._patience, context_of(self._place)) as streams:
            try:
                return await self._exchange(asked, token, streams)
            except h11.RemoteProtocolError as error:
                raise Unmet("not-ready", f"does not answer in HTTP: {shown(str(error))}") from None

    async def _exchange(self, asked: str, token: str, streams: Streams) -> Answer:
        connection = h11.Connection(h11.CLIENT)
        host = f"[{self._place.host}]" if ":" in self._place.host else self._place.host
        headers = [
            ("Host", f"{host}:{self._place.port}"), ("Authorization", f"Bearer {token}"), ("Connection", "close"),
            ("Accept", "application/json"), ("User-Agent", f"pod-init/{__version__}"),
        ]  # fmt: skip
        request = h11.Request(method="GET", target=asked, headers=headers)
        streams.writer.write((connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b""))
        response, body = None, bytearray()
        while not isinstance(event := connection.next_event(), (h11.EndOfMessage, h11.ConnectionClosed)):
            if event is h11.NEED_DATA:
                connection.receive_data(await streams.reader.read(65536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > _MOST:
                    raise Unmet("error", f"answers with more than {_MOST >> 20} MiB; narrow the selector")
        if response is None:
            raise EOFError
        return _answer(response, bytes(body))


def _answer(response: h11.Response, body: bytes) -> Answer:
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        document = None
    after = next((value.decode("latin-1") for name, value in response.headers if name == b"retry-after"), "")
    again = float(after) if re.fullmatch("[0-9]{1,4}", after) else None
    return Answer(response.status_code, document if isinstance(document, dict) else {}, again)


async def pages(client: Client, path: str, **query: str) -> AsyncIterator[Answer]:
    """GET a list, page by page: a large one is never held as a whole. An answer that is no page is the last.

    Raises as get().
    """
    more: dict[str, str] = {}
    for _ in range(_MOST_PAGES):
        answer = await client.get(path, **query, **more, limit=_PAGE)
        if answer.status == 410 and more:
            raise Unmet("not-ready", "the list has changed too much while it was read")
        yield answer
        metadata = answer.document.get("metadata")
        token = metadata.get("continue") if isinstance(metadata, dict) else None
        if not token or answer.status != 200:
            return
        more = {"continue": str(token)}
    raise Unmet("error", f"lists more than {_MOST_PAGES * _PAGE} objects; narrow the selector")
