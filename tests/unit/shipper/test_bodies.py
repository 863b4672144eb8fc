import json
from datetime import datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecars.core.errors import WrongSettings
from sidecars.shipper import slices
from sidecars.shipper.bodies import renderer
from sidecars.shipper.plan import Body, Layout, Parse

NOW = 1785579630.123456  # 2026-08-01 10:20:30.123456 UTC
ISO = "2026-08-01T10:20:30+00:00"
NONE = Parse()
UTC, SLICES = Layout(), Layout(slice=60)

ACCESS = '10.0.0.{0} - - [01/Aug/2026:10:{1:02}:{2:02} +0000] "GET /{0} HTTP/1.1" 200 5 "-" "curl"'


def render(data, body, parse=None, layout=UTC, *, records=None, partial=False, extra=None, **origin):
    where = {"tag": "web.access", "path": "/logs/a.log", **origin}
    made = renderer(body, parse, layout)
    return made.render(data, records=records, now=NOW, partial=partial, extra=extra or {}, **where)


def rendered(data, body, parse=None, layout=UTC, **settings):
    """Give what goes into the one object that it goes into."""
    pieces = render(data, body, parse, layout, **settings)
    assert [piece.moment for piece in pieces] == [None] * bool(data)
    return b"".join(piece.data for piece in pieces).decode()


# Text


@given(st.binary(), st.sampled_from([None, NONE]), st.sampled_from([bytes, memoryview]))
def test_text_is_the_bytes_as_they_are(data, parse, kind):
    pieces = render(kind(data), Body(), parse)
    assert b"".join(piece.data for piece in pieces) == data
    assert sum(piece.count for piece in pieces) == data.count(b"\n")


def test_text_outlives_the_buffer_it_was_read_into():
    buffer = bytearray(b"a line\n")
    (piece,) = render(memoryview(buffer), Body())
    buffer[:] = b"XXXXXXX"
    assert piece.data == b"a line\n"


def test_text_without_newlines_keeps_those_within_a_record():
    assert rendered(b"a\nb\n", Body(add_newline=False), NONE) == "ab"
    assert rendered(b"a\n at b\nc\n", Body(add_newline=False), NONE, records=[b"a\n at b\n", b"c\n"]) == "a\n at bc"


def test_text_of_a_record_is_its_message_or_else_the_line():
    lines = b'{"message":"one","a":1}\n{"message":{"b":[2,null]}}\n{"message":null}\n{"a":3}\nno json\n'
    assert rendered(lines, Body(), Parse(kind="json")) == 'one\n{"b":[2,null]}\n\n{"a":3}\nno json\n'
    assert rendered(lines[:24], Body(message_key="a", add_newline=False), Parse(kind="json")) == "1"


@given(st.binary(), st.booleans())
def test_text_of_a_parsed_field_is_its_bytes(data, complete):
    lines = data.replace(b"\r", b"") + b"\n" * complete
    parse = Parse(kind="regexp", expression=r"/\A(?<message>.*)\z/m")
    assert b"".join(piece.data for piece in render(lines, Body(), parse)) == lines


# JSON of the sidecar's own settings


def test_json_has_time_tag_file_and_pod_before_the_line():
    head = '{"time":"2026-08-01T10:20:30.123456000Z","tag":"web.access","file":"/logs/a.log","pod":"web-0",'
    assert rendered(b'GET /\nsay "hi"\n', Body(kind="json", fields={"pod": "web-0"})) == (
        f'{head}"message":"GET /"}}\n{head}"message":"say \\"hi\\""}}\n'
    )


@given(st.binary(), st.booleans())
@example(b'a\x7fb\n{"\\"\n\n', False)
@example(b"a\r\nb\r\r\n\r\n", False)
def test_json_lines_hold_the_messages_of_the_lines(data, terminated):
    data += b"\n" * terminated
    lines = data.decode("utf-8", "replace").split("\n")
    expected = lines[:-1] if not lines[-1] else lines
    pieces = render(data, Body(kind="json"))
    objects = [json.loads(line) for piece in pieces for line in piece.data.decode().split("\n")[:-1]]
    assert [each["message"] for each in objects] == expected
    assert sum(piece.count for piece in pieces) == len(expected)
    assert all(list(each) == ["time", "tag", "file", "message"] for each in objects)


