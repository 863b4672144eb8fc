"""s3-shipper in fluentd's place: its configuration as it is, its keys, its lines, and the offsets that it has left."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers.shipping import Bucket, Shipper, append

# That of a pod with lrakai/fluentd-s3, to the letter.
POD = r"""
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
   
      aws_key_id <YOUR_AWS_ACCESS_KEY_ID> 
      aws_sec_key <YOUR_AWS_SECRET_ACCESS_KEY>
      s3_bucket <YOUR_S3_BUCKET_NAME>
      s3_region <YOUR_S3_BUCKET_REGION>
      path logs/
      buffer_path /var/log/
      store_as text
      time_slice_format %Y%m%d%H%M
      time_slice_wait 1m
      
      <instance_profile_credentials>
      </instance_profile_credentials>
    </match>
"""  # noqa: W291, W293  (to the letter)
SECRET = "hunter2"
MATCH = """
<match **>
  @type s3
  aws_key_id test
  aws_sec_key hunter2
  s3_bucket {bucket}
  s3_endpoint {endpoint}
  force_path_style true
  {more}
</match>
"""


@pytest.fixture
def conf(tmp_path: Path, logs: Path, stored: Bucket) -> Callable[..., Path]:
    """Write a configuration, with this test's bucket and paths for those of the pod."""

    def conf(text: str, more: str = "") -> Path:
        known = {
            "/var/log/": f"{logs}/",
            "<YOUR_AWS_ACCESS_KEY_ID>": "test",
            "<YOUR_AWS_SECRET_ACCESS_KEY>": SECRET,
            "<YOUR_S3_BUCKET_NAME>": f"{stored.name}\n s3_endpoint {stored.server.endpoint}\n force_path_style true",
            "<YOUR_S3_BUCKET_REGION>": "us-east-1",
            "{bucket}": stored.name,
            "{endpoint}": stored.server.endpoint,
            "{more}": more,
        }
        for old, new in known.items():
            text = text.replace(old, new)
        (tmp_path / "fluent.conf").write_text(text)
        return tmp_path / "fluent.conf"

    return conf


@pytest.fixture
def start(stored: Bucket) -> Iterator[Callable[..., Shipper]]:
    """Start an s3-shipper that knows nothing but what fluentd's configuration says."""
    with contextlib.ExitStack() as running:

        def start(*arguments: Any, environ: dict[str, str] | None = None) -> Shipper:
            known = {"TZ": "UTC", **(environ or {})}
            return running.enter_context(Shipper(*arguments, stored=lambda: stored.objects, environ=known))

        yield start


def follow(start: Callable[..., Shipper], *arguments: Any, **options: Any) -> Shipper:
    return start(*arguments, **options).watching()


