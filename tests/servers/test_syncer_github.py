"""A GitHub App's token in the place of a password."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sidecars.core.errors import SidecarError
from sidecars.core.units import Secret
from sidecars.syncer.credentials import NoAccess
from sidecars.syncer.github_app import NoToken, jwt
from tests.servers.git_server import GitServer
from tests.servers.github_server import GitHubServer
from tests.servers.test_syncer_access import Entrance

INSTALLATION = 77


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHubServer]:
    with GitHubServer(tmp_path_factory.mktemp("github") / "api", issuer="1234", installation=INSTALLATION) as server:
        yield server


@pytest.fixture
def github(keys: GitHubServer) -> GitHubServer:
    """GitHub's API, as if nobody had asked it yet."""
    keys.issuer, keys.life = "1234", timedelta(hours=1)
    keys.issued.clear()
    keys.refused.clear()
    return keys


@pytest.fixture
def enter(tmp_path: Path, github: GitHubServer) -> Iterator[Callable[..., Entrance]]:
    """Make an Access with these settings over those of the App, and start it."""
    with contextlib.ExitStack() as open_:

        def enter(**settings: Any) -> Entrance:
            app: dict[str, Any] = {
                "github_base_url": github.url,
                "github_app_application_id": 1234,
                "github_app_installation_id": INSTALLATION,
                "github_app_private_key": Secret(file=str(github.key)),
            }
            entrance = Entrance(tmp_path, **{"repo": "https://x.example/a", **app, **settings})
            open_.callback(entrance.access.close)
            entrance.access.start()
            return entrance

        yield enter


def test_a_token_lets_in(enter, github, tmp_path):
    with GitServer(tmp_path / "repos", username="-", password="ghs_0secret") as server:
        server.repository("app.git").commit({"a": "one"})
        entrance = enter(repo=server.address("app.git"))
        assert entrance.let_in(), github.refused
        assert entrance.access.login() == ("-", "ghs_0secret")
        assert "ghs_0secret" in entrance.access.secrets()


def test_a_token_is_asked_for_when_it_expires_within_30_seconds(enter, github):
    entrance = enter()
    entrance.refresh()
    entrance.refresh()
    assert github.issued == ["ghs_0secret"]
    assert entrance.renewed == ["success"]
    github.life = timedelta(seconds=29)
    entrance = enter()
    entrance.refresh()
    entrance.refresh()
    assert github.issued == ["ghs_0secret", "ghs_1secret", "ghs_2secret"]
    assert entrance.access.login() == ("-", "ghs_2secret")
    assert "ghs_1secret" in entrance.access.secrets()


def test_the_client_id_is_the_issuer_when_it_is_given(enter, github):
    github.issuer = "Iv1.8a61"
    enter(github_app_application_id=0, github_app_client_id="Iv1.8a61").refresh()
    assert github.refused == []


def test_the_key_may_be_given_as_a_text_and_the_base_url_with_a_slash(enter, github):
    enter(github_app_private_key=Secret(github.key.read_text()), github_base_url=f"{github.url}/").refresh()
    assert github.issued == ["ghs_0secret"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"github_app_application_id": 1},
            r"answers 401 instead of 201 .*\(\"'Expiration time' or issuer is wrong\"\)",
        ),
        ({"github_app_installation_id": 1}, r"Not Found: /api/v3/app/installations/1/access_tokens"),
        ({"github_app_private_key": Secret("no key")}, "no key in PEM"),
        ({"github_app_private_key": Secret("-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n")}, "RSA key"),
        ({"github_base_url": "http://127.0.0.1:1"}, "Connection refused"),
        ({"github_base_url": "file:///etc"}, "no http or https URL"),
    ],
)
def test_without_a_token_the_pass_fails(enter, settings, reason):
    entrance = enter(**settings)
    with pytest.raises(SidecarError, match=reason):
        entrance.refresh()
    assert entrance.renewed == ["error"]


def test_a_key_that_cannot_be_read_stops_the_program(enter):
    with pytest.raises(NoAccess, match="cannot read the secret in /missing"):
        enter(github_app_private_key=Secret(file="/missing"))


def test_another_apps_key_is_refused(enter, github, tmp_path):
    with GitHubServer(tmp_path / "other", issuer="1234", installation=INSTALLATION) as other:
        entrance = enter(github_app_private_key=Secret(file=str(other.key)))
        with pytest.raises(NoToken, match="A JSON web token could not be decoded"):
            entrance.refresh()
    assert github.issued == []


def test_the_ca_file_is_for_github_too(enter, tmp_path):
    with GitHubServer(tmp_path / "secured", issuer="1234", installation=INSTALLATION, tls=True) as secured:
        settings = {"github_base_url": secured.url, "github_app_private_key": Secret(file=str(secured.key))}
        enter(**settings, ca_file=str(secured.ca_file)).refresh()
        enter(**settings, environ={"GIT_SSL_CAINFO": str(secured.ca_file)}).refresh()
        with pytest.raises(SidecarError, match="certificate"):
            enter(**settings).refresh()
        with pytest.raises(SidecarError, match="certificates in /missing"):
            enter(**settings, ca_file="/missing").refresh()


def test_the_key_is_on_no_disk_and_no_command_line(tmp_path, github, monkeypatch):
    program = tmp_path / "openssl"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nstat -Lc "%a" "$6" >> {tmp_path}/said\nexit 1\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NoToken):
        jwt("1234", github.key.read_text(), int(time.time()), 5)
    words, mode = (tmp_path / "said").read_text().splitlines()
    assert words.startswith("dgst -sha256 -passin pass: -sign /proc/")
    assert mode == "600"


def test_without_openssl_it_is_said(github, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoToken, match="needs the openssl program"):
        jwt("1234", github.key.read_text(), int(time.time()), 5)
