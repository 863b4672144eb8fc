# ruff: noqa: E501  (a line of a log, and what is in it, are read best side by side)

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.adapter import formats
from sidecars.adapter.formats import grok
from sidecars.adapter.formats.backtracking import Danger, degree
from sidecars.adapter.table import Record
from tests.unit.adapter.formats.cases import COMBINED, records, unparsed

_MAIN = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)


@pytest.mark.parametrize(
    ("text", "line", "record"),
    [
        (_MAIN, COMBINED, {"client": "192.0.2.1", "time": "2026-01-31T09:30:00+01:00", "path": "/a?b=c", "status": 200, "bytes": 12, "user_agent": "curl/8"}),
        (_MAIN + ' rt=$request_time us="$upstream_status" $http_x_id', COMBINED + b' rt=0.25 us="502, 200" 7', {"duration": 0.25, "upstream_status": "502, 200", "x_id": "7"}),
        ("log_format main '$remote_addr '\n  '\"$request_method $uri\" $status';", b'::1 "GET /a b" -', {"client": "::1", "method": "GET", "path": "/a b"}),
        ("$host|${status}|$request_time", b"a|404|0.5", {"authority": "a", "status": 404, "duration": 0.5}),
        ("$time_iso8601 -- $msec", b"2026-01-31T09:30:00+01:00 -- 1769851800.123", {"time": "2026-01-31T09:30:00+01:00", "time_2": "1769851800.123"}),
        ('escape=json {"a":"$remote_addr","b":$status}', b'{"a":"::1","b":200}', {"a": "::1", "b": 200}),
        ('{"a":"$remote_addr","b":$status}', b'{"a":"::1","b":200}', {"a": "::1", "b": 200}),
        (r'%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\" %D', COMBINED + b" 1500", {"client": "192.0.2.1", "path": "/a?b=c", "status": 200, "user_agent": "curl/8", "duration": 0.0015}),
        ("%v:%p %a %T %{ms}T %{X-Id}o %P", b"shop:80 ::1 2 7 - 12", {"server": "shop", "port": 80, "client": "::1", "duration": 2.0, "duration_2": 0.007, "pid": 12}),
        ("%{IPORHOST:client} %{WORD:method} %{URIPATHPARAM:path} %{NUMBER:n:int} %{NUMBER:duration:float}", b"55.3.244.1 GET /a?b 15824 1", {"client": "55.3.244.1", "method": "GET", "path": "/a?b", "n": 15824, "duration": 1.0}),
        ("%{COMBINEDAPACHELOG}", COMBINED, {"client": "192.0.2.1", "status": 200, "bytes": 12, "path": "/a?b=c", "user_agent": "curl/8"}),
        ("%{TIMESTAMP_ISO8601:timestamp} %{LOGLEVEL:[log][level]} %{GREEDYDATA:message}", b"2026-01-31T09:30:00Z WARN a b", {"time": "2026-01-31T09:30:00Z", "level": "warning", "message": "a b"}),
        ("%{SYSLOGLINE}", b"Jan 31 09:30:00 web-0 cron[12]: run", {"host": "web-0", "process": "cron", "pid": 12, "message": "run"}),
        (r"^(?<time>\S+) (?P<level>\w+) (?<status>\S+) (?<n>\d+) (?<x>.*)$", b"2026-01-31T09:30:00Z WARN - 7 a b\r", {"n": 7, "time": "2026-01-31T09:30:00Z", "level": "warning", "x": "a b"}),
        (r"user=(?<user>\w+)", b"login user=ada ok", {"user": "ada"}),
    ],
)  # fmt: skip
def test_a_description_reads_what_it_describes(text: str, line: bytes, record: Record) -> None:
    (found,) = records(text, line + b"\n")
    assert record.items() <= found.items()
    assert "parse_error" not in found


