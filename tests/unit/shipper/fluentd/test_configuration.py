"""fluentd's configuration as a whole: the pod that is to run unchanged, routing, and what is not known."""

# ruff: noqa: E501  (a message stands whole, as its reader sees it)

from __future__ import annotations

import pytest

from sidecars.shipper.plan import Parse
from tests.unit.shipper.fluentd.conf import MATCH, SOURCE, Folder, match, source

# The ConfigMap of the pod, as it is found in the wild, with the placeholders in it.
POD = """
# First log source (tailing a file at /var/log/1.log)
<source>
  @type tail
  format none
  path /var/log/1.log
  pos_file /var/log/1.log.pos
  tag count.format1
</source>



# Second log source (tailing a file at /var/log/2.log)
<source>
  @type tail
  format none
  path /var/log/2.log
  pos_file /var/log/2.log.pos
  tag count.format2
</source>



# S3 output configuration (Store files every minute in the bucket's logs/ folder)
<match **>
  @type s3
   \n\
  aws_key_id <YOUR_AWS_ACCESS_KEY_ID> \n\
  aws_sec_key <YOUR_AWS_SECRET_ACCESS_KEY>
  s3_bucket <YOUR_S3_BUCKET_NAME>
  s3_region <YOUR_S3_BUCKET_REGION>
  path logs/
  buffer_path /var/log/
  store_as text
  time_slice_format %Y%m%d%H%M
  time_slice_wait 1m
      \n\
  <instance_profile_credentials>
  </instance_profile_credentials>
</match>
"""
PLACEHOLDERS = {
    "<YOUR_AWS_ACCESS_KEY_ID>": "AKIAIOSFODNN7EXAMPLE",
    "<YOUR_AWS_SECRET_ACCESS_KEY>": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "<YOUR_S3_BUCKET_NAME>": "my-logs",
    "<YOUR_S3_BUCKET_REGION>": "eu-central-1",
}


def filled_in(text: str) -> str:
    for placeholder, value in PLACEHOLDERS.items():
        text = text.replace(placeholder, value)
    return text


def test_the_configuration_of_the_pod_is_read_unchanged(folder: Folder) -> None:
    plan = folder.plan(filled_in(POD))
    assert plan.warnings == ()
    assert plan.state_dir == "/var/log/.sidecars"
    one, two = plan.streams
    assert [(each.paths, each.tag, each.pos_file, each.from_end, each.parse) for each in (one, two)] == [
        (("/var/log/1.log",), "count.format1", "/var/log/1.log.pos", True, Parse()),
        (("/var/log/2.log",), "count.format2", "/var/log/2.log.pos", True, Parse()),
    ]
    output = one.output
    assert output is two.output
    assert (output.destination.bucket, output.destination.region) == ("my-logs", "eu-central-1")
    assert output.layout.key_format == "%{path}%{time_slice}_%{index}.%{file_extension}"
    assert (output.layout.prefix, output.layout.slice, output.layout.wait) == ("logs/", 60, 60)
    assert (output.layout.slice_format, output.layout.zone) == ("%Y%m%d%H%M", "local")
    assert (output.layout.compress, output.layout.extension, output.layout.by_tag) == ("none", "txt", False)
    assert (output.body.kind, output.body.by_event_time) == ("out_file", True)
    credentials = output.destination.credentials
    assert credentials.access_key_id is not None
    assert credentials.secret_access_key is not None
    assert credentials.access_key_id.reveal() == PLACEHOLDERS["<YOUR_AWS_ACCESS_KEY_ID>"]
    assert credentials.secret_access_key.reveal() == PLACEHOLDERS["<YOUR_AWS_SECRET_ACCESS_KEY>"]


def test_a_placeholder_that_was_left_is_refused(folder: Folder) -> None:
    assert folder.refused(POD) == (
        "fluent.conf:28: aws_key_id is still the placeholder <YOUR_AWS_ACCESS_KEY_ID>; put the value there"
    )


def test_the_name_of_an_output_is_the_same_at_every_start(folder: Folder) -> None:
    def names(text: str) -> list[str]:
        return [stream.output.name for stream in folder.plan(text).streams]

    text = source("tag a") + source("tag b\npath /b") + match("path p/").replace("**", "a") + MATCH
    assert names(text) == names(f"# a comment\n{text}") == ["s3 b/p/ 1", "s3 b/ 2"]


# Routing


