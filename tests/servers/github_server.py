"""What git-syncer asks of GitHub's API, in small: a token for an App's installation, for who signs the request.

The contract is docs.github.com's: POST /app/installations/ID/access_tokens, a JWT signed with RS256 whose life is at
most ten minutes, 201 with `token` and `expires_at`. The signature is verified by openssl, with the public key.
"""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.servers.git_server import server_context


class GitHubServer:
    """GitHub's API on a free port, for one App with one installation.

    key       the App's private key
    life      for how long tokens are good
    issued    every token given
    refused   why a request was refused
    """

    def __init__(self, directory: Path, *, issuer: str, installation: int, tls: bool = False) -> None:
        directory.mkdir(parents=True)
        self.key, self._public = directory / "key.pem", directory / "public.pem"
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", self.key, "-pubout", "-out", self._public], check=True, capture_output=True
        )
        self.issuer, self.installation = issuer, installation
        self.life = timedelta(hours=1)
        self.issued: list[str] = []
        self.refused: list[str] = []
        self.ca_file = directory / "ca.pem"
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls:
            self._server.socket = server_context(self.ca_file).wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}/api/v3"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                problem = owner.problem(self.path, self.headers)
                status, answer = (401, {"message": problem}) if problem else (201, owner.token())
                owner.refused += [problem] if problem else []
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def token(self) -> dict[str, str]:
        self.issued.append(f"ghs_{len(self.issued)}secret")
        expires = datetime.now(UTC) + self.life
        return {"token": self.issued[-1], "expires_at": expires.strftime("%Y-%m-%dT%H:%M:%SZ")}

    def problem(self, path: str, headers: Mapping[str, str]) -> str:
        """Why the request is refused; nothing if it is not."""
        if path != f"/api/v3/app/installations/{self.installation}/access_tokens":
            return f"Not Found: {path}"
        if headers["Accept"] != "application/vnd.github+json" or not headers["User-Agent"]:
            return "Request forbidden by administrative rules"
        kind, _, jwt = headers["Authorization"].partition(" ")
        head, _, signature = jwt.rpartition(".")
        if kind != "Bearer" or not self._verified(head, _decoded(signature)):
            return "A JSON web token could not be decoded"
        header, claims = (json.loads(_decoded(part)) for part in head.split("."))
        good = header["alg"] == "RS256" and claims["iss"] == self.issuer
        timely = claims["iat"] <= time.time() + 1 and 0 < claims["exp"] - time.time() <= 600
        return "" if good and timely else "'Expiration time' or issuer is wrong"

    def _verified(self, text: str, signature: bytes) -> bool:
        path = self._public.with_name("signature")
        path.write_bytes(signature)
        command = ["openssl", "dgst", "-sha256", "-verify", self._public, "-signature", path]
        return subprocess.run(command, input=text.encode(), capture_output=True, check=False).returncode == 0


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
