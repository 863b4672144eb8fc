"""The demo's git host: its repository over HTTP, by git's own `git http-backend`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil

from sidecars.core.door import Door, Limits, Request, Response, text
from sidecars.core.errors import SidecarError
from sidecars.core.git import Git, GitFailed
from sidecars.core.log import log
from sidecars.core.service import Lifecycle
from sidecars.demo.repository import NAME, Repository
from sidecars.demo.serving import serving
from sidecars.demo.settings import HostSettings

# It belongs to whoever has mounted it.
_CONFIGURATION = {"safe.directory": "*", "uploadpack.allowAnySHA1InWant": "true", "uploadpack.allowFilter": "true"}
_LONGEST_BODY = 1 << 20  # bytes: what a client has and wants, no pack


class Host:
    """Serve a repository, and commit to it.

    run    answer, and add a commit every few seconds
    drain  commit nothing more
    stop   cancelled: the same
    """

    def __init__(self, settings: HostSettings) -> None:
        self._folder = os.path.abspath(settings.dir)
        self._listen = settings.listen
        self._every = float(settings.every)
        self._repository = Repository(self._folder)
        self._git = Git()
        self._commits = 0

    async def run(self, life: Lifecycle) -> None:
        """Serve until the drain is asked. Raises SidecarError."""
        if not serves():
            raise SidecarError("git with its http-backend is not installed: install git")
        os.makedirs(self._folder, exist_ok=True)
        self._commits = await asyncio.to_thread(self._repository.open)
        door = Door(self._answer, Limits(longest_body=_LONGEST_BODY))
        try:
            async with serving(door, self._listen, life, repository=NAME):
                await self._commit_until(life.drain)
        finally:
            self._git.kill_all()

    def undelivered(self) -> str | None:
        """Nothing is: a commit is in the repository once it is made."""
        return None

    def status(self) -> dict[str, object]:
        """How many commits there are."""
        return {"commits": self._commits}

    async def _commit_until(self, drain: asyncio.Event) -> None:
        while not drain.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(drain.wait(), self._every or None)
                return
            await asyncio.to_thread(self._repository.commit, self._commits + 1)
            self._commits += 1

    async def _answer(self, request: Request) -> Response:
        try:
            said = await asyncio.to_thread(
                self._git.run,
                "http-backend",
                cwd=self._folder,
                input=bytes(request.body) or None,
                config=_CONFIGURATION,
                environment=self._variables(request),
            )
        except GitFailed as error:
            log.warning("git http-backend failed", error=str(error))
            return text(500, "git http-backend failed; the log says how")
        return response(said.stdout)

    def _variables(self, request: Request) -> dict[str, str]:
        """The request as CGI, RFC 3875, has it."""
        return {
            "GIT_PROJECT_ROOT": self._folder,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(request.body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": request.headers.get("git-protocol", ""),
            "REMOTE_ADDR": str(request.peer),
        }


def response(output: bytes) -> Response:
    r"""Read what a CGI program has said.

    b"Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nbody"

    Without a Status it is 200. Of the headers, only the type of the content is kept. Source: RFC 3875, section 6.
    """
    head, _, body = output.partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode("latin-1").split("\r\n")]
    headers = {name.lower(): value for name, _, value in lines}
    status = int(headers.get("status", "200").split()[0])
    return Response(status, body, headers.get("content-type", "text/plain"))


def serves() -> bool:
    """Whether git is installed on this machine, and can serve."""
    if shutil.which("git") is None:
        return False
    folder = Git().run("--exec-path", cwd=os.sep).text
    return os.access(os.path.join(folder, "git-http-backend"), os.X_OK)
