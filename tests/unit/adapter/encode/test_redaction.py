from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter.encode import encoder
from sidecars.adapter.table import Field, Json, Objects, Record, Segment, Table, Unparsed
from tests.unit.adapter.encode.samples import SEGMENTS, few, settings, shaping

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"
ALL = ("email", "ip", "token")


def redacted(text: str, *kinds: str) -> str:
    return shaping(redact=kinds).redacted(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("mail joe.o+x@shop.example.org, now", "mail ***, now"),
        ("/u?m=joe%40shop.example&x=1", "/u?m=***&x=1"),
        ("/u?m=joe%2Bx%40shop.example", "/u?m=***"),
        ("<jörg@müller.example>", "<***>"),
        ("root@localhost", "***"),
        ("two a@b.c;d@e.f", "two ***;***"),
        ("not @ all, 50%40", "not @ all, 50%40"),
        (r"joe\u0040shop.example", "***"),
        (r"joe\x40shop.example", "***"),
        (r"tab\x09stays", r"tab\x09stays"),
    ],
)
def test_addresses_of_mail_are_blacked_out(text: str, after: str) -> None:
    assert redacted(text, "email") == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("from 10.0.0.1.", "from ***."),
        ("10.0.0.1:8080", "***:8080"),
        ("...10.0.0.1", "...***"),
        ("[::1]:80 fe80::1%eth0 ::ffff:10.0.0.1", "[***]:80 *** ***"),
        ("client:2001:db8:0:0:0:0:2:1, x", "client:***, x"),
        ("2001:DB8::8:800:200C:417A: refused", "***: refused"),
        ("at 06:10:11 and 1.2.3", "at 06:10:11 and 1.2.3"),
        ("00:1b:44:11:3a:b7 std::string", "00:1b:44:11:3a:b7 std::string"),
        ("2026-11-23T06:00:00.123+00:00", "2026-11-23T06:00:00.123+00:00"),
    ],
)
def test_addresses_of_machines_are_blacked_out(text: str, after: str) -> None:
    assert redacted(text, "ip") == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("Authorization: Bearer abc.def-123", "Authorization: ***"),
        ('"authorization": "Basic dXNlcjpwYXNz"', '"authorization": "***"'),
        ("authorization=abc", "authorization=***"),
        ("got Bearer abcdef123456 from", "got Bearer *** from"),
        ("Basic authentication failed", "Basic authentication failed"),
        (f"session {JWT} ok", "session *** ok"),
        ("/x?jwt=%22" + JWT, "/x?jwt=%22***"),
        ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
        ("/a?api_key=k1&x=2", "/a?api_key=***&x=2"),
        ("/a?access_token=k1%3D&x=2", "/a?access_token=***&x=2"),
        ("X-Api-Key: k1", "X-Api-Key: ***"),
        ("aws_secret_access_key=wJalr/XUtn+FEMI", "aws_secret_access_key=***"),
        ("user=joe password=hunter2 ok", "user=joe password=*** ok"),
        ('password="a b\\"c" ok', 'password="***" ok'),
        ('{"password": "a b", "x": 1}', '{"password": "***", "x": 1}'),
        ('{"password":null,"pin":1}', '{"password":***,"pin":1}'),
        (r"{\"password\":\"a b\",\"x\":1}", r"{\"password\":\"***\",\"x\":1}"),
        ("pwd='a b' x", "pwd='***' x"),
        ("client_secret=s3cr3t; token: t0k", "client_secret=***; token: ***"),
        ("prompt_tokens=512 tokens: 5", "prompt_tokens=512 tokens: 5"),
        ("https://joe:pa@ss@host/x", "https://***@host/x"),
        ("push ghp_abcdefghijklmnopqrstuvwxyz0123456789", "push ***"),
        ("github_pat_11ABCDEFG0abcdefghijkl_mn", "***"),
        ("xoxb-123456789012-abcdefGHIJ glpat-abcdefghij0123456789", "*** ***"),
        ("nothing here", "nothing here"),
    ],
)
def test_secrets_are_blacked_out(text: str, after: str) -> None:
    assert redacted(text, "token") == after


def test_one_flag_may_name_several_kinds() -> None:
    assert redacted("joe@x.org 10.0.0.1", "email,ip") == "*** ***"


def test_own_patterns_are_blacked_out() -> None:
    assert shaping(redact_pattern=(r"\bcard-\d+", "x{3}")).redacted("card-12 xxx xx") == "*** *** xx"


def test_it_reaches_what_is_nested_and_what_is_called_a_secret() -> None:
    record: Record = {
        "a": [{"b": "x@y.z"}, 5],
        "u": {"password": 12, "n": {"Api-Key": ["k"]}},
        "x@y.z": 1,
        "token": "t",
        "tokens": 7,
        "time": "2026-11-23T06:00:00Z",
        "password": None,
    }
    (after,) = shaping(redact=ALL).records([Objects([record], [b""])], "x")
    assert after == {
        "a": [{"b": "***"}, 5],
        "u": {"password": "***", "n": {"Api-Key": "***"}},
        "***": 1,
        "token": "***",
        "tokens": 7,
        "time": "2026-11-23T06:00:00Z",
        "password": None,
    }


