import signal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper.parsers import parser
from sidecars.shipper.plan import Parse

TIME = 1362020400  # 28/Feb/2013:12:00:00 +0900
START = '127.0.0.1 192.168.0.1 - [28/Feb/2013:12:00:00 +0900] "'
NGINX = {"remote": "127.0.0.1", "host": "192.168.0.1", "user": "-", "method": "GET", "path": "/"}


def parsed(line, kind, **settings):
    return parser(Parse(kind=kind, **settings)).parse(line.encode())


def test_none_is_the_line_under_the_message_key():
    assert parsed("a line", "none") == (None, {"message": "a line"})
    assert parsed("a line", "none", message_key="time") == (None, {"time": "a line"})


# The first is the example of fluentd's documentation.
@pytest.mark.parametrize(
    ("rest", "fields"),
    [
        (
            'GET / HTTP/1.1" 200 777 "-" "Opera/12.0" -',
            {**NGINX, "code": "200", "size": "777", "referer": "-", "agent": "Opera/12.0", "http_x_forwarded_for": "-"},
        ),
        (
            'GET / HTTP/1.1" 200 777 "http://a/" "Opera 12"',
            {**NGINX, "code": "200", "size": "777", "referer": "http://a/", "agent": "Opera 12"},
        ),
        (
            'GET / HTTP/1.1" 200 777 "-" "" "10.0.0.1, 10.0.0.2"',
            {**NGINX, "code": "200", "size": "777", "referer": "-", "agent": "",
             "http_x_forwarded_for": '"10.0.0.1, 10.0.0.2"'},
        ),
        ('GET /" 200 777', {**NGINX, "code": "200", "size": "777"}),
        ('GET /a b  c HTTP/1.1" 200 777', {**NGINX, "path": "/a b  c", "code": "200", "size": "777"}),
        ('GET /a " 200 777', {**NGINX, "path": "/a", "code": "200", "size": "777"}),
        (r'\x16\x03\x01" 400 0', {**NGINX, "method": r"\x16\x03\x01", "path": None, "code": "400", "size": "0"}),
        ('" 400 0', {**NGINX, "method": "", "path": None, "code": "400", "size": "0"}),
    ],
)  # fmt: skip
def test_nginx_gives_fluentds_fields(rest, fields):
    known = {name: value for name, value in fields.items() if value is not None}
    assert parsed(START + rest, "nginx") == (TIME, known)


# The first is the example of fluentd's documentation.
@pytest.mark.parametrize(
    ("line", "fields"),
    [
        (
            '192.168.0.1 - - [28/Feb/2013:12:00:00 +0900] "GET / HTTP/1.1" 200 777 "-" "Opera/12.0"',
            ("192.168.0.1", None, "GET", "/", 200, 777, None, "Opera/12.0"),
        ),
        (
            r'h - me [28/Feb/2013:12:00:00 +0900] "GET /a\"b c HTTP/1.1" 304 - "say \"hi\"" "back\\slash\\"',
            ("h", "me", "GET", r"/a\"b c", 304, None, r"say \"hi\"", r"back\\slash\\"),
        ),
        ('h - - [28/Feb/2013:12:00:00 +0900] "GET /" 000 0', ("h", None, "GET", "/", None, 0, None, None)),
        ('h - - [28/Feb/2013:12:00:00 +0900] "-" 408 -', ("h", None, None, None, 408, None, None, None)),
    ],
)
def test_apache2_gives_every_field_with_null_for_dashes_and_numbers(line, fields):
    names = ("host", "user", "method", "path", "code", "size", "referer", "agent")
    assert parsed(line, "apache2") == (TIME, dict(zip(names, fields, strict=True)))


@pytest.mark.parametrize(
    ("line", "settings", "moment", "record"),
    [
        ('{"time":1362020400,"a":[1,{"b":null}]}', {}, TIME, {"a": [1, {"b": None}]}),
        ('{"time":"1362020400.5","a":1}', {"time_type": "float"}, TIME + 0.5, {"a": 1}),
        ('{"time":"2013-02-28T03:00:00Z","a":1}', {}, TIME, {"a": 1}),
        ('{"at":"28.02.13 3","a":1}', {"time_key": "at", "time_format": "%d.%m.%y %H", "zone": "UTC"}, TIME, {"a": 1}),
        ('{"time":1362020400}', {"keep_time_key": True}, TIME, {"time": 1362020400}),
        ('{"time":"soon","a":1}', {}, None, {"time": "soon", "a": 1}),
        ('{"time":true,"a":1}', {}, None, {"time": True, "a": 1}),
        ('{"time":1e300}', {}, None, {"time": 1e300}),
        ("{}", {}, None, {}),
    ],
)  # fmt: skip
def test_json_is_the_lines_own_object_with_its_time(line, settings, moment, record):
    assert parsed(line, "json", **settings) == (moment, record)


@pytest.mark.parametrize(
    "line",
    ["", "text", "[1]", '[{"a":1}]', "1", '{"a":1', '{"a":1}x', '{"a":"\\ud800"}', "{" * 5000, '{"a":' * 5000,
     '{"a":' + "9" * 5000 + "}", '{"a":1e999}'],
)  # fmt: skip
def test_what_is_no_json_object_does_not_match(line):
    assert parsed(line, "json") is None