def routed(folder: Folder, text: str) -> list[tuple[tuple[str, ...], str]]:
    """Give the paths of each stream, and the prefix they go to."""
    return [(stream.paths, stream.output.layout.prefix) for stream in folder.plan(text).streams]


def to(pattern: str, prefix: str) -> str:
    return f"<match {pattern}>\n@type s3\ns3_bucket b\npath {prefix}\n</match>\n"


def test_each_source_goes_to_the_first_match_for_its_tag(folder: Folder) -> None:
    text = source("tag a.b") + source("tag c") + source("tag d") + to("a.*  c", "1") + to("a.b", "2") + to("**", "3")
    assert routed(folder, text) == [
        (("/logs/app.log",), "1"),
        (("/logs/app.log",), "1"),
        (("/logs/app.log",), "3"),
    ]
    assert folder.warnings(text) == ["fluent.conf:24: <match a.b> takes no source, so it ships nothing"]


def test_a_tag_with_a_star_is_made_of_the_path(folder: Folder) -> None:
    text = source("tag *\npath /logs/a.log,/logs/.b//.log,/logs/c.log,/other/c")
    text += to("logs.a.log logs.c.log", "1") + to("logs.b.log", "2") + to("other.c", "3")
    assert routed(folder, text) == [
        (("/logs/a.log", "/logs/c.log"), "1"),
        (("/logs/.b//.log",), "2"),
        (("/other/c",), "3"),
    ]
    assert folder.stream("tag app.*.x").tag == "app.*.x"


def test_a_glob_in_a_tag_goes_where_all_of_its_files_can(folder: Folder) -> None:
    text = (
        source("tag kube.*\npath /logs/*.log") + to("kube.logs.a.log", "1") + to("other.**", "2") + to("kube.**", "3")
    )
    assert routed(folder, text) == [(("/logs/*.log",), "3")]
    assert folder.warnings(text)[0] == (
        "fluent.conf:1: all files of /logs/*.log go to <match kube.**>, also those whose tag <match kube.logs.a.log> of fluent.conf:7 is for; give these a source of their own"
    )


def test_a_label_has_matches_of_its_own(folder: Folder) -> None:
    text = source("@label @IN") + source("path /b") + f"<label @IN>\n{to('**', '1')}</label>\n" + to("app", "2")
    assert routed(folder, text) == [(("/logs/app.log",), "1"), (("/b",), "2")]


def test_what_goes_nowhere_is_warned_of(folder: Folder) -> None:
    text = source("tag a") + source("tag b") + source("tag c") + "<match a>\n@type null\n</match>\n" + to("c", "1")
    assert routed(folder, text) == [(("/logs/app.log",), "1")]
    assert folder.warnings(text) == [
        "fluent.conf:1: /logs/app.log is not shipped: <match a> of fluent.conf:19 takes its tag a, and ships nothing",
        "fluent.conf:7: /logs/app.log is not shipped: no <match> is for its tag b",
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", ""),
        (SOURCE, "fluent.conf:2: /logs/app.log is not shipped: no <match> is for its tag app"),
        (MATCH, "fluent.conf:2: <match **> takes no source, so it ships nothing"),
    ],
)
def test_a_configuration_that_ships_nothing_is_refused(folder: Folder, text: str, why: str) -> None:
    error = "fluent.conf ships nothing: it needs a <source> of @type tail and a <match> of @type s3 for its tag"
    assert folder.refused(text) == f"{error}; {why}".removesuffix("; ")


# What is not known

ELSEWHERE = "--ignore-unknown warns of it instead"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<filter **>\n@type grep\n</filter>", "1: <filter> is not known here; known are label, match, source, system"),
        ("<sorce>\n</sorce>", "1: <sorce> is not known here; did you mean source?"),
        ("<source>\n@type forward\n</source>", "1: forward as @type of a source is not known here; known are tail"),
        ("<match x>\n@type stdout\n</match>", "1: stdout as @type of a match is not known here; known are null, s3"),
        ("<worker 0>\n</worker>", "1: <worker> is not known here; known are filter, label, match, source, system"),
        ("log_level debug", "1: log_level outside of any section is not known here; known are @include"),
        ("<system>\nworkres 2\n</system>", "2: workres in <system> is not known here; did you mean workers?"),
    ],
)
def test_what_is_not_known_stops_the_start_with_its_line(folder: Folder, text: str, error: str) -> None:
    assert folder.refused(f"{text}\n{SOURCE}{MATCH}") == f"fluent.conf:{error}; {ELSEWHERE}"


