"""The recipes of docs/ambassador.md, as they stand there: each with its config file, its secrets and what curl gets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
import yaml

from tests.servers.ambassador import PATIENCE, Ambassador, configured, running
from tests.servers.mirror import Mirror
from tests.servers.redis_server import RedisServer

PAGE = Path(__file__).parents[2] / "docs" / "ambassador.md"

if not shutil.which("curl") and os.environ.get("CI") == "true":
    raise RuntimeError("curl is not installed: apt-get install curl")
pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="NOT PROVEN HERE: needs curl")


class Recipe(NamedTuple):
    """A heading with a config file and what one types.

    files  what the secrets hold, by their path
    """

    number: int
    title: str
    config: dict[str, Any]
    files: dict[str, str]
    examples: list[tuple[str, str]]

    def host(self, listener: int) -> str:
        """Of loopback, the address that one of its listeners has for itself: the kernel chooses the port."""
        return f"127.{listener}.0.{self.number + 2}"


def recipes() -> Iterator[Recipe]:
    found = 0
    for section in re.split(r"(?m)^(?=#{2,4} )", PAGE.read_text()):
        blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        typed = "".join(text for language, text in blocks if language == "shellsession")
        if typed:
            (config,) = (yaml.safe_load(text) for language, text in blocks if language == "yaml")
            texts = [text.partition("\n") for language, text in blocks if language == "text"]
            files = {first.removeprefix("# "): rest for first, _, rest in texts}
            examples = [example.partition("\n") for example in re.split(r"(?m)^\$ ", typed)[1:]]
            yield Recipe(found, section.splitlines()[0].strip("# "), config, files, [(a, b) for a, _, b in examples])
            found += 1


RECIPES = list(recipes())


class Kitchen:
    """An ambassador that does what all recipes say, before the servers that they speak of."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._secure()
        self._addresses: dict[str, str] = {}
        self._tokens()
        listeners = [
            self._listener(recipe, number, listener)
            for recipe in RECIPES
            for number, listener in enumerate(recipe.config["listeners"])
        ]
        for recipe in RECIPES:
            for path, text in recipe.files.items():
                Path(self.path(path)).write_text(text)
        flag = configured(folder / "recipes.json", *listeners, allow_public=True)
        self.ambassador: Ambassador = stack.enter_context(running(flag))

    def path(self, text: str) -> str:
        """Put the test's folder before each path of a recipe."""
        return re.sub(r"(?<![\w/.])/(?=(?:secrets|tls|run)/)", f"{self.folder}/", text)

    def _secure(self) -> None:
        for name in ("secrets", "tls", "run"):
            (self.folder / name).mkdir()
        authority = trustme.CA()
        hosts = [recipe.host(number) for recipe in RECIPES for number, _ in enumerate(recipe.config["listeners"])]
        ours = authority.issue_cert("127.0.0.1", *hosts)
        self.ca = self.folder / "tls/ca.crt"
        authority.cert_pem.write_to_path(str(self.ca))
        ours.cert_chain_pems[0].write_to_path(str(self.folder / "tls/tls.crt"))
        ours.private_key_pem.write_to_path(str(self.folder / "tls/tls.key"))
        client = authority.issue_cert("client.example")
        client.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "tls/client.pem"))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.configure_cert(self.context)

    def _tokens(self) -> None:
        import jwt
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "1", "use": "sig"}
        self.login = self._mirror(tls=True, pages={"/jwks": json.dumps({"keys": [public]}).encode()})
        claims = {
            "iss": "https://login.example", "aud": "shop", "sub": "ada", "scope": "orders:read orders:write",
            "tenant": {"plan": "paid"},
        }  # fmt: skip

        def token(left: int) -> str:
            return jwt.encode({**claims, "exp": int(time.time()) + left}, key, "ES256", {"kid": "1"})

        self.environ = {"TOKEN": token(3600), "EXPIRED": token(-3600)}

    def _mirror(self, path: str | None = None, *, tls: bool = False, **options: Any) -> Mirror:
        return self._stack.enter_context(Mirror(path, tls=self.context if tls else None, **options))

    def _listener(self, recipe: Recipe, number: int, listener: dict[str, Any]) -> dict[str, Any]:
        listen = listener["listen"]
        if not listen.startswith("/"):
            listen = f"{recipe.host(number)}:0"
        mapped = yaml.safe_load(self.path(yaml.safe_dump({**listener, "listen": listen})))
        for upstream in mapped["upstreams"]:
            upstream["address"] = self._address(upstream["address"], mapped)
            if "tls" in upstream:
                upstream["tls"] = {**upstream["tls"], "ca": str(self.ca)}
        jwt = mapped.get("http", {}).get("auth", {}).get("jwt")
        if jwt:
            jwt.update(jwks=f"https://{self.login.address}/jwks", jwks_ca=str(self.ca))
        return dict(mapped)

    def _address(self, address: str, listener: dict[str, Any]) -> str:
        if address not in self._addresses:
            self._addresses[address] = self._server(address, listener)
        return self._addresses[address]

    def _server(self, address: str, listener: dict[str, Any]) -> str:
        """Start what is spoken of as this address."""
        if "redis" in listener:
            return self._stack.enter_context(RedisServer()).path
        if address.startswith("/"):
            return self._mirror(address).address
        if address.startswith("down."):
            with socket.create_server(("127.0.0.1", 0)) as gone:
                return f"127.0.0.1:{gone.getsockname()[1]}"
        return self._mirror(tls=address.endswith(":443"), flaky=address.startswith("flaky.")).address

    def typed(self, recipe: Recipe, command: str) -> str:
        """What one gets for a command."""
        for number, listener in enumerate(recipe.config["listeners"]):
            port = listener["listen"].rpartition(":")[2]
            if port.isdecimal():
                host = recipe.host(number)
                command = command.replace(f"127.0.0.1:{port}", f"{host}:{self.ambassador.listens_at(f'{host}:0')}")
        done = subprocess.run(
            ["bash", "-c", self.path(command)],
            env={**os.environ, **self.environ, "CURL_HOME": str(self.folder)},
            capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def kitchen() -> Iterator[Kitchen]:
    # Not tmp_path: a unix socket's path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="recipes") as folder, contextlib.ExitStack() as stack:
        (Path(folder) / ".curlrc").write_text(f"silent\nmax-time = {PATIENCE}\n")
        yield Kitchen(Path(folder), stack)


def pattern(expected: str) -> str:
    """A line `...` is for any lines, and ... in a line for any text."""
    lines = [
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(re.escape("..."), ".*") + r"\n"
        for line in expected.rstrip("\n").split("\n")
    ]
    return "".join(lines)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title)
def test_a_recipe_does_what_the_page_says(recipe: Recipe, kitchen: Kitchen) -> None:
    for command, expected in recipe.examples:
        said = kitchen.typed(recipe, command).replace("\r\n", "\n").rstrip() + "\n"
        assert re.fullmatch(pattern(expected), said), f"$ {command}\n{said}"


def test_every_duty_has_a_recipe() -> None:
    assert len(RECIPES) >= 15