def test_an_own_pattern_reaches_numbers_but_not_times() -> None:
    record: Record = {"card": 4111111111111111, "time": "2026-11-23T06:00:00Z", "level": "info", "ok": True}
    (after,) = shaping(redact_pattern=(r"\d{4}", "info")).records([Objects([record], [b""])], "x")
    assert after == {"card": "************", "time": "2026-11-23T06:00:00Z", "level": "info", "ok": True}


SECRETS = (
    "joe@shop.example.org",
    "joe%40shop.example.org",
    "10.20.30.40",
    "2001:db8::77",
    "hunter2hunter2",
    JWT,
)
LINE = "10.20.30.40 2001:db8::77 joe@shop.example.org /x?m=joe%40shop.example.org&password=hunter2hunter2 " + JWT


def _segments() -> list[Segment]:
    cells = [[LINE.encode()], [b"hunter2hunter2"]]
    fields = [Field("path"), Field("password")]
    raw = [f'{LINE} "hunter2hunter2"'.encode()]
    record: Record = {"a": {"b": [LINE]}, "token": "hunter2hunter2", "api_key": [{"k": "hunter2hunter2"}]}
    escaped = json.dumps(record).replace("@", "\\u0040")
    return [
        Table(fields, cells, raw, True),
        Table(fields, [[LINE.encode() + b"\xff"], cells[1]], raw, False),
        Objects([record], [escaped.encode()]),
        Json(json.dumps(record).encode() + b"\n", 1, frozenset()),
        Json(escaped.encode() + b"\n", 1, frozenset()),
        Unparsed([LINE.encode() + b"\xff"], "odd: " + LINE),
    ]


@pytest.mark.parametrize("to", ["jsonl", "ecs", "otlp", "gelf", "logfmt", "csv", "template"])
def test_no_encoder_lets_anything_out(to: str) -> None:
    template = "{path} {password} {a} {token} {message} {parse_error}"
    given = settings(redact=ALL, template=template) if to == "template" else settings(redact=ALL)
    for segment in _segments():
        out = b"".join(encoder(given, to).encode([segment], "/logs/a.log")).decode()
        assert not [secret for secret in SECRETS if secret in out]
        assert "***" in out


@few
@given(st.lists(SEGMENTS, max_size=3))
def test_what_has_nothing_to_hide_comes_out_as_it_is(segments: list[Segment]) -> None:
    plain = list(shaping().records(segments, "x"))
    if not any(mark in repr(plain) for mark in ("@", "%40", ".", "::")):
        assert list(shaping(redact=("email", "ip")).records(segments, "x")) == plain


_PIECES = st.sampled_from(
    ["joe@x.org", "10.0.0.1", "1.", ".1", "::1", "token", "=", ":", " ", "'", "password=", "bearer ", "x" * 9, "a", "é"]
)


@few
@given(st.lists(st.lists(_PIECES, max_size=4).map("".join), min_size=1, max_size=6), st.booleans())
def test_whole_columns_are_blacked_out_as_single_values_are(texts: list[str], twice: bool) -> None:
    cells = [text.encode() for text in texts] * (1 + twice)
    table = Table([Field("path"), Field("n", "integer")], [cells, [b"1"] * len(cells)], cells, "é" not in repr(texts))
    alone = Objects(list(table.records()), cells)
    after = shaping(redact=ALL)
    assert list(after.documents([table], "x")) == list(after.documents([alone], "x"))


NASTY = (
    *("a", "@", "a@", "@a.", "a.", "%40", "%2B", "1", "1.", "1.1.1.", ":", "a:", "::", "1::", "::1:"),
    *(
        "eyJ",
        "eyJaaaaa.",
        "AKIA",
        "ghp_",
        "github_pat_",
        "xoxb-",
        "glpat-",
        "://",
        "://a:",
        "key",
        "api_key=",
        "token:",
    ),
    *(
        'password="',
        "password='",
        'password=\\"',
        "password",
        "secret ",
        "bearer ",
        "basic",
        "authorization",
        "\\u00",
        "\\",
    ),
    *("authorization: bearer ", "\\x40", " ", '"', "é", "token%3", "token => "),
)


@pytest.mark.parametrize("kind", ALL)
def test_a_hostile_line_takes_no_longer_than_another(kind: str) -> None:
    redactor = shaping(redact=(kind,))
    for piece in NASTY:
        line = piece * (400_000 // len(piece))
        began = time.process_time()
        redactor.redacted(line)
        assert time.process_time() - began < 3, piece
