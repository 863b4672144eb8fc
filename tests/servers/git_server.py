"""A git server for tests: bare repositories under a directory, served over smart HTTP by the real `git http-backend`.

with GitServer(tmp_path / "repos", username="bot", password="hunter2") as server:
    repository = server.repository("app.git")
    hash = repository.commit({"index.html": "one"})
    ... f"{server.url}/app.git" ...

It can ask for a password (Basic), speak TLS, and do badly: `server.answer` is called before each request.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any, NamedTuple, Self
from urllib.parse import quote, urlsplit

_PIECE = 64 * 1024
# The backend sees no configuration but this; what it serves belongs to whoever runs the tests.
_CONFIGURATION = {"safe.directory": "*", "uploadpack.allowFilter": "true", "uploadpack.allowAnySHA1InWant": "true"}


class Gitlink(NamedTuple):
    """What a tree holds for a submodule: the commit of the other repository."""

    hash: str


class Executable(NamedTuple):
    """A file that may be run."""

    text: str


class Symlink(NamedTuple):
    """A symlink to a target."""

    target: str


Content = str | bytes | Gitlink | Executable | Symlink | None


class Repository:
    """A bare repository, to which commits are added without a working tree."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.mkdir(parents=True)
            self.git("init", "-q", "--bare", "-b", "main")

    def git(self, *words: str, data: bytes | None = None) -> str:
        """What git says in it, without the newline at the end."""
        done = subprocess.run(
            ["git", *words], cwd=self.path, env=environment(), input=data, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().removesuffix("\n")

    def tip(self, ref: str = "refs/heads/main") -> str:
        """The hash of a ref; empty when there is none."""
        return self.git("for-each-ref", "--format=%(objectname)", ref)

    def commit(
        self,
        files: Mapping[str, Content],
        message: str = "a commit",
        ref: str = "refs/heads/main",
        parent: str | None = None,
        when: int = 1_700_000_000,
    ) -> str:
        """Put these files (None: deleted) on top of the ref, or of the parent ("": nothing); give the new hash."""
        parent = self.tip(ref) if parent is None else parent
        stream = [f"commit {ref}\ncommitter A U Thor <author@example.org> {when} +0000\n".encode(), _data(message)]
        # fast-import builds on what the ref holds, unless told otherwise: a commit without a parent needs a reset.
        stream = [*stream, f"from {parent}\n".encode()] if parent else [f"reset {ref}\n\n".encode(), *stream]
        stream += [_change(path, content) for path, content in files.items()]
        self.git("fast-import", "--quiet", "--force", data=b"".join(stream))
        return self.tip(ref)


def _data(content: str | bytes) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return b"data %d\n%s\n" % (len(data), data)


def _change(path: str, content: Content) -> bytes:
    name = path.encode()
    match content:
        case None:
            return b"D %s\n" % name
        case Gitlink(hash):
            return b"M 160000 %s %s\n" % (hash.encode(), name)
        case Executable(text):
            return b"M 100755 inline %s\n%s" % (name, _data(text))
        case Symlink(target):
            return b"M 120000 inline %s\n%s" % (name, _data(target))
        case str() | bytes():
            return b"M 100644 inline %s\n%s" % (name, _data(content))


def environment() -> dict[str, str]:
    """An environment in which git heeds no configuration of this machine."""
    pairs = enumerate(_CONFIGURATION.items())
    variables = {
        f"GIT_CONFIG_{kind}_{n}": text for n, pair in pairs for kind, text in zip(("KEY", "VALUE"), pair, strict=True)
    }
    return {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "true",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(_CONFIGURATION)),
        **variables,
    }


class Request(NamedTuple):
    """A request as it came.

    path    /app.git/info/refs
    query   service=git-upload-pack
    login   user:password, or nothing
    status  what was answered; 0 before it is
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    login: str
    status: int = 0


class Reply(NamedTuple):
    """What is answered instead of what git says."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Break(NamedTuple):
    """Let so many bytes of git's answer through, then call `then` (which may wait), and cut the connection."""

    after: int
    then: Callable[[], object] = lambda: None


