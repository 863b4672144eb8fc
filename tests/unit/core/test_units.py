"""Durations, sizes, addresses and secrets, as operators write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.core.units import Address, Bytes, Seconds, Secret


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5),
        ("0", 0),
        ("0.5", 0.5),
        (".5s", 0.5),
        ("5s", 5),
        ("2m", 120),
        ("1h30m", 5400),
        ("2h45m10.5s", 9910.5),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("1s500ms", 1.5),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("100ns", 1e-7),
        ("1d", 86400),
    ],
)
def test_a_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert Seconds.read(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "5x", "-5", "+5", "1h 30m", "5 s", "1e3", "inf", "nan", "s", "5.5.5", "\u0665s", "9" * 400, "5S"],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Seconds.read(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (5, "5s"), (90, "1m30s"), (5400, "1h30m"), (0.25, "250ms"), (1.5, "1.5s"), (90000, "25h")],
)
def test_a_duration_is_written_as_it_is_read(seconds: float, text: str) -> None:
    assert str(Seconds(seconds)) == text
    assert Seconds.read(text) == seconds


@given(st.integers(0, 10**9) | st.integers(0, 10**7).map(lambda n: n / 1000))
def test_every_duration_survives_being_written_and_read(seconds: float) -> None:
    assert Seconds.read(str(Seconds(seconds))) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("100", 100),
        ("100B", 100),
        ("64KiB", 65536),
        ("64Ki", 65536),
        ("64 KiB", 65536),
        ("10M", 10_000_000),
        ("1GB", 10**9),
        ("1kB", 1000),
        ("1.5MiB", 1572864),
        ("0.5k", 500),
        ("2TiB", 2**41),
    ],
)
def test_a_size_is_read_with_its_unit(text: str, size: int) -> None:
    assert Bytes.read(text) == size


@pytest.mark.parametrize(
    "text", ["", "much", "-1", "1.0001KiB", "0.5", "1PB", "1i", "1iB", "1e3", "B", "1 0", "\u0663"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Bytes.read(text)


@given(st.integers(0, 2**60))
def test_every_size_survives_being_written_and_read(size: int) -> None:
    assert Bytes.read(str(Bytes(size))) == size


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80),
        (":9101", "", 9101),
        ("[::1]:9101", "::1", 9101),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("[::]:0", "::", 0),
        ("db.prod_1.svc:65535", "db.prod_1.svc", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = Address(text)
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "9101",
        "a",
        "a:",
        "a:http",
        "a:65536",
        "a:\u0663",
        "::1:80",
        "[::1]",
        "[a]:1",
        "[::1:80",
        "a b:1",
        "u@h:1",
        "h/p:1",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Address(text)


@given(st.text(max_size=20))
def test_no_text_makes_a_unit_fail_otherwise_than_by_a_value_error(text: str) -> None:
    for unit in (Seconds, Bytes, Address):
        try:
            unit.read(text)
        except ValueError:
            continue


def test_a_secret_is_read_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"two\nlines\r\n\r\n")
    assert Secret(file=str(tmp_path / "key")).reveal() == "two\nlines\r\n"


def test_a_secret_is_read_anew_when_kubernetes_swaps_its_mount(tmp_path: Path) -> None:
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(version)
        os.utime(tmp_path / version / "key", (1, 1))
    (tmp_path / "data").symlink_to("old")
    (tmp_path / "key").symlink_to("data/key")
    secret = Secret(file=str(tmp_path / "key"))
    assert secret.reveal() == "old"
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(tmp_path / "data")
    assert secret.reveal() == "new"


def test_a_secret_stays_in_force_when_its_file_is_gone_or_empty(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("hunter2")
    secret = Secret(file=str(file))
    assert secret.reveal() == "hunter2"
    file.write_text("")
    assert secret.reveal() == "hunter2"
    file.unlink()
    assert secret.reveal() == "hunter2"


def test_a_secret_that_never_could_be_read_says_where_it_should_be(tmp_path: Path) -> None:
    with pytest.raises(WrongSettings, match=r"cannot read the secret in .*/key: No such file or directory"):
        Secret(file=str(tmp_path / "key")).reveal()


def test_no_text_of_a_secret_says_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2")
    file = Secret(file=str(tmp_path / "key"))
    file.reveal()
    for secret in (Secret("hunter2"), file):
        assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
