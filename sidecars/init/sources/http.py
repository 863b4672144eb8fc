"""A file behind an http or https URL: fetched in ranges, gone on with, and never mixed from two versions."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import unquote

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.init.part import Part, Piece, Version, too_large
from sidecars.init.sources import Again, Bounds, Changed, Patience
from sidecars.init.sources.session import Credentials, Session, Url, broken, check, plain
from sidecars.init.transfer import Transfer, persist

_BUFFER = 1 << 20
_SLOWEST, _WINDOW = 1024, 60.0  # bytes a second, over so many seconds, below which a server has stalled
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class HttpFile:
    """A file behind a URL.

    checked  whether a digest will be: then an answer that ends with its connection can be told from a broken one
    """

    def __init__(
        self, address: Url, credentials: Credentials, patience: Patience, bounds: Bounds, *, checked: bool
    ) -> None:
        self.shown = address.shown
        self.name = unquote(address.path.rpartition("/")[2], errors="surrogateescape")
        self._address = address
        self._credentials = credentials
        self._patience = patience
        self._bounds = bounds
        self._checked = checked
        self._first: tuple[Session, HTTPResponse] | None = None
        self._sessions: list[Session] = []

    def look(self, known: Version | None) -> Version | None:
        """Ask for its first bytes, or all of it; None when the server says that it is what is known."""
        self._close()
        return persist(lambda: self._look(known), self._patience)

    def _look(self, known: Version | None) -> Version | None:
        session = self._session()
        try:
            version = self._asked(session, known)
        except BaseException:
            session.drop()
            raise
        return version

    def _session(self) -> Session:
        made = Session(self._address.origin, self._credentials, self._patience)
        self._sessions.append(made)
        return made

    def _close(self) -> None:
        while self._sessions:
            self._sessions.pop().drop()

    def _asked(self, session: Session, known: Version | None) -> Version | None:
        last = str(self._bounds.first - 1) if self._bounds.jobs > 1 else ""
        response = session.get(self._address, {**_conditions(known), "Range": f"bytes=0-{last}"})
        if response.status == 304 and known is not None:
            session.drop()
            return None
        if response.status == 416 or (response.status == 206 and self._is_partial(response)):
            # An empty file has no range, and what cannot be told from another version is fetched by one request.
            session.drop()
            response = session.get(self._address, {})
        check(response, self._address)
        version = self._version(response)
        if self._bounds.limit is not None and (version.size or 0) > self._bounds.limit:
            raise too_large(self._bounds.limit)
        self._first = session, response
        return version

    def _is_partial(self, response: HTTPResponse) -> bool:
        """Whether more would have to be asked for, of what has nothing that tells its versions apart."""
        _, last, total = _range(response, self._address)
        return last + 1 < total and not self._version(response).validator

    def _version(self, response: HTTPResponse) -> Version:
        headers = response.headers
        if headers.get("Content-Encoding", "identity").lower() != "identity":
            log.warning("kept as the server has encoded it", encoding=plain(headers["Content-Encoding"]))
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        strong = etag if etag.startswith('"') else ""
        if response.status != 206:
            size = _length(response, self._address)
            if size is None and not response.chunked and not self._checked:
                raise SidecarError(
                    f"{self.shown} answers without a length, so that half of it cannot be told from all; give --sha256"
                )
            return Version(strong, modified, size)
        first, last, total = _range(response, self._address)
        if (first, last + 1) != (0, min(total, self._bounds.first) if self._bounds.jobs > 1 else total):
            raise SidecarError(f"{self.shown} answers with a range that was not asked for; try --jobs 1")
        return Version(strong, modified, total, ranges=True)

    def fill(self, part: Part) -> None:
        """Fetch the pieces that are missing. Raises SidecarError, and Changed when the file has become another."""
        try:
            Transfer(part, self._bounds.jobs, self._patience).run(lambda: self._reader(part))
        finally:
            self._close()

    def _reader(self, part: Part) -> Reading:
        # The answer that was looked at is the beginning of the first piece.
        first, self._first = self._first, None
        session, response = first if first is not None else (self._session(), None)
        return Reading(self._address, session, response, part, self._patience.read)


def _conditions(known: Version | None) -> dict[str, str]:
    if known is None or not known.validator:
        return {}
    return {"If-None-Match": known.etag} if known.etag else {"If-Modified-Since": known.modified}


def _length(response: HTTPResponse, address: Url) -> int | None:
    """Give the Content-Length; None where the end is told in another way."""
    text = response.headers.get("Content-Length", "")
    if response.chunked or not text:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text.strip()):
        raise SidecarError(f"{address.shown} answers with the length {text[:40]!r}, which is none")
    return int(text)


def _range(response: HTTPResponse, address: Url) -> tuple[int, int, int]:
    """Give the first and the last byte of a range, and the size of the whole."""
    text = response.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(text.strip())
    if match is None:
        raise SidecarError(f"{address.shown} answers with the range {text[:60]!r}, which is none; try --jobs 1")
    first, last, total = (int(number) for number in match.groups())
    return first, last, total


class Reading:
    """What one thread asks for, and writes to the part."""

    def __init__(
        self, address: Url, session: Session, response: HTTPResponse | None, part: Part, patience: float
    ) -> None:
        self._address = address
        self._session = session
        self._response = response
        self._part = part
        self._patience = patience
        self._buffer = memoryview(bytearray(_BUFFER))

    def __call__(self, piece: Piece) -> None:
        """Fetch the rest of a piece. Raises Again, Changed, SidecarError."""
        response, self._response = self._response, None
        if response is not None and piece.done:
            self._session.drop()
            response = None
        response = response or self._asked(piece)
        if response.chunked or piece.end is None:
            self._receive_all(response, piece)
        else:
            self._receive(response, piece, piece.end - piece.offset)

    def _asked(self, piece: Piece) -> HTTPResponse:
        version = self._part.version
        if version.resumable:
            return self._asked_for_range(piece)
        self._part.restart(piece)
        response = self._session.get(self._address, {})
        check(response, self._address)
        if response.status != 200 or _length(response, self._address) != version.size:
            raise self._changed()
        return response

    def _asked_for_range(self, piece: Piece) -> HTTPResponse:
        version = self._part.version
        wanted = (piece.offset, (piece.end or 0) - 1, version.size)
        headers = {"Range": f"bytes={wanted[0]}-{wanted[1]}", "If-Range": version.validator}
        response = self._session.get(self._address, headers)
        if response.status in (200, 412, 416):
            raise self._changed()
        check(response, self._address)
        same = version.etag in ("", response.headers.get("ETag", version.etag))
        if _range(response, self._address) != wanted or not same:
            raise self._changed()
        return response

    def _changed(self) -> Changed:
        self._session.drop()
        return Changed(f"{self._address.shown} changes while it is fetched")

    def _receive(self, response: HTTPResponse, piece: Piece, length: int) -> None:
        """Read so many bytes from under http.client, which would copy them. This is the hot loop."""
        stream: Any = response.fp
        put, buffer, clock, window = self._part.put, self._buffer, time.monotonic, min(_WINDOW, 2 * self._patience)
        since, left = clock(), length
        while length:
            try:
                count = stream.readinto1(buffer[: min(length, _BUFFER)])
            except (OSError, HTTPException) as error:
                raise self._failed(error) from error
            if not count:
                self._session.drop()
                raise Again(f"{self._address.shown} ends {length:,} bytes too early")
            put(piece, buffer[:count])
            length -= count
            if clock() - since > window:
                if left - length < _SLOWEST * window:
                    raise self._failed(TimeoutError())
                since, left = clock(), length
        if self._follows(response, stream):
            raise SidecarError(f"{self._address.shown} sends more bytes than it says; is something between?")
        response.close()

    def _follows(self, response: HTTPResponse, stream: Any) -> bool:
        """Whether there is more than was announced, of what must be another version."""
        connection: socket.socket = response.connection  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            # A server that closes the connection does it at once.
            connection.settimeout(1.0 if response.will_close else 0.0)
            if stream.peek(1):
                self._session.drop()
                return True
        with contextlib.suppress(OSError):
            connection.settimeout(self._patience)
        return False

    def _receive_all(self, response: HTTPResponse, piece: Piece) -> None:
        """Read to the end of an answer whose length is not known before."""
        while True:
            try:
                data = response.read1(_BUFFER)
            except (OSError, HTTPException) as error:
                raise self._failed(error) from error
            if not data:
                break
            self._part.put(piece, memoryview(data))
        if piece.end is not None and piece.offset != piece.end:
            raise Again(f"{self._address.shown} is {piece.done:,} bytes long, and said {piece.end - piece.begin:,}")
        piece.end = piece.offset

    def _failed(self, error: Exception) -> SidecarError:
        self._session.drop()
        return broken(error, str(self._address.origin))
