"""Where a listener listens, and what is said when it cannot."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from sidecars.ambassador.listening import open_sockets
from sidecars.ambassador.settings import Listener, Upstream
from sidecars.core.errors import WrongSettings

UPSTREAMS = (Upstream(address="db:1"),)


@contextlib.contextmanager
def opened(listen: str, count: int = 1, **settings: str) -> Iterator[list[socket.socket]]:
    sockets = open_sockets(Listener(listen=listen, upstreams=UPSTREAMS, **settings), count)  # type: ignore[arg-type]
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize("listen", [":0", "localhost:0"])
def test_a_port_alone_is_loopback_of_both_families_at_the_same_port(listen):
    with opened(listen) as sockets:
        addresses = [each.getsockname()[:2] for each in sockets]
    assert [host for host, _ in addresses] == ["127.0.0.1", "::1"]
    assert len({port for _, port in addresses}) == 1


@pytest.mark.parametrize(
    ("listen", "host"),
    [("0.0.0.0:0", "0.0.0.0"), ("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")],
)
def test_an_address_is_listened_on_as_it_is(listen, host):
    with opened(listen) as sockets:
        assert [each.getsockname()[0] for each in sockets] == [host]
        assert not sockets[0].getblocking()


@pytest.mark.parametrize("listen", ["*:0", "[::]:0"])
def test_every_address_of_both_families(listen):
    with opened(listen) as sockets:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, sockets[0].getsockname()[1])).close()


def test_each_process_has_a_socket_of_each_address():
    with opened(":0", 3) as sockets:
        assert [each.getsockname()[0] for each in sockets] == ["127.0.0.1"] * 3 + ["::1"] * 3
        assert len({each.getsockname()[1] for each in sockets}) == 1


@pytest.mark.parametrize("count", [1, 2])
def test_a_port_that_is_taken_is_said(count):
    with opened("127.0.0.1:0", 2) as sockets:
        port = sockets[0].getsockname()[1]
        with pytest.raises(WrongSettings, match=rf"cannot listen on :{port}: Address already in use; another program"):
            open_sockets(Listener(listen=f":{port}", upstreams=UPSTREAMS), count)


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("192.0.2.1:80", "give an address that this machine has"),
        ("/nowhere/at/all.sock", "is the volume mounted"),
        (__file__, "there is a file that is no socket; remove it"),
    ],
)
def test_what_cannot_be_listened_on_is_said(listen, message):
    with pytest.raises(WrongSettings, match=message):
        open_sockets(Listener(listen=listen, upstreams=UPSTREAMS))
    assert os.path.exists(__file__)


def test_the_mode_of_a_unix_socket(tmp_path):
    with opened(str(tmp_path / "a"), 4, mode="0600") as sockets:
        assert len(sockets) == 1
        assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o600
    assert os.path.exists(tmp_path / "a")  # who listens next removes it