def test_the_pods_configuration_fills_the_bucket_with_the_keys_and_lines_that_fluentd_would_make(
    start, conf, logs, stored
):
    for name in ("1.log", "2.log"):
        append(logs / name, b"from before the first start: fluentd begins at the end\n")
    file = conf(POD)
    shipper = follow(start, "-c", file)
    append(logs / "1.log", b'0: Sat Jan 31 09:30:00 UTC 2026 "\\\n')
    append(logs / "2.log", b"Sat Jan 31 09:30:00 UTC 2026 INFO 0\n")
    shipper.until(lambda: shipper.metric("follow_lag_bytes") == 0 and shipper.metric("follow_read_bytes_total") > 0)
    shipper.drained()
    assert {re.sub(r"\d{12}_\d", "TIME_N", key) for key in stored.keys} == {"logs/TIME_N.txt"}
    assert "0" in {key[-5] for key in stored.keys}
    rows = [line.decode().rstrip("\n").split("\t") for line in stored.lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", row[0]) for row in rows)
    assert sorted((tag, json.loads(record)) for _, tag, record in rows) == [
        ("count.format1", {"message": '0: Sat Jan 31 09:30:00 UTC 2026 "\\'}),
        ("count.format2", {"message": "Sat Jan 31 09:30:00 UTC 2026 INFO 0"}),
    ]
    for key, data in stored.objects.items():
        assert stored.head(key)["ContentType"] == "text/plain"
        # A line is in the slice of its time.
        assert {re.sub(r"\D", "", line.decode()[:16]) for line in data.splitlines()} == {key[5:17]}
    assert (logs / ".sidecars" / "ledger.sqlite3").exists()
    assert not [line for line in shipper.lines if SECRET in line]


def test_a_later_object_of_the_same_minute_has_the_next_index(start, conf, logs, stored):
    append(logs / "1.log", b"")
    file = conf(POD.replace("%Y%m%d%H%M", "%Y"))  # a slice that does not end while this runs
    for number in range(3):
        shipper = follow(start, "-c", file)
        append(logs / "1.log", b"%d\n" % number)
        shipper.until(lambda shipper=shipper: shipper.metric("follow_read_bytes_total") == 2)
        shipper.drained()
    assert [key[-6:] for key in stored.keys] == ["_0.txt", "_1.txt", "_2.txt"]
    assert [json.loads(data.split(b"\t")[2])["message"] for data in stored.objects.values()] == ["0", "1", "2"]


def test_the_variable_of_the_image_says_what_to_read(start, conf, logs, stored):
    file = conf(POD)
    (logs / "1.log").touch()
    shipper = follow(start, environ={"FLUENTD_ARGS": f"-c {file} -v"})
    append(logs / "1.log", b"line\n")
    shipper.until(lambda: shipper.metric("follow_read_bytes_total") == 5)
    shipper.drained()
    assert len(stored.lines) == 1


def test_offsets_of_fluentd_are_taken_over_also_those_of_a_file_that_was_rotated_since(start, conf, logs, stored):
    append(logs / "1.log", b"shipped by fluentd\nnot yet\n")
    append(logs / "2.log", b"shipped by fluentd\n")
    for name, offset in (("1.log", 19), ("2.log", 19)):
        inode = (logs / name).stat().st_ino
        (logs / f"{name}.pos").write_text(f"{logs}/{name}\t{offset:016x}\t{inode:016x}\n")
    append(logs / "2.log", b"before the rotation\n")
    (logs / "2.log").rename(logs / "2.log.1")
    append(logs / "2.log", b"after the rotation\n")
    file = conf(POD)
    shipper = follow(start, "-c", file)
    assert len(shipper.said("offsets of fluentd taken over")) == 2
    shipper.drained()
    expected = ["after the rotation", "before the rotation", "not yet"]
    assert messages(stored) == expected
    # At the next start they are what is old.
    follow(start, "-c", file).drained()
    assert messages(stored) == expected


def messages(stored: Bucket) -> list[str]:
    return sorted(json.loads(line.split(b"\t")[2])["message"] for line in stored.lines)


def test_lines_go_into_the_slices_of_the_times_in_them(start, conf, logs, stored):
    source = f"""
<source>
  @type tail
  path {logs}/access.log
  tag web.access
  read_from_head true
  <parse>
    @type nginx
  </parse>
</source>
"""
    line = '10.0.0.1 - - [31/Jan/2026:%s +0000] "GET / HTTP/1.1" 200 5 "-" "curl"\n'
    times = ("09:30:00", "09:31:10", "09:30:59")
    append(logs / "access.log", "".join(line % time for time in times).encode())
    more = f"""
  path logs/${{tag[1]}}/
  <format>
    @type json
  </format>
  <buffer tag,time>
    @type file
    path {logs}/buffer
    timekey 60
    timekey_use_utc true
  </buffer>
"""
    shipper = follow(start, "-c", conf(source + MATCH, more))
    shipper.until(lambda: shipper.metric("follow_lag_bytes") == 0)
    shipper.drained()
    objects = {key: [json.loads(row)["remote"] for row in data.splitlines()] for key, data in stored.objects.items()}
    assert objects == {
        "logs/access/202601310930_0.gz": ["10.0.0.1"] * 2,
        "logs/access/202601310931_0.gz": ["10.0.0.1"],
    }
    assert (logs / "buffer" / ".sidecars").is_dir()


# Configurations that cannot be read


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("time_slice_wait", "time_slice_weight", [":38: time_slice_weight", "did you mean time_slice_wait?"]),
        ("@type s3", "@type s4", [":25: s4 as @type of a match", "known are null, s3"]),
        ("pos_file /var/log/1.log.pos", "posfile /x", [":7: posfile", "did you mean pos_file?"]),
        ("store_as text", "store_as txt", [":36: store_as is 'txt'", "text"]),
        (
            "aws_key_id <YOUR_AWS_ACCESS_KEY_ID> ",
            "aws_key_id <YOUR_KEY>",
            [":28: aws_key_id is still the placeholder <YOUR_KEY>; put the value there"],
        ),
        ("</match>", "", ["</match> is missing", ":25; add it"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_not_known_or_wrong_is_exit_2_with_its_line_and_what_is_meant(start, conf, old, new, words):
    assert old in POD
    shipper = start("-c", conf(POD.replace(old, new)))
    assert shipper.wait() == 2
    shipper.ended()
    [line] = shipper.lines
    assert line.startswith("s3-shipper: ")
    assert [word for word in words if word not in line] == [], line
    assert SECRET not in line


def test_what_is_not_known_is_warned_of_where_that_was_asked_for(start, conf, logs, stored):
    (logs / "1.log").touch()
    shipper = follow(start, "-c", conf(POD.replace("time_slice_wait", "time_slice_weight")), "--ignore-unknown")
    assert any("time_slice_weight" in line and '"warning"' in line for line in shipper.lines)
    append(logs / "1.log", b"line\n")
    shipper.until(lambda: shipper.metric("follow_read_bytes_total") == 5)
    shipper.drained()
    assert len(stored.lines) == 1


def test_check_tries_the_bucket_of_fluentds_configuration(start, conf, stored):
    assert start("-c", conf(POD), "--check").wait() == 0
    assert stored.server.keys(stored.name) == []
    missing = conf(POD).read_text().replace(stored.name, "missing\n auto_create_bucket false")
    refused = start("-c", conf(missing), "--check")
    assert refused.ended()[0] == 1
    assert "The specified bucket does not exist (NoSuchBucket)" in refused.lines[-1]
    assert SECRET not in refused.lines[-1]
