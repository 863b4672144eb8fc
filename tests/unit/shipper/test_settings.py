"""What s3-shipper can be told, and what it answers to what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecars.core.errors import WrongSettings
from sidecars.core.reference import usage
from sidecars.core.settings import load
from sidecars.shipper.plan import Plan
from sidecars.shipper.settings import PREFIX, PROG, Settings

BUCKET = "--bucket=logs"


def given(*argv: str, **environ: str) -> Settings:
    return load(Settings, prog=PROG, prefix=PREFIX, argv=argv, environ=environ)


def planned(folder: Path, text: str, *argv: str, **environ: str) -> Plan:
    (folder / "shipper.yaml").write_text(text)
    return given(f"--config={folder}/shipper.yaml", *argv, **environ).plan()


def test_help_fits_80_columns() -> None:
    assert max(map(len, usage(Settings, PROG, PREFIX).splitlines())) <= 80


def test_a_path_and_a_bucket_are_enough() -> None:
    [stream] = given("/logs/*.log", BUCKET).plan().streams
    assert (stream.paths, stream.tag, stream.from_end, stream.parse) == (("/logs/*.log",), "logs", False, None)
    layout = stream.output.layout
    assert (layout.compress, layout.slice, layout.chunk_size, layout.age, layout.zone) == (
        "gzip", 300, 64 << 20, None, "UTC",
    )  # fmt: skip
    assert (stream.output.destination.bucket, stream.output.body.kind) == ("logs", "text")


def test_a_source_has_its_own_settings_or_else_those_of_all(tmp_path: Path) -> None:
    file = """
bucket: logs
tag: all
format: json
exclude: ["*.gz"]
sources:
- paths: [/a]
- paths: [/b]
  tag: own
  prefix: own/
  format: out_file
  exclude: []
  from: end
  multiline: java
- paths: [/c]
  prefix: ""
"""
    first, second, third = planned(tmp_path, file, "--multiline=python").streams
    assert (first.tag, first.exclude, first.from_end, first.multiline) == ("all", ("*.gz",), False, "python")
    assert (second.tag, second.exclude, second.from_end, second.multiline) == ("own", (), True, "java")
    assert (first.output.body.kind, second.output.body.kind) == ("json", "out_file")
    assert (first.output.layout.prefix, second.output.layout.prefix) == ("", "own/")
    # What goes to one place goes into the same objects.
    assert third.output is first.output
    assert len({first.output.name, second.output.name}) == 2


def test_an_output_keeps_its_name_when_the_bucket_or_the_prefix_changes() -> None:
    """The ledger knows it by that: what waits goes to where it should have gone."""
    names = {
        given("/a", *flags).plan().streams[0].output.name
        for flags in ((BUCKET,), ("--bucket=other",), (BUCKET, "--prefix=web/"))
    }
    assert len(names) == 1


def test_records_know_their_pod_where_the_pod_is_known() -> None:
    [stream] = given("/a", BUCKET, POD_NAME="shop-1", POD_NAMESPACE="prod").plan().streams
    assert stream.output.body.fields == {"pod": "shop-1", "namespace": "prod"}


@pytest.mark.parametrize(("text", "size"), [("80%", 800), ("100%", 1000), ("10KiB", 10240), ("0.5%", 5)])
def test_the_limit_of_the_backlog_is_a_share_of_the_volume_or_a_size(text: str, size: int) -> None:
    assert given("/a", BUCKET, f"--backlog-limit={text}").backlog_limit.of(1000) == size


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([BUCKET], ["nothing to read", "PATH", "SHIPPER_PATHS", "--config"]),
        (["", BUCKET], ["PATH is empty"]),
        (["/a"], ["--bucket is not set", "SHIPPER_BUCKET"]),
        (["/a", "--bucket=Logs"], ["--bucket is 'Logs'", "small letters"]),
        (["/a", BUCKET, "--bukket=b"], ["--bukket", "did you mean --bucket?"]),
        (["/a", BUCKET, "--endpoint=minio:9000"], ["--endpoint is 'minio:9000'", "http://minio:9000"]),
        (["/a", BUCKET, "--key-format=%{path}%{time_slice}.gz"], ["same key", "{chunk}", "%{index}"]),
        (["/a", BUCKET, "--key-format={chunk}%{indeks}"], ["%{indeks}", "did you mean %{index}?"]),
        (["/a", BUCKET, "--key-format={chunk}{pod}"], ["{pod}", "POD_NAME"]),
        (["/a", BUCKET, "--index-format=%s", "--key-format=%{index}"], ["%s", "%04d"]),
        (["/a", BUCKET, "--chunk-size=2GiB"], ["--chunk-size is 2GiB", "at most 1GiB"]),
        (["/a", BUCKET, "--chunk-size=0"], ["--chunk-size is 0"]),
        (["/a", BUCKET, "--chunk-age=soon"], ["--chunk-age", "soon", "90s"]),
        (["/a", BUCKET, "--slice=1500ms"], ["--slice is 1.5s", "whole seconds"]),
        (["/a", BUCKET, "--slice-zone=Europe/Berlim"], ["Europe/Berlim", "did you mean Europe/Berlin?"]),
        (["/a", BUCKET, "--compress=bzip2"], ["--compress", "bzip2", "gzip", "zstd"]),
        (["/a", BUCKET, "--format=xml"], ["--format", "xml", "out_file"]),
        (["/a", BUCKET, "--upload-jobs=0"], ["--upload-jobs is 0", "1 to 64"]),
        (["/a", BUCKET, "--poll-interval=1ms"], ["--poll-interval is 1ms", "10ms or more"]),
        (["/a", BUCKET, "--backlog-limit=110%"], ["--backlog-limit", "110%", "80%"]),
        (["/a", BUCKET, "--backlog-limit=0"], ["--backlog-limit", "64MiB"]),
        (["/a", BUCKET, "--kms-key-id=k"], ["--kms-key-id", "--encryption aws:kms"]),
        (["/a", BUCKET, "--object-tag=team"], ["--object-tag is 'team'", "NAME=VALUE"]),
        (["/a", BUCKET, "--metadata==x"], ["--metadata is '=x'", "NAME=VALUE"]),
        (["/a", BUCKET, "--multiline=("], ["--multiline is '('", "java, python, go"]),
        (["/a", BUCKET, "--secret-access-key=hunter2"], ["--secret-access-key", "--secret-access-key-file"]),
        (["/a", BUCKET, "--ready-when=fresh"], ["--ready-when", "started", "delivering"]),
        (["/a", "--fluentd-config=/x"], ["PATH and --fluentd-config are both given"]),
        ([BUCKET, "--fluentd-config=/x"], ["--bucket and --fluentd-config are both given"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_setting_says_what_is_wrong_with_which_value_and_what_to_do(argv: list[str], words: list[str]) -> None:
    with pytest.raises(WrongSettings) as error:
        given(*argv)
    assert [word for word in words if word not in str(error.value)] == [], error.value
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "other"),
    [("ACCESS_KEY_ID", "--secret-access-key-file"), ("SECRET_ACCESS_KEY", "--access-key-id-file")],
)
def test_half_a_key_is_refused_and_not_shown(name: str, other: str) -> None:
    with pytest.raises(WrongSettings, match=f"without {other}") as error:
        given("/a", BUCKET, **{f"SHIPPER_{name}": "hunter2"})
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("text", ["- paths: []", "- paths: ['']", "- paths: [/a]\n  multiline: ("])
def test_a_wrong_source_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongSettings):
        planned(tmp_path, f"sources:\n{text}", BUCKET)
