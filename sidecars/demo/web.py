"""The demo's web server: what is in a folder, read anew for each request, as a site is that git-syncer publishes."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from urllib.parse import unquote

from sidecars.core.door import Door, Request, Response, text
from sidecars.core.service import Lifecycle
from sidecars.demo.serving import serving
from sidecars.demo.settings import WebSettings


class Web:
    """Serve the files of a folder.

    run    answer
    drain  stop listening
    stop   cancelled: the same
    """

    def __init__(self, settings: WebSettings) -> None:
        self._folder = settings.dir
        self._listen = settings.listen
        self._served = 0

    async def run(self, life: Lifecycle) -> None:
        """Serve until the drain is asked. Raises SidecarError."""
        async with serving(Door(self._answer), self._listen, life, folder=self._folder):
            await life.drain.wait()

    def undelivered(self) -> str | None:
        """Nothing is kept."""
        return None

    def status(self) -> dict[str, object]:
        """How many requests were answered."""
        return {"served": self._served}

    async def _answer(self, request: Request) -> Response:
        self._served += 1
        if request.method != "GET":
            return text(405, "GET or HEAD")
        return await asyncio.to_thread(found, self._folder, request.path)


def found(folder: str, path: str) -> Response:
    """Read the file of a path: /, /prices.html, /a/. Nothing outside the folder is given, wherever links lead."""
    top = os.path.realpath(folder)
    file = os.path.realpath(f"{top}/{unquote(path)}".replace("\0", ""))
    if os.path.isdir(file):
        file = os.path.join(file, "index.html")
    if os.path.commonpath([top, file]) != top or not os.path.isfile(file):
        return text(404, "there is no such file")
    with open(file, "rb") as opened:
        return Response(200, opened.read(), mimetypes.guess_type(file)[0] or "application/octet-stream")
