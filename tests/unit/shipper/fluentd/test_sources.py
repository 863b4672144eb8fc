"""`<source>` of @type tail, as a stream of the plan."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

import pytest

from sidecars.core.follow.join import records
from sidecars.shipper.plan import Parse
from tests.unit.shipper.fluentd.conf import MATCH, Folder, source

NGINX_TIME = "%d/%b/%Y:%H:%M:%S %z"


def test_a_source_is_read_as_fluentd_would(folder: Folder) -> None:
    stream = folder.stream("")
    assert (stream.paths, stream.exclude, stream.from_end, stream.tag) == (("/logs/app.log",), (), True, "app")
    assert (stream.multiline, stream.pos_file, stream.path_key, stream.parse) == (None, None, None, Parse())


def test_a_source_says_where_to_begin_and_what_to_remember(folder: Folder) -> None:
    stream = folder.stream("read_from_head true\npos_file /pos/app.pos\npath_key file\npath_timezone Asia/Tokyo")
    assert (stream.from_end, stream.pos_file, stream.path_key) == (False, "/pos/app.pos", "file")
    assert stream.path_zone == "Asia/Tokyo"


def test_the_longest_wait_for_late_writers_holds_for_all(folder: Folder) -> None:
    text = source("rotate_wait 10s") + source("path /logs/b.log\nrotate_wait 1m") + source("path /logs/c.log") + MATCH
    assert folder.plan(text).rotate_wait == 60
    assert folder.plan(source("") + MATCH).rotate_wait == 5


@pytest.mark.parametrize(
    ("lines", "paths"),
    [
        ("path /a.log, /b.log ,,/a.log", ("/a.log", "/b.log")),
        ("path /logs/*.log", ("/logs/*.log",)),
        ("path /logs/**/*.log", ("/logs/**/*.log",)),
        ("path /logs/*.[^0]", ("/logs/*.[!0]",)),
        ("path /logs/[a]?.log", ("/logs/[[]a][?].log",)),
        ("glob_policy extended\npath /logs/[a]?.log", ("/logs/[a]?.log",)),
        (
            "glob_policy always\npath_delimiter |\npath /{a,b}/{c,d}.log|/e",
            ("/a/c.log", "/a/d.log", "/b/c.log", "/b/d.log", "/e"),
        ),
        ("path /logs/app.%Y%m%d.log", ("/logs/app.*.log",)),
        ("path /logs/%Y/%m/*/%d*.log", ("/logs/*/*/*/*.log",)),
        ("path /logs/%Y*/a", ("/logs/*/a",)),
        ("path /logs/%%Y.log", ("/logs/%Y.log",)),
    ],
)
def test_paths_are_globs_where_they_are_for_fluentd(folder: Folder, lines: str, paths: tuple[str, ...]) -> None:
    assert folder.stream(lines).paths == paths


def test_a_date_in_a_path_is_warned_of(folder: Folder) -> None:
    warnings = folder.warnings(source('path /logs/%Y.log\nexclude_path ["/logs/1%Y.log"]') + MATCH)
    assert warnings == [
        "fluent.conf:5: path has a date in it: it is taken for /logs/*.log, whatever the day",
        "fluent.conf:6: exclude_path has a date in it: it is taken for /logs/1*.log, whatever the day",
    ]
    assert folder.warnings(source("path /logs/100%%.log") + MATCH) == []


def test_files_are_left_out(folder: Folder) -> None:
    assert folder.stream('exclude_path ["/logs/*.gz", "/logs/a[1].log"]').exclude == ("/logs/*.gz", "/logs/a[[]1].log")
    assert folder.stream("exclude_path /logs/*.gz,/logs/*.zip").exclude == ("/logs/*.gz", "/logs/*.zip")
    (warning,) = folder.warnings(source('exclude_path ["*.gz"]') + MATCH)
    assert (
        warning
        == "fluent.conf:6: *.gz has no folder: files of that name are left out wherever they are; fluentd leaves out none"
    )


@pytest.mark.parametrize(
    ("lines", "parse"),
    [
        ("format none\nmessage_key log", Parse(message_key="log")),
        ("<parse>\n@type none\n</parse>", Parse()),
        ("<parse>\ntype none\n</parse>", Parse()),
        ("format json", Parse(kind="json", time_key="time", time_type="float")),
        ("format json\ntime_format %s", Parse(kind="json", time_key="time", time_format="%s")),
        ("<parse>\n@type json\ntime_key at\ntime_type unixtime\nkeep_time_key true\n</parse>", Parse(kind="json", time_key="at", time_type="unixtime", keep_time_key=True)),
        ("format nginx", Parse(kind="nginx", time_key="time", time_format=NGINX_TIME)),
        ("<parse>\n@type apache2\nutc\n</parse>", Parse(kind="apache2", time_key="time", time_format=NGINX_TIME, zone="UTC")),
        ("format /^(?<a>.*)$/i\ntypes a:integer,b:time:%Y:%m", Parse(kind="regexp", expression="/^(?<a>.*)$/i", time_key="time", types={"a": "integer", "b": "time:%Y:%m"})),
        ("<parse>\n@type regexp\nexpression /^(?<a>.*)$/\ntimezone +09:00\n</parse>", Parse(kind="regexp", expression="/^(?<a>.*)$/", time_key="time", zone="+09:00")),
        ("<parse>\n@type regexp\nexpression '(?<a>.*)'\nlocaltime false\ntypes {\"a\":\"float\"}\n</parse>", Parse(kind="regexp", expression="(?<a>.*)", time_key="time", zone="UTC", types={"a": "float"})),
        ("<parse>\n@type json\nnull_empty_string\nnull_value_pattern ^-$\nestimate_current_event no\nlocaltime\n</parse>", Parse(kind="json", time_key="time", time_type="float", null_empty_string=True, null_value_pattern="^-$", estimate_current_event=False, zone="local")),
        ("format none\ntypes a|float;b|bool\ntypes_delimiter ;\ntypes_label_delimiter |", Parse(types={"a": "float", "b": "bool"})),
    ],
)  # fmt: skip
def test_lines_are_parsed_as_is_said(folder: Folder, lines: str, parse: Parse) -> None:
    assert folder.stream(lines).parse == parse


MULTILINE = "format_firstline /\\d{4}-/\nformat1 /^(?<time>[^ ]+) /\nformat2 /(?<message>.*)/\n"


@pytest.mark.parametrize("lines", [f"format multiline\n{MULTILINE}", f"<parse>\n@type multiline\n{MULTILINE}</parse>"])
def test_records_of_several_lines_begin_at_the_first(folder: Folder, lines: str) -> None:
    stream = folder.stream(lines)
    assert stream.parse is not None
    assert (stream.parse.kind, stream.parse.firstline) == ("multiline", r"/\d{4}-/")
    assert stream.parse.formats == ("/^(?<time>[^ ]+) /", "/(?<message>.*)/")
    split = records(stream.multiline).split(b"2026-1 a\n b\n\n[2026-2 c\n")
    assert list(split) == [b"2026-1 a\n b\n\n", b"[2026-2 c\n"]


@pytest.mark.parametrize(
    "line",
    [
        "enable_watch_timer false", "enable_stat_watcher false", "read_lines_limit 10", "pos_file_compaction_interval 1h",
        "follow_inodes true", "open_on_every_update true", "skip_refresh_on_startup true", "refresh_interval 5",
        "ignore_repeated_permission_error true", "encoding UTF-8", "from_encoding ASCII-8BIT", "@id tail_1",
        "multiline_flush_interval 0", "emit_unmatched_lines false",
    ],
)  # fmt: skip
def test_what_changes_nothing_is_taken_in_silence(folder: Folder, line: str) -> None:
    assert folder.warnings(source(line) + MATCH) == []


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("@log_level debug", "@log_level differs here: the level of this program's log is that of --log-level"),
        ("limit_recently_modified 1d", "limit_recently_modified differs here: files are read however old they are"),
        ("max_line_size 8k", "max_line_size differs here: longer lines are shipped too"),
        ("read_bytes_limit_per_second 64k", "read_bytes_limit_per_second differs here: reading is not slowed down"),
        ("emit_unmatched_lines true", "emit_unmatched_lines differs here: a line that does not match is shipped in any case, under message_key"),
        ("multiline_flush_interval 5s", "multiline_flush_interval differs here: the last record of a file is shipped when nothing was added to it for a second"),
        ("encoding Shift_JIS", "encoding differs here: lines are shipped in the encoding they have"),
        ("<group>\n</group>", "<group> differs here: reading is not slowed down"),
    ],
)  # fmt: skip
def test_what_differs_is_warned_of(folder: Folder, line: str, warning: str) -> None:
    assert folder.warnings(source(line) + MATCH) == [f"fluent.conf:6: {warning}"]


def test_old_words_beside_a_parse_section_are_warned_of(folder: Folder) -> None:
    warnings = folder.warnings(source("time_key at\n<parse>\n@type json\n</parse>") + MATCH)
    assert warnings == ["fluent.conf:5: time_key has no effect beside <parse>; move it there"]
    parse = folder.stream("time_key at\n<parse>\n@type json\n</parse>").parse
    assert parse is not None
    assert parse.time_key == "time"


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("rotate_wait soon", "fluent.conf:6: rotate_wait is 'soon', expected seconds, or 10s, 5m, 1h, 1d"),
        ("rotate_wait 5 m", "fluent.conf:6: rotate_wait is '5 m', expected seconds, or 10s, 5m, 1h, 1d"),
        ("read_from_head maybe", "fluent.conf:6: read_from_head is 'maybe', expected true or false"),
        ("max_line_size big", "fluent.conf:6: max_line_size is 'big', expected bytes, or 512k, 8m, 1g"),
        ("read_lines_limit 1.5", "fluent.conf:6: read_lines_limit is '1.5', expected a whole number"),
        ("glob_policy all", "fluent.conf:6: glob_policy is 'all', expected one of backward_compatible, extended, always"),
        ("exclude_path [1]", """fluent.conf:6: exclude_path is '[1]', expected texts, as ["a", "b"] or a,b"""),
        ("path", "fluent.conf:5: path is '', expected a text that is not empty; was it written with a variable that is not set?"),
        ("path ,", "fluent.conf:5: path is empty; was it written with a variable that is not set?"),
        ("timezone Europe/Berlim", "fluent.conf:6: timezone is 'Europe/Berlim': time zone 'Europe/Berlim' is not known; did you mean Europe/Berlin?"),
        ("utc\nlocaltime", "fluent.conf:7: localtime is said beside utc; leave one of them out"),
        ("format csv", "fluent.conf:5: format csv is not known here; known are none, json, nginx, apache2, regexp, multiline"),
        ("<parse>\n@type cri\n</parse>", "fluent.conf:6: format cri is not known here; known are none, json, nginx, apache2, regexp, multiline"),
        ("<parse>\n</parse>", "fluent.conf:5: it is not said how lines are parsed; add <parse> with @type none"),
        ("<parse>\n@type none\n</parse>\n<parse>\n@type json\n</parse>", "fluent.conf:8: <parse> is there twice; leave one out"),
        ("types a", "fluent.conf:6: types is 'a', expected field:type with commas between"),
        ("types {", "fluent.conf:6: an array or hash is never closed; close it, or quote the value"),
        ("format multiline\nformat1 /(?<a>.)/", "fluent.conf:1: format multiline needs format_firstline here, so that a record's end is known"),
        ("format multiline\nformat_firstline /a/\nformat2 /(?<a>.)/", "fluent.conf:7: format2 has no format1 before it; number them without a gap"),
        ("format multiline\nformat_firstline /a/\nformat1 (?<a>.)", "fluent.conf:7: format1 is no expression between slashes, such as /^(?<time>[^ ]+) /"),
        ("rotate_wiat 5", "fluent.conf:6: rotate_wiat in a source of @type tail is not known here; did you mean rotate_wait?; --ignore-unknown warns of it instead"),
        ("<prase>\n</prase>", "fluent.conf:6: <prase> in a source of @type tail is not known here; did you mean parse?; --ignore-unknown warns of it instead"),
        ("@label @NONE", "fluent.conf:1: there is no <label @NONE> for this source; add it, with a <match>"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(folder: Folder, lines: str, error: str) -> None:
    assert folder.refused(source(lines) + MATCH) == error


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        ("path /a\nformat none", "fluent.conf:1: a source of @type tail has no tag; add it"),
        ("tag a\nformat none", "fluent.conf:1: a source of @type tail has no path; add it"),
        ("tag a\npath /a", "fluent.conf:1: it is not said how lines are parsed; add <parse> with @type none"),
    ],
)
def test_what_fluentd_asks_for_is_asked_for(folder: Folder, lines: str, error: str) -> None:
    assert error in folder.refused(f"<source>\n@type tail\n{lines}\n</source>{MATCH}")


@pytest.mark.parametrize(
    "lines",
    ["format /(/", "format /.*/", "format json\ntime_format %J\ntime_type string", "format json\ntypes a:int", "format multiline\nformat_firstline /(/\nformat1 /(?<a>.)/"],
)  # fmt: skip
def test_what_cannot_be_parsed_so_is_refused_with_its_line(folder: Folder, lines: str) -> None:
    assert folder.refused(source(lines) + MATCH).startswith(("fluent.conf:5: ", "fluent.conf:1: "))
