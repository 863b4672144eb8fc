"""s3-shipper as its operator meets it: what is in the bucket, how it starts and ends, and what it says meanwhile."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from tests.servers.shipping import RIGHTS, append, numbered

ID = "[0-9a-f]{32}"


def test_what_is_there_is_in_the_bucket_once_and_a_second_run_ships_what_was_added(shipper, logs, stored):
    (logs / "a.log").write_bytes(b"one\ntwo\n")
    shipper("--once", logs / "*.log").done()
    [key] = stored.keys
    assert re.fullmatch(rf"\d{{4}}/\d\d/\d\d/\d{{12}}-{ID}\.log\.gz", key)
    shipper("--once", logs / "*.log").done()
    assert stored.keys == [key]
    append(logs / "a.log", b"three\n")
    shipper("--once", logs / "*.log").done()
    assert list(stored.objects.values()) in ([b"one\ntwo\n", b"three\n"], [b"three\n", b"one\ntwo\n"])


def test_lines_are_shipped_while_they_are_written(ship, logs, stored):
    shipper = ship("--chunk-age=200ms", logs / "a.log")
    (logs / "a.log").write_bytes(b"one\n")
    shipper.until(lambda: stored.lines == [b"one\n"])
    append(logs / "a.log", b"two\n")
    shipper.until(lambda: stored.lines == [b"one\n", b"two\n"])
    assert len(stored.keys) == 2
    shipper.drained()
    assert len(stored.keys) == 2


def test_each_source_of_a_config_file_has_a_tag_a_prefix_and_a_format_of_its_own(shipper, logs, stored, tmp_path):
    for name in ("access", "error", "app"):
        (logs / f"{name}.log").write_bytes(b"line of %s\n" % name.encode())
    (tmp_path / "shipper.yaml").write_text(f"""
compress: none
key_format: "%{{path}}$TAG-{{chunk}}.%{{file_extension}}"
sources:
- paths: [{logs}/access.log]
  tag: web.access
  prefix: web/
- paths: [{logs}/error.log]
  tag: web.error
  prefix: web/
  format: json
- paths: [{logs}/app.log]
  tag: app