class GitServer:
    """Serve the repositories of a directory on a free port of loopback.

    answer    called in the request's own thread before it is served: may wait (a slow server), and gives None (serve
              it), a Reply, or a Break
    requests  all that were answered
    logins    the passwords that are taken, by user name; empty: everybody may read
    ca_file   the certificate to trust, with tls
    """

    def __init__(
        self, directory: Path, *, username: str = "", password: str = "", tls: bool = False, port: int = 0
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.logins = {username: password} if username or password else {}
        self.answer: Callable[[Request], Reply | Break | None] = lambda _request: None
        self.requests: list[Request] = []
        self.faults: list[BaseException] = []
        self.ca_file = directory.parent / f"{directory.name}.ca.pem"
        self._tls = server_context(self.ca_file) if tls else None
        self._server = _Server(self, self._tls, port)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="git server")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self.cut()
        self._server.server_close()  # joins the threads of the requests
        assert not self.faults, self.faults

    def repository(self, name: str) -> Repository:
        """The repository of this name; it is made if it is not there."""
        return Repository(self.directory / name)

    def address(self, name: str, userinfo: str = "") -> str:
        """The URL of a repository, with this userinfo."""
        url = urlsplit(f"{self.url}/{quote(name)}")
        return url._replace(netloc=f"{userinfo}@{url.netloc}").geturl() if userinfo else url.geturl()

    def cut(self) -> None:
        """Cut all connections that are open."""
        for connection in list(self._server.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def server_context(ca_file: Path) -> ssl.SSLContext:
    import trustme

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, owner: GitServer, tls: ssl.SSLContext | None, port: int) -> None:
        self.owner = owner
        self.tls = tls
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls:  # The handshake is made at the first read, in the connection's own thread.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        import sys

        fault = sys.exception()
        if fault is not None and not isinstance(fault, OSError | ValueError):
            self.owner.faults.append(fault)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = _PIECE

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        url = urlsplit(self.path)
        request = Request(self.command, url.path, url.query, dict(self.headers.items()), self._login())
        body = self._body()
        answer = self._refusal(request) or self.server.owner.answer(request)
        status = self._reply(answer) if isinstance(answer, Reply) else self._git(request, body, answer)
        self.server.owner.requests.append(request._replace(status=status))
        self.wfile.flush()

    do_GET = do_POST = do_HEAD = _serve  # noqa: N815  (the names that http.server calls)

    def _login(self) -> str:
        kind, _, text = self.headers.get("Authorization", "").partition(" ")
        return base64.b64decode(text).decode() if kind.lower() == "basic" else ""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _refusal(self, request: Request) -> Reply | None:
        logins = self.server.owner.logins
        user, _, password = request.login.partition(":")
        if not logins or (request.login and logins.get(user) == password):
            return None
        return Reply(401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="git"'})

    def _reply(self, reply: Reply) -> int:
        self.send_response(reply.status)
        for name, text in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(reply.body)
        return reply.status

    def _git(self, request: Request, body: bytes, broken: Break | None) -> int:
        backend = subprocess.Popen(
            ["git", "http-backend"],
            env={**environment(), **self._variables(request, body)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert backend.stdin and backend.stdout
        feeder = threading.Thread(target=_feed, args=(backend.stdin, body))
        feeder.start()
        try:
            return self._relay(backend.stdout, broken)
        finally:
            backend.kill()
            backend.stdout.close()
            backend.wait()
            feeder.join()

    def _variables(self, request: Request, body: bytes) -> dict[str, str]:
        return {
            "GIT_PROJECT_ROOT": str(self.server.owner.directory),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_USER": request.login.partition(":")[0],
        }

    def _relay(self, output: IO[bytes], broken: Break | None) -> int:
        status, headers = 200, []
        while line := output.readline().strip():
            name, _, text = line.decode().partition(": ")
            if name.lower() == "status":
                status = int(text.split()[0])
            else:
                headers.append((name, text))
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        left = broken.after if broken else None
        while piece := output.read1(_PIECE):  # type: ignore[attr-defined]
            piece, left = (piece, None) if left is None else (piece[:left], left - min(left, len(piece)))
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if piece else b"")
            self.wfile.flush()
            if left == 0:
                self._cut(broken)
                return status
        self.wfile.write(b"0\r\n\r\n")
        return status

    def _cut(self, broken: Break | None) -> None:
        if broken:
            broken.then()
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


def _feed(pipe: IO[bytes], body: bytes) -> None:
    with contextlib.suppress(OSError), pipe:
        pipe.write(body)