def test_a_source_inside_a_label_is_refused(folder: Folder) -> None:
    error = folder.refused(f"{SOURCE}{MATCH}<label @A>\n{SOURCE}</label>")
    assert error == f"fluent.conf:15: <source> inside <label> is not known here; known are filter, match; {ELSEWHERE}"


def test_what_is_not_known_can_be_left_out(folder: Folder) -> None:
    text = (
        source("retain_days 5\n<odd>\n</odd>")
        + "<source>\n@type forward\n</source>\n"
        + "<filter **>\n@type grep\n</filter>\n"
        + "<match x>\n@type stdout\n</match>\n"
        + match("s3_bukcet c\n<buffer>\ntimekye 5\n</buffer>")
    )
    assert folder.warnings(text, ignore_unknown=True) == [
        "fluent.conf:6: retain_days in a source of @type tail is not known here, it is left out",
        "fluent.conf:7: <odd> in a source of @type tail is not known here, it is left out",
        "fluent.conf:10: forward as @type of a source is not known here, it is not read",
        "fluent.conf:13: <filter> is not known here, lines pass it unchanged",
        "fluent.conf:16: stdout as @type of a match is not known here, what it takes is not shipped",
        "fluent.conf:22: s3_bukcet in a match of @type s3 is not known here, it is left out",
        "fluent.conf:24: timekye in <buffer> is not known here, it is left out",
    ]


def test_an_unknown_match_keeps_what_it_takes_from_the_next(folder: Folder) -> None:
    text = source("tag a") + source("tag b\npath /b") + "<match a>\n@type elasticsearch\n</match>\n" + MATCH
    plan = folder.plan(text, ignore_unknown=True)
    assert [stream.tag for stream in plan.streams] == ["b"]


def test_fluentds_own_log_and_settings_are_warned_of(folder: Folder) -> None:
    text = "<label @FLUENT_LOG>\n<match **>\n@type stdout\n</match>\n</label>\n<label @ERROR>\n</label>\n"
    system = "<system>\nlog_level info\nprocess_name x\nwithout_source false\n<log>\nformat json\n</log>\n</system>\n"
    assert folder.warnings(text + system + SOURCE + MATCH) == [
        "fluent.conf:1: <label @FLUENT_LOG> differs here: this program's log is on stderr",
        "fluent.conf:6: <label @ERROR> differs here: this program's log is on stderr",
        "fluent.conf:9: log_level differs here: the level of this program's log is that of --log-level",
        "fluent.conf:11: without_source differs here: sources are read",
        "fluent.conf:12: <log> of <system> has no effect",
    ]


def test_ruby_outside_double_quotes_is_refused(folder: Folder) -> None:
    error = folder.refused(SOURCE + match("path #{ENV['X']}/"))
    assert error == (
        "fluent.conf:11: path has #{...} outside double quotes, where nothing is put in; put double quotes around all of the value"
    )
    assert folder.stream("format /^#{(?<a>.*)}$/\ntag '#{x}'").tag == "#{x}"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("<match **>\ns3_bucket b\n</match>", "fluent.conf:1: <match> has no @type; add it"),
        (f"{SOURCE}<match **>\n@type s3\n</match>", "fluent.conf:8: a match of @type s3 has no s3_bucket; add it"),
        (f"{SOURCE}<match /a>\n@type s3\ns3_bucket b\n</match>", "fluent.conf:8: pattern /a begins with a slash and does not end in one; close it"),
    ],
)  # fmt: skip
def test_what_is_missing_is_refused_with_its_line(folder: Folder, text: str, error: str) -> None:
    assert folder.refused(text) == error


def test_the_words_of_0_12_are_read_too(folder: Folder) -> None:
    text = (
        (SOURCE + match("type s3\nid s\nlog_level info")).replace("@type tail", "type tail").replace("@type s3\n", "")
    )
    assert routed(folder, text) == [(("/logs/app.log",), "")]


def test_parts_may_be_in_other_files(folder: Folder) -> None:
    folder.write("aws_key_id AKIA\naws_sec_key <YOUR_KEY>", "conf.d/keys.conf")
    error = folder.refused(SOURCE + match("@include conf.d/keys.conf"))
    assert error == "conf.d/keys.conf:2: aws_sec_key is still the placeholder <YOUR_KEY>; put the value there"