""")
    shipper("--once", "--config", tmp_path / "shipper.yaml").done()
    objects = {re.sub(ID, "ID", key): data for key, data in stored.objects.items()}
    error = json.loads(objects.pop("web/web.error-ID.json"))
    assert (error["tag"], error["message"]) == ("web.error", "line of error")
    assert objects == {"web/web.access-ID.log": b"line of access\n", "app-ID.log": b"line of app\n"}


# Objects


def test_each_time_slice_has_an_object_of_its_own_named_by_its_beginning(ship, logs, stored):
    path, written = logs / "a.log", []
    shipper = ship("--slice=1s", "--key-format=%{time_slice}-{chunk}", "--compress=none", path)

    def write() -> bool:
        written.append(b"%d %d\n" % (time.time(), len(written)))
        append(path, written[-1])
        time.sleep(0.02)  # lines of every moment
        return len(stored.keys) >= 2

    shipper.until(write)
    shipper.drained()
    assert stored.lines == sorted(written)
    for key, data in stored.objects.items():
        begin = datetime.strptime(key[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
        # A line is in the slice in which it was read.
        assert {int(line.split()[0]) - begin for line in data.splitlines()} <= {0, -1}
    assert len({key[:14] for key in stored.keys}) == len(stored.keys)


def test_slices_are_named_in_the_zone_that_was_asked_for(shipper, logs, stored):
    (logs / "a.log").write_bytes(b"line\n")
    tokyo = timezone(timedelta(hours=9))
    before = datetime.now(tokyo)
    options = ("--slice=1h", "--slice-zone=Asia/Tokyo", "--key-format=%Y-%m-%dT%H-{chunk}")
    shipper("--once", *options, logs / "a.log").done()
    [key] = stored.keys
    assert key[:13] in {f"{moment:%Y-%m-%dT%H}" for moment in (before, datetime.now(tokyo))}


def test_objects_are_no_larger_than_asked_for_and_no_line_is_torn(shipper, logs, stored):
    lines = numbered(500_000)
    (logs / "a.log").write_bytes(b"".join(lines))
    shipper("--once", "--chunk-size=2MiB", "--compress=none", logs / "a.log").done()
    sizes = [len(data) for data in stored.objects.values()]
    assert max(sizes) <= 2 << 20
    assert len(sizes) == 3
    assert all(data.endswith(b"\n") for data in stored.objects.values())
    assert stored.lines == lines


@pytest.mark.parametrize(
    ("key_format", "expected"),
    [
        ("%{path}${tag}/{chunk}.%{file_extension}", "web/shop.cart.access/ID.log.gz"),
        ("%{path}${tag[1]}/${tag[-1]}/${chunk_id}", "web/cart/access/ID"),
        ("/$TAG[0]/$INDEX-{pod}-{namespace}-{node}.gz", "shop/000-shop-1-prod-n1.gz"),
        ("%{path}%{index}_{pod}", "web/007_shop-1"),
    ],
)
def test_keys_are_made_of_tags_and_of_what_is_known_of_the_pod(shipper, logs, stored, key_format, expected):
    (logs / "a.log").write_bytes(b"line\n")
    for index in range(7 if "%{index}" in key_format else 0):
        stored.server.client().put_object(Bucket=stored.name, Key=f"web/{index:03}_shop-1")
    environ = {"POD_NAME": "shop-1", "POD_NAMESPACE": "prod", "NODE_NAME": "n1"}
    options = ("--tag=shop.cart.access", "--prefix=web/", "--index-format=%03d", f"--key-format={key_format}")
    shipper("--once", *options, logs / "a.log", environ=environ).done()
    assert expected in [re.sub(ID, "ID", key) for key in stored.keys]


def test_the_tag_of_a_file_is_its_path_where_a_star_stands_for_it(shipper, logs, stored):
    for name in ("a.log", "b.log"):
        (logs / name).write_bytes(name.encode() + b"\n")
    shipper("--once", "--tag=*", "--key-format=${tag[-2]}-{chunk}", "--compress=none", logs / "*.log").done()
    assert sorted((key[0], data) for key, data in stored.objects.items()) == [("a", b"a.log\n"), ("b", b"b.log\n")]


def test_gzip_that_was_appended_to_by_several_processes_is_read_by_zcat(ship, logs, stored, tmp_path):
    lines = numbered(2)
    for count, line in enumerate(lines, 1):
        append(logs / "a.log", line)
        shipper = ship("--slice=0", logs / "a.log")
        shipper.until_kept(count)
        if count < len(lines):
            shipper.killed()
    shipper.drained()
    [data] = stored.bodies.values()
    (tmp_path / "object.gz").write_bytes(data)
    assert subprocess.run(["zcat", tmp_path / "object.gz"], capture_output=True, check=True).stdout == b"".join(lines)


@pytest.mark.parametrize(
    ("compress", "extension", "kind", "magic"),
    [
        ("gzip", ".log.gz", "application/x-gzip", b"\x1f\x8b"),
        ("zstd", ".log.zst", "application/x-zst", b"\x28\xb5\x2f\xfd"),
        ("none", ".log", "text/plain", b"line"),
    ],
)
def test_bytes_come_back_as_they_were_whatever_the_compression(shipper, logs, stored, compress, extension, kind, magic):
    content = b"line\r\n\x00\xff\xfe not UTF-8\n\n" * 1000
    (logs / "a.log").write_bytes(content)
    shipper("--once", f"--compress={compress}", logs / "a.log").done()
    [key] = stored.keys
    assert key.endswith(extension)
    assert stored.objects[key] == content
    assert stored.bodies[key].startswith(magic)
    head = stored.head(key)
    assert (head["ContentType"], head.get("ContentEncoding")) == (kind, None)


def test_json_has_an_object_per_line_with_its_time_tag_file_and_pod(shipper, logs, stored):
    (logs / "a.log").write_bytes(b'he said "yes"\n\xff\n')
    environ = {"POD_NAME": "shop-1", "POD_NAMESPACE": "prod"}
    shipper("--once", "--format=json", "--tag=shop", logs / "a.log", environ=environ).done()
    [(key, data)] = stored.objects.items()
    assert key.endswith(".json.gz")
    rows = [json.loads(line) for line in data.splitlines()]
    for row in rows:
        moment = datetime.fromisoformat(row.pop("time"))
        assert abs(moment.timestamp() - time.time()) < 60
    known = {"tag": "shop", "file": f"{logs}/a.log", "pod": "shop-1", "namespace": "prod"}
    assert rows == [{"message": 'he said "yes"', **known}, {"message": "\ufffd", **known}]


def test_out_file_is_fluentds_time_tag_and_record(shipper, logs, stored):
    (logs / "a.log").write_bytes(b"line\n")
    shipper("--once", "--format=out_file", "--tag=shop", logs / "a.log").done()
    [data] = stored.objects.values()
    assert re.fullmatch(rb'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00\tshop\t\{"message":"line"\}\n', data), data


def test_multiline_records_stay_together(shipper, logs, stored):
    record = b"Traceback\n  File a\n  File b\n"
    (logs / "a.log").write_bytes(record * 2)
    shipper("--once", "--multiline=^Traceback", "--format=json", logs / "a.log").done()
    [data] = stored.objects.values()
    assert [json.loads(line)["message"] for line in data.splitlines()] == [record.decode().rstrip("\n")] * 2


def test_each_object_has_what_was_asked_for_it(shipper, logs, stored):
    (logs / "a.log").write_bytes(b"line\n")
    shipper(
        "--once", "--encryption=aws:kms", "--kms-key-id=alias/logs", "--storage-class=STANDARD_IA",
        "--acl=bucket-owner-full-control", "--object-tag=team=shop", "--object-tag=cost centre=4711 + more",
        "--metadata=origin=tests", "--content-type=application/gzip", "--region=eu-central-1", logs / "a.log",
    ).done()  # fmt: skip
    [key] = stored.keys
    head = stored.head(key)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", "alias/logs")
    assert (head["StorageClass"], head["ContentType"]) == ("STANDARD_IA", "application/gzip")
    [chunk] = re.findall(ID, key)
    assert head["Metadata"] == {"origin": "tests", "sidecars-chunk": chunk, "sidecars-lines": "1"}
    tags = stored.server.client().get_object_tagging(Bucket=stored.name, Key=key)["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"team": "shop", "cost centre": "4711 + more"}


def test_a_bucket_is_made_if_that_is_asked_for(shipper, logs, stored):
    (logs / "a.log").write_bytes(b"line\n")
    new = f"{stored.name}-new"
    shipper("--once", "--create-bucket", f"--bucket={new}", "--key-format=%{index}.gz", logs / "a.log").done()
    assert stored.server.keys(new) == ["0.gz"]


# The end


def test_rotated_files_are_shipped_to_their_end_while_it_runs(ship, logs, stored):
    path, lines = logs / "a.log", numbered(600)
    path.touch()
    shipper = ship("--slice=1s", path)
    for generation in range(6):
        with open(path, "ab", buffering=0) as file:
            file.write(b"".join(lines[generation * 100 : generation * 100 + 99]))
            for number in range(generation, 0, -1):
                (logs / f"a.log.{number}").rename(logs / f"a.log.{number + 1}")
            path.rename(logs / "a.log.1")
            path.touch()
            file.write(lines[generation * 100 + 99])  # a late writer
    shipper.until(lambda: shipper.metric("follow_read_bytes_total") == len(b"".join(lines)))
    shipper.drained()
    assert stored.lines == lines


def test_sigterm_ships_what_is_there_and_exits_0(ship, logs, stored):
    lines = numbered(100_000)
    (logs / "a.log").write_bytes(b"".join(lines))
    ship(logs / "a.log").drained()
    assert stored.lines == lines


def test_after_sigterm_what_was_read_is_shipped_at_once_and_what_is_written_still_is_shipped_too(
    ship, logs, stored, proxy
):
    path, count = logs / "a.log", 1
    append(path, b"000000\n")
    shipper = ship("--quiet=500ms", f"--endpoint={proxy.endpoint}", path)
    shipper.until_kept(1)
    shipper.send(signal.SIGTERM)
    end = time.monotonic() + 1.0
    while time.monotonic() < end or not any(
        request.status == 200 and ".log" in request.path for request in proxy.requests
    ):
        append(path, b"%06d\n" % count)
        count += 1
        if count % 50 == 0:
            path.rename(logs / f"a.log.{count}")
            path.touch()
        assert shipper.process.poll() is None, shipper.lines
        time.sleep(0.02)  # the application's pace
    shipper.done()
    assert b"000000\n" in stored.objects.values()
    assert stored.lines == [b"%06d\n" % number for number in range(count)]


def test_a_last_line_without_an_end_waits_and_goes_out_when_the_pod_ends(ship, logs, stored):
    append(logs / "a.log", b"whole\nhal")
    shipper = ship("--chunk-age=100ms", logs / "a.log")
    shipper.until(lambda: stored.lines)
    append(logs / "a.log", b"f and")
    shipper.drained()
    append(logs / "a.log", b" half\nnext\n")
    ship(logs / "a.log").drained()
    assert sorted(stored.objects.values()) == [b" half\nnext\n", b"half and", b"whole\n"]


def test_with_s3_down_at_the_end_it_says_how_much_stays_and_the_next_start_ships_it(
    ship, logs, stored, proxy, tmp_path
):
    lines = numbered(1000)
    (logs / "a.log").write_bytes(b"".join(lines))
    fault = proxy.fault("refuse", code="AccessDenied")
    message = tmp_path / "termination"
    message.touch()
    options = ("--compress=none", f"--endpoint={proxy.endpoint}", logs / "a.log")
    shipper = ship("--grace=1s", "--chunk-age=100ms", *options, termination_log=str(message))
    shipper.until(lambda: fault.committed > 1)  # it has heard of the first by then
    shipper.send(signal.SIGTERM)
    code, events = shipper.ended()
    assert code == 1
    reason = events[-1]["reason"]
    assert reason.startswith(f"1000 lines in 1 chunks of 12000 bytes not uploaded to s3://{stored.name}/: ")
    assert "Access Denied (AccessDenied)" in reason
    assert reason.endswith("they stay in the state directory for the next start")
    assert message.read_text() == reason
    proxy.recover()
    ship(*options).drained()
    assert stored.lines == lines


def test_a_second_signal_stops_at_once_and_says_what_stays(ship, logs, stored, proxy):
    append(logs / "a.log", b"line\n")
    proxy.fault("refuse")
    shipper = ship("--grace=1h", f"--endpoint={proxy.endpoint}", logs / "a.log")
    shipper.send(signal.SIGTERM)
    shipper.wait_for("upload failed; it is tried again until it works")
    shipper.send(signal.SIGTERM)
    code, events = shipper.ended()
    assert code == 1
    assert events[-1]["reason"].startswith("1 lines in 1 chunks of ")
    proxy.recover()
    ship(f"--endpoint={proxy.endpoint}", logs / "a.log").drained()
    assert stored.lines == [b"line\n"]


def test_once_ends_by_a_signal_while_s3_refuses(ship, logs, proxy):
    append(logs / "a.log", b"line\n")
    proxy.fault("refuse", code="AccessDenied")
    shipper = ship("--once", "--grace=200ms", f"--endpoint={proxy.endpoint}", logs / "a.log")
    shipper.wait_for("upload refused; it is tried again until it is allowed")
    shipper.send(signal.SIGTERM)
    assert shipper.ended()[0] == 128 + signal.SIGTERM


# What it says meanwhile


def test_while_s3_refuses_every_door_says_so_and_once_it_does_not_that_too(ship, logs, stored, proxy):
    append(logs / "a.log", b"line\n")
    proxy.fault("refuse", code="AccessDenied")
    shipper = ship("--chunk-age=100ms", "--tag=web.access", f"--endpoint={proxy.endpoint}", logs / "a.log")
    said = shipper.wait_for("upload refused; it is tried again until it is allowed")
    assert (said["level"], said["code"]) == ("error", "AccessDenied")
    assert "Access Denied (AccessDenied); allow s3:PutObject to these credentials" in said["error"]
    code, reason = shipper.ask("/healthz")
    assert (code, reason) == (503, f"s3: {said['error']}\n")
    command = [sys.executable, "-m", "sidecars.shipper", "healthcheck", "healthz", f"--admin=127.0.0.1:{shipper.port}"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (1, reason)
    # The application's pod stays in service.
    assert shipper.ask("/readyz")[0] == shipper.ask("/livez")[0] == shipper.ask("/startupz")[0] == 200
    assert shipper.metric("delivery_errors_total", output="s3", code="AccessDenied") >= 1
    assert shipper.metric("shipper_retries_total", output="s3") >= 1
    assert shipper.metric("shipper_objects_total", output="s3") == 0
    assert shipper.metric("shipper_backlog_chunks") == 1
    assert shipper.metric("shipper_backlog_bytes") > 0
    assert shipper.metric("oldest_undelivered_seconds") > 0
    [row] = shipper.status()["tables"]["chunks"]
    assert (row["state"], row["lines"], row["tag"], row["output"]) == ("sealed", 1, "web.access", "s3")
    proxy.recover()
    shipper.until(lambda: stored.keys)
    shipper.until(lambda: shipper.ask("/healthz")[0] == 200)
    shipper.wait_for("uploads work again")
    assert subprocess.run(command).returncode == 0
    shipper.until(lambda: shipper.metric("shipper_backlog_chunks") == 0)
    assert shipper.metric("shipper_objects_total", output="s3") == 1
    assert shipper.metric("shipper_lines_total", output="s3") == 1
    assert shipper.metric("shipper_line_bytes_total", output="s3") == 5
    status = shipper.status()
    [key] = stored.keys
    [row] = status["tables"]["objects"]
    assert (row["key"], row["lines"], row["bytes"]) == (key, 1, len(stored.bodies[key]))
    assert (status["numbers"]["objects_total"], status["numbers"]["lines_total"]) == (1, 1)
    assert status["tables"]["chunks"] == []
    assert shipper.metric("oldest_undelivered_seconds") == 0


def test_readiness_follows_delivery_where_that_is_asked_for(ship, logs, proxy):
    append(logs / "a.log", b"line\n")
    proxy.fault("refuse")
    shipper = ship("--once", "--ready-when=delivering", f"--endpoint={proxy.endpoint}", logs / "a.log")
    shipper.wait_for("upload failed; it is tried again until it works")
    code, reason = shipper.ask("/readyz")
    assert code == 503
    assert "Please reduce your request rate. (SlowDown)" in reason


def test_what_has_not_happened_is_0_and_not_absent(ship, logs):
    """An alert on a series that does not exist never fires."""
    _, text = ship(logs / "*.log").ask("/metrics")
    for name in ("shipper_objects_total", "shipper_lines_total", "shipper_retries_total", "follow_lost_bytes_total"):
        assert f'\n{name}{{output="s3"}} 0.0' in text


# Rights


def test_keys_that_rotate_in_a_mounted_secret_are_used_as_soon_as_they_are_there(ship, logs, stored, tmp_path):
    """As the kubelet mounts it: the files are links through ..data, which is exchanged."""
    mount = tmp_path / "secret"

    def write(keys: dict[str, str], generation: str) -> None:
        (mount / generation).mkdir(parents=True)
        for name, value in keys.items():
            (mount / generation / name).write_text(value)
        (mount / "..new").symlink_to(generation)
        (mount / "..new").rename(mount / "..data")

    write({"aws_access_key_id": "AKIAREVOKED", "aws_secret_access_key": "hunter2"}, "..1")
    files = [
        f"--{name}-file={mount}/..data/aws_{name.replace('-', '_')}" for name in ("access-key-id", "secret-access-key")
    ]
    append(logs / "a.log", b"line\n")
    with stored.server.guarded() as keys:
        shipper = ship("--chunk-age=100ms", *files, logs / "a.log")
        said = shipper.wait_for("upload refused; it is tried again until it is allowed")
        assert said["code"] == "InvalidAccessKeyId"
        write(keys, "..2")
        shipper.until(lambda: shipper.metric("shipper_objects_total") == 1)
        shipper.drained()
    assert stored.lines == [b"line\n"]
    secrets = ("hunter2", keys["aws_secret_access_key"])
    assert not [line for line in shipper.lines if any(secret in line for secret in secrets)]


# Memory


def test_boto3_is_imported_when_the_first_upload_is_due_and_memory_is_small_before(ship, logs, stored):
    lines = numbered(1000)
    (logs / "a.log").write_bytes(b"".join(lines))
    shipper = ship(logs / "a.log", environ={"PYTHONPROFILEIMPORTTIME": "1"})

    def imported(package: str) -> bool:
        return any(line.startswith("import time:") and line.split()[-1] == package for line in shipper.lines)

    shipper.until_kept(1000)
    assert shipper.memory < 38
    assert imported("sidecars.shipper.spool")
    assert not imported("boto3")
    assert not imported("botocore")
    shipper.drained()
    assert imported("boto3")
    assert stored.lines == lines


# --check and --check-config


def run(*arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sidecars.shipper", "--termination-log=/dev/null", *map(str, arguments)]
    environ = {"PATH": "/usr/bin:/bin", **RIGHTS, **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)


def test_check_writes_to_the_bucket_and_leaves_nothing_behind(logs, stored):
    done = run("--check", logs / "a.log", f"--bucket={stored.name}", f"--endpoint={stored.server.endpoint}")
    assert (done.returncode, done.stdout) == (0, f"s3://{stored.name}/ can be written\n"), done
    assert stored.server.keys(stored.name) == []


def test_check_of_a_bucket_that_is_not_there_is_exit_1_with_s3s_words(logs, stored):
    done = run("--check", logs / "a.log", "--bucket=missing", f"--endpoint={stored.server.endpoint}")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("s3-shipper: s3://missing/ cannot be written: ")
    assert "The specified bucket does not exist (NoSuchBucket)" in line
    assert "make the bucket, or correct its name" in line


def test_check_where_objects_may_not_be_removed_is_content_and_warns(logs, stored, proxy):
    proxy.fault("refuse", code="AccessDenied", method="DELETE")
    done = run("--check", logs / "a.log", f"--bucket={stored.name}", f"--endpoint={proxy.endpoint}", "--prefix=web/")
    assert done.returncode == 0, done
    warning, verdict = done.stdout.splitlines()
    assert warning.startswith("warning: ")
    assert "Access Denied (AccessDenied)" in warning
    assert verdict == f"s3://{stored.name}/web/ can be written"
    [key] = stored.server.keys(stored.name)
    assert key.startswith("web/.sidecars-probe-")


def test_check_where_conditions_are_ignored_says_so(logs, stored, proxy):
    proxy.fault("unconditional")
    done = run("--check", logs / "a.log", f"--bucket={stored.name}", f"--endpoint={proxy.endpoint}")
    assert done.returncode == 0
    assert f"warning: {proxy.endpoint} ignores If-None-Match" in done.stdout


def test_check_config_reads_nothing_and_asks_nobody(logs, tmp_path):
    (logs / "a.log").write_bytes(b"line\n")
    options = ("--bucket=logs", "--endpoint=http://127.0.0.1:1", f"--state-dir={tmp_path}/state")
    assert run("--check-config", *options, logs / "a.log").returncode == 0
    assert run("--check-config", *options, logs / "a.log", "--format=xml").returncode == 2
    assert not (tmp_path / "state").exists()


# Wrong settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bucket=logs"], ["nothing to read", "PATH", "SHIPPER_PATHS", "--config"]),
        (["/a"], ["--bucket is not set", "SHIPPER_BUCKET"]),
        (["/a", "--bucket=logs", "--state-dir=off"], ["no state directory", "/state", "--state-dir"]),
        (["/a/*.log", "--bucket=logs", "--state-dir=/a"], ["--state-dir /a", "a directory outside of them"]),
        (["/a", "--bucket=logs", "--key-format=%{path}%{time_slice}.gz"], ["same key", "{chunk}", "%{index}"]),
        (["/a", "--bucket=logs", "--chunk-size=2GiB"], ["--chunk-size is 2GiB", "at most 1GiB"]),
        (["-c", "/does/not/exist"], ["/does/not/exist"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_setting_is_exit_2_and_says_what_to_do(tmp_path, arguments, words):
    done = run(*arguments, SHIPPER_STATE_DIR=str(tmp_path), SHIPPER_ADMIN="127.0.0.1:0", SHIPPER_LOG_FORMAT="text")
    assert (done.returncode, done.stdout) == (2, ""), done
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