@given(
    st.lists(
        st.text(
            st.characters(codec="ascii", exclude_characters="|\r\n\\", exclude_categories=["Cc"]),
            min_size=1,
            max_size=12,
        ),
        min_size=3,
        max_size=3,
    )
)
def test_what_nginx_writes_by_a_format_is_read_again(values: list[str]) -> None:
    line = "|".join(values).encode()
    names = ("a", "b", "c")
    (found,) = records("$a|$b|$c", line + b"\n")
    assert found == {name: value for name, value in zip(names, values, strict=True) if value != "-"}


@pytest.mark.parametrize(
    ("expression", "power"),
    [
        (rb"^(?P<a>\S+) (?P<b>\S+)$", 1), (rb'^(?P<x>[^ ]*) \[(?P<y>[^\]]*)\] "(?P<z>[^"]*)"', 1), (rb"^a.*$", 1), (rb"foo", 1),
        (rb"^(.*) (.*)$", 2), (rb".*x.*y.*z", 4), (rb"\S+ x", 2), (rb"^(?:,\s*\w+)*$", 1), (rb"^(?:a|b.*c)d$", 1 + 0),
    ],
)  # fmt: skip
def test_the_power_of_an_expression_is_told(expression: bytes, power: int) -> None:
    assert degree(expression) >= power
    if power == 1:
        assert degree(expression) in (1, 2)


@pytest.mark.parametrize("expression", [rb"(a+)+$", rb"(?:\w+\s?)+x", rb"(.*)*", rb"((?:a|b+)+)c", rb"(?:x*y*)+z"])
def test_an_expression_of_exponential_time_is_told(expression: bytes) -> None:
    with pytest.raises(Danger):
        degree(expression)


@pytest.mark.parametrize("expression", [rb"(?:a++)+$", rb"(?:\w++\s)+x", rb"(?:[^\"\\]|\\.)*+", rb"(?:,\d{1,3})+"])
def test_one_that_is_not_is_taken(expression: bytes) -> None:
    degree(expression)


def test_a_line_too_long_for_an_expression_goes_out_as_it_is() -> None:
    fields = formats.compile(r"^(?P<a>.*) (?P<b>.*) (?P<c>.*)x$")
    long = b"a " * 50_000
    segments = fields.parse(b"1 2 3x\n" + long + b"\n")
    assert unparsed(segments) == [long]
    assert next(segments[1].records())["parse_error"] == "longer than 2048 bytes"


@pytest.mark.parametrize("name", sorted(grok.PATTERNS))
def test_every_pattern_of_grok_compiles(name: str) -> None:
    expression, _ = grok.expanded(f"%{{{name}:x}}")
    re.compile(expression.encode())


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("IP", ["192.0.2.1", "::1", "2001:db8::ff00:42:8329"], ["300.1.1.1", "x"]), ("UUID", ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
        ("NUMBER", ["1", "-2.5", ".5"], ["x"]), ("HOSTNAME", ["shop.example.org"], ["-"]), ("TIMESTAMP_ISO8601", ["2026-01-31T09:30:00.123Z", "2026-01-31 09:30"], ["now"]),
        ("HTTPDATE", ["31/Jan/2026:09:30:00 +0100"], ["31/Foo/2026"]), ("URI", ["https://shop.example.org:80/a?b=c"], ["//x"]), ("QS", ['"a \\" b"'], ["a"]),
        ("EMAILADDRESS", ["ada@example.org"], ["ada"]), ("MAC", ["00:11:22:aa:bb:cc"], ["00:11"]), ("JAVACLASS", ["org.x.App$1"], ["1"]), ("LOGLEVEL", ["WARN", "err"], ["x"]),
    ],
)  # fmt: skip
def test_a_pattern_of_grok_matches_what_it_is_named_for(name: str, good: list[str], bad: list[str]) -> None:
    expression = re.compile(grok.expanded(f"%{{{name}}}")[0])
    assert all(expression.fullmatch(text) for text in good)
    assert not any(expression.fullmatch(text) for text in bad)
