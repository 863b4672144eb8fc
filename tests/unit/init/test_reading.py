"""What the checks read: names, statuses, JSON, protobuf, certificates' names."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecars.init.checks.grpc import _asked, serving
from sidecars.init.checks.http import found, matches
from sidecars.init.resolving import impossible
from sidecars.init.tls import _covers

NEVER = [
    ("no-such-name.invalid", "reserved"),
    ("a.INVALID.", "reserved"),
    ("db..svc", "empty label"),
    (".svc", "empty label"),
    ("a b", "no part of a name"),
    ("-a.b", "no part of a name"),
    ("$HOST", "no part of a name"),
    ("a/b", "no part of a name"),
    ("b\xfccher", "no part of a name"),
    ("a" * 64, "too long"),
    ("a." * 127 + "ab", "too long"),
    ("256.0.0.1", "looks like an IPv4 address"),
]


@pytest.mark.parametrize(("name", "words"), NEVER)
def test_a_name_that_can_never_exist_is_known(name: str, words: str) -> None:
    assert words in str(impossible(name))


@pytest.mark.parametrize(
    "name",
    [
        "db",
        "db.prod.svc.cluster.local.",
        "_http._tcp.web",
        "10.0.0.1",
        "::1",
        "fe80::1%eth0",
        "0.pool.ntp.org",
        "a" * 63,
    ],
)
def test_a_name_that_may_exist_is_asked_for(name: str) -> None:
    assert impossible(name) is None


@pytest.mark.parametrize(
    ("status", "wanted", "expected"),
    [
        (200, "2xx", True), (299, "2xx", True), (300, "2xx", False), (204, "200,204", True), (204, "200|204", True),
        (201, "200,204", False), (302, "2xx,3xx", True), (403, "200-404", True), (405, "200-404", False),
    ],
)  # fmt: skip
def test_a_status_is_one_of_those_wanted(status: int, wanted: str, expected: bool) -> None:
    assert matches(status, wanted) is expected


DOCUMENT = {"status": "UP", "db": [{"ok": True}, {"ok": None}]}


@pytest.mark.parametrize(
    ("path", "expected"), [("status", "UP"), ("$.db[0].ok", True), ("db[1].ok", None), ("$.db", DOCUMENT["db"])]
)
def test_a_path_finds_what_stands_there(path: str, expected: object) -> None:
    assert found(DOCUMENT, path) == expected


@pytest.mark.parametrize("path", ["no", "status.x", "status[0]", "db[2]", "db.ok", "db[0][0]"])
def test_a_path_to_nothing_is_a_lookup_error(path: str) -> None:
    with pytest.raises(LookupError):
        found(DOCUMENT, path)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\0\0\0\0\2\x08\1", 1), (b"\0\0\0\0\2\x08\2", 2), (b"\0\0\0\0\0", 0), (b"", -1), (b"\1\0\0\0\2\x08\1", -1),
        (b"\0\0\0\0\3\x08\1", -1), (b"\0\0\0\0\2\x10\1", -1), (b"\0\0\0\0\2\x08\x80", -1),
    ],
)  # fmt: skip
def test_a_health_answer_is_read(data: bytes, expected: int) -> None:
    assert serving(data) == expected


@settings(deadline=None)
@given(st.binary(max_size=20))
def test_any_bytes_are_a_status_or_none(data: bytes) -> None:
    assert serving(data) >= -1


@pytest.mark.parametrize(
    ("service", "message"),
    [(b"", b"\0\0\0\0\0"), (b"a.B", b"\0\0\0\0\5\x0a\3a.B"), (b"x" * 200, b"\0\0\0\0\xcb\x0a\xc8\1" + b"x" * 200)],
)
def test_a_health_request_is_written_as_protobuf_does(service: bytes, message: bytes) -> None:
    assert _asked(service) == message


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("db.example", "DB.example", True), ("*.example", "db.example", True), ("*.example", "a.db.example", False),
        ("*.example", "example", False), ("db.example", "xdb.example", False),
    ],
)  # fmt: skip
def test_a_name_of_a_certificate_covers_a_host(name: str, wanted: str, expected: bool) -> None:
    assert _covers(name, wanted) is expected