def test_a_joined_record_is_one_object():
    records = [b"failed\n  at a\n", b"up\n"]
    objects = [
        json.loads(line) for line in rendered(b"".join(records), Body(kind="json"), records=records).splitlines()
    ]
    assert [each["message"] for each in objects] == ["failed\n  at a", "up"]


@pytest.mark.parametrize(("data", "parts"), [(b"a\nb", [False, True]), (b"a\nb\n", [True, False]), (b"a", [True])])
@pytest.mark.parametrize("parse", [None, NONE, Parse(kind="json")])
def test_a_part_of_a_line_is_marked(data, parts, parse):
    objects = [json.loads(line) for line in rendered(data, Body(kind="json"), parse, partial=True).splitlines()]
    assert [each.get("partial", False) for each in objects] == parts


def test_a_file_name_that_is_not_utf8_is_readable():
    (line,) = rendered(b"x\n", Body(kind="json"), path="/logs/caf\udce9.log", tag="caf\udce9").splitlines()
    assert json.loads(line)["file"] == r"/logs/caf\xe9.log"
    assert json.loads(line)["tag"] == r"caf\xe9"


# fluentd's formats


def test_out_file_is_time_tag_and_record():
    assert rendered(b"a\nb \xc3\xa9/\"\\\x01\n", Body(kind="out_file"), NONE) == (
        f'{ISO}\tweb.access\t{{"message":"a"}}\n{ISO}\tweb.access\t{{"message":"b é/\\"\\\\\\u0001"}}\n'
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "layout", "line"),
    [
        (Body(kind="out_file"), Layout(zone="Asia/Tokyo"), '2026-08-01T19:20:30+09:00\tweb.access\t{"message":"a"}'),
        (Body(kind="out_file", time_format="%s.%L"), UTC, '1785579630.123\tweb.access\t{"message":"a"}'),
        (Body(kind="out_file", delimiter=","), UTC, f'{ISO},web.access,{{"message":"a"}}'),
        (Body(kind="out_file", output_time=False), UTC, 'web.access\t{"message":"a"}'),
        (Body(kind="out_file", output_tag=False), UTC, f'{ISO}\t{{"message":"a"}}'),
        (Body(kind="out_file", output_tag=False, output_time=False), UTC, '{"message":"a"}'),
        (Body(kind="out_file", output_tag=False, output_time=False, tag_key="t", time_key="at"), UTC,
         f'{{"message":"a","path":"/a","t":"web.access","at":"{ISO}"}}'),
        (Body(kind="json", tag_key="tag"), UTC, '{"message":"a","path":"/a","tag":"web.access"}'),
        (Body(kind="json"), UTC, '{"message":"a","path":"/a"}'),
        (Body(kind="ltsv", tag_key="tag", time_key="at"), UTC, f"message:a\tpath:/a\ttag:web.access\tat:{ISO}"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("parse", [NONE, Parse(kind="regexp", expression="/^(?<message>.*)$/")])
def test_columns_and_keys_are_where_fluentd_puts_them(body, layout, line, parse):
    extra = {"path": "/a"} if '"path"' in line or "path:" in line else {}
    assert rendered(b"a\n", body, parse, layout, extra=extra) == line + "\n"


@given(st.text(), st.booleans(), st.sampled_from([NONE, Parse(kind="json"), Parse(kind="nginx")]))
def test_out_file_lines_are_read_back(text, terminated, parse):
    data = text.replace("\r", "").encode() + b"\n" * terminated
    lines = data.decode().removesuffix("\n").split("\n") if data else []
    back = [line.split("\t", 2) for line in rendered(data, Body(kind="out_file"), parse).split("\n")[:-1]]
    assert [(time, tag) for time, tag, _ in back] == [(ISO, "web.access")] * len(lines)
    assert [json.loads(record) for _, _, record in back] == [{"message": line} for line in lines]


def test_a_line_that_does_not_match_is_shipped_as_its_message_and_counted():
    lines = f"{ACCESS.format(1, 20, 30)}\nnonsense\n".encode()
    (piece,) = render(lines, Body(kind="json"), Parse(kind="nginx"))
    assert [json.loads(line) for line in piece.data.splitlines()][1] == {"message": "nonsense"}
    assert (piece.count, piece.unmatched) == (2, 1)


def test_crlf_ends_a_record_as_lf_does():
    assert rendered(b"a\r\nb\r\n", Body(kind="json"), NONE) == '{"message":"a"}\n{"message":"b"}\n'
    assert rendered(b'{"a":1}\r\n', Body(kind="json"), Parse(kind="json")) == '{"a":1}\n'


def test_a_field_of_the_record_is_kept_where_the_path_would_be_put():
    parse = Parse(kind="json")
    assert rendered(b'{"path":"mine"}\n{}\n', Body(kind="json"), parse, extra={"path": "/a"}) == (
        '{"path":"mine"}\n{"path":"/a"}\n'
    )


def test_each_record_has_the_time_it_names():
    lines = "".join(f"{ACCESS.format(number, 20, number // 2)}\n" for number in range(4)).encode()
    times = [line.split("\t")[0] for line in rendered(lines, Body(kind="out_file"), Parse(kind="nginx")).splitlines()]
    assert times == [f"2026-08-01T10:20:{second:02}+00:00" for second in (0, 0, 1, 1)]


def test_what_is_hostile_cannot_forge_lines_or_fields():
    assert rendered(b"a\tforged:1\n", Body(kind="ltsv"), NONE) == "message:a forged:1\n"
    assert rendered(b'{"a":"x\\ty:1\\nz","b\\tc":2}\n', Body(kind="ltsv"), Parse(kind="json")) == "a:x y:1 z\tb c:2\n"
    assert rendered(b"a\n", Body(kind="out_file"), NONE, tag="a\nb\tc") == f'{ISO}\ta\\nb\\tc\t{{"message":"a"}}\n'


# Slices of event time


def test_by_event_time_each_piece_lies_in_one_slice():
    lines = [ACCESS.format(number, minute, 1) for number, minute in enumerate((20, 21, 20, 59, 21))]
    lines.insert(2, "nonsense")
    body = Body(kind="out_file", by_event_time=True)
    pieces = render("".join(f"{line}\n" for line in lines).encode(), body, Parse(kind="nginx"), SLICES)
    minutes = [[line.split(b"\t")[0][14:16].decode() for line in piece.data.splitlines()] for piece in pieces]
    assert minutes == [["20", "20", "20"], ["21", "21"], ["59"]]
    assert [piece.count for piece in pieces] == [3, 2, 1]
    assert [piece.unmatched for piece in pieces] == [1, 0, 0]
    assert [slices.begin(piece.moment, SLICES) for piece in pieces] == [
        datetime.fromisoformat(f"2026-08-01T10:{minute}:00Z").timestamp() for minute in ("20", "21", "59")
    ]


@given(st.lists(st.sampled_from([*(ACCESS.format(1, minute, 1) for minute in (1, 2, 59)), "nonsense", "{}"])))
@pytest.mark.parametrize("kind", ["text", "json", "out_file", "ltsv"])
@pytest.mark.parametrize("parse", [Parse(kind="nginx"), Parse(kind="json"), NONE])
def test_slices_hold_every_line_once(kind, parse, lines):
    data = "".join(f"{line}\n" for line in lines).encode()
    body = Body(kind=kind, by_event_time=True)
    pieces = render(data, body, parse, SLICES)
    whole = b"".join(piece.data for piece in render(data, Body(kind=kind), parse, SLICES))
    assert sorted(b"".join(piece.data for piece in pieces).splitlines()) == sorted(whole.splitlines())
    assert sum(piece.count for piece in pieces) == len(lines)


def test_what_cannot_be_used_is_refused_at_the_start():
    for body, parse, layout in (
        (Body(kind="out_file"), NONE, Layout(zone="Nowhere")),
        (Body(kind="json"), Parse(kind="regexp", expression="/(/"), Layout()),
    ):
        with pytest.raises(WrongSettings):
            renderer(body, parse, layout)