def test_a_regexp_gives_its_named_groups_that_match():
    settings = {"expression": r"/^\[(?<time>[^\]]*)\] (?<level>\w+)(?: (?<code>\d+))?: (?<message>.*)$/"}
    assert parsed("[2013-02-28 03:00:00 UTC] INFO: up", "regexp", **settings) == (
        TIME,
        {"level": "INFO", "message": "up"},
    )
    assert parsed("nothing like it", "regexp", **settings) is None


def test_multiline_formats_are_one_expression_whose_dot_matches_newlines():
    formats = (r"/^(?<time>\d{4}-\d+-\d+ \S+) /", "/(?<message>.*)/")
    assert parsed("2013-02-28 03:00:00 failed\n  at a\n  at b", "multiline", formats=formats, zone="UTC") == (
        TIME,
        {"message": "failed\n  at a\n  at b"},
    )


# What Ruby's to_i, to_f and split give.
@pytest.mark.parametrize(
    ("definition", "text", "value"),
    [
        ("integer", "12", 12),
        ("integer", " -1_000 of them", -1000),
        ("integer", "none", 0),
        pytest.param("integer", "9" * 5000, int("9" * 1000), id="integer of 5000 digits"),
        ("float", "1.5e3s", 1500.0),
        ("float", "none", 0.0),
        ("bool", "Yes", True),
        ("bool", "on", False),
        ("string", "12", "12"),
        ("array", "a,b,,", ["a", "b"]),
        ("array:;", "a;b,c", ["a", "b,c"]),
        ("time:%d.%m.%Y %H:%M", "soon", None),
        ("time:Asia/Tokyo:%Y-%m-%d %H:%M", "2013-02-28 12:00", TIME),
        ("time:+09:00:%Y-%m-%d %H:%M", "2013-02-28 12:00", TIME),
        ("time:float", "1362020400.5", TIME + 0.5),
        ("time", "2013-02-28T03:00:00Z", TIME),
    ],
)
def test_fields_are_converted_by_their_types(definition, text, value):
    line = f"x={text}"
    assert parsed(line, "regexp", expression="^x=(?<x>.*)$", types={"x": definition}) == (None, {"x": value})


def test_null_values_are_null_whatever_their_type():
    settings = {"expression": "(?<a>[^,]*),(?<b>[^,]*),(?<c>[^,]*)", "types": {"a": "integer"}}
    nulls = {"null_value_pattern": "^-$", "null_empty_string": True}
    assert parsed("-,-x,", "regexp", **settings, **nulls) == (None, {"a": None, "b": "-x", "c": None})
    assert parsed("-,-x,", "regexp", **settings) == (None, {"a": 0, "b": "-x", "c": ""})


def test_bytes_that_are_not_utf8_are_marked():
    assert parser(Parse(kind="none")).parse(b"caf\xe9") == (None, {"message": "caf\ufffd"})


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (Parse(kind="regexp"), "has no expression"),
        (Parse(kind="regexp", expression="/a/"), "no group with a name"),
        (Parse(kind="regexp", expression="/(?<a>/"), "not closed"),
        (Parse(kind="json", types={"a": "int"}), "type of field 'a' is 'int'; use string, integer"),
        (Parse(kind="json", time_format="%Q %U"), "%U, which cannot be read"),
        (Parse(kind="json", zone="Nowhere"), "time zone 'Nowhere' is not known"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, text):
    with pytest.raises(WrongSettings, match=text):
        parser(settings)


@pytest.mark.parametrize("kind", ["nginx", "apache2"])
@pytest.mark.parametrize("filler", [" ", " a", "a ", '"', '" "', "\\", '\\"', "[", "] ["])
def test_a_hostile_line_takes_no_longer_than_its_length(kind, filler):
    # 200 kB, where trying again from each place would take minutes.
    signal.alarm(20)
    parsed(START + "GET " + filler * (200_000 // len(filler)), kind)
    parsed(START + filler * (200_000 // len(filler)) + '" 200 1 x', kind)
    signal.alarm(0)


LINES = st.one_of(
    st.text(),
    st.sampled_from(
        [
            START + 'GET / HTTP/1.1" 200 777 "-" "Opera/12.0"',
            START + '" 400 0',
            START.replace("28/Feb", "31/Feb") + '" 1 2',
        ]
    ),
)


@given(st.lists(LINES))
@pytest.mark.parametrize(
    "settings",
    [
        Parse(kind="nginx"),
        Parse(kind="nginx", keep_time_key=True),
        Parse(kind="nginx", types={"code": "integer"}),
        Parse(kind="regexp", expression="(?<only>.+)"),
        Parse(kind="regexp", expression=r"(?<a-b>\S+) (?<c>[a-z])?(?<time>\d+)?"),
        Parse(kind="regexp", expression=r"(?<x>\S+) |(?<y>.)(?<x>a)"),
        Parse(kind="apache2"),
        Parse(kind="json"),
    ],
)
def test_what_is_made_to_be_encoded_is_the_same_as_dicts(settings, lines):
    made = parser(settings)
    rows, encodable = made.rows(lines), made.encodable(lines)
    assert encodable.moments == rows.moments
    assert encodable.unmatched == rows.unmatched
    assert msgspec.json.encode(encodable.records) == msgspec.json.encode(rows.records)
