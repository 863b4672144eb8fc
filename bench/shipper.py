"""s3-shipper beside igzip and the bare uploads, to a real S3 server on loopback: throughput, memory, descriptors.

python bench/shipper.py                    # all of it, about two minutes
python bench/shipper.py throughput memory  # parts: throughput memory sources objects
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure
from tests.servers.s3 import S3

SHIPPER = [measure.PYTHON, "-I", "-m", "sidecars.shipper", "--admin", "off", "--watch", "auto"]
ENVIRON = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "AWS_DEFAULT_REGION": "us-east-1",
}
# Fluent Bit 5.1.1, the same million lines in 10 MB objects with gzip, November 2026; igzip -1 took 0.40 s there.
FLUENT_BIT, FLUENT_BIT_RSS, IGZIP = 8.85, 164, 0.40


def throughput() -> None:
    """A million nginx lines from a file into the bucket, gzipped, from the process's start to its end."""
    with measure.scratch() as directory, S3() as server:
        log = os.path.join(directory, "access.log")
        size = measure.nginx(log)
        figures = measure.in_turn(
            {
                "igzip -1, then the PUTs": lambda: _bare(log, directory, server),
                "s3-shipper --once": lambda: _ship(log, directory, server, size),
                "s3-shipper --once --compress zstd": lambda: _ship(log, directory, server, size, "--compress", "zstd"),
                "s3-shipper --once --format json": lambda: _ship(log, directory, server, size, "--format", "json"),
            },
            rounds=5,
        )
    bare = figures["igzip -1, then the PUTs"]
    rows: list[list[object]] = [
        [name, f"{f['wall']:.2f}", f"{f['cpu']:.2f}", f"{f['rss']:.0f}", f"{measure.LINES / f['wall'] / 1000:,.0f}",
         f"{f['wall'] / bare['wall']:.2f}"]
        for name, f in figures.items()
    ]  # fmt: skip
    wall = FLUENT_BIT * bare["igzip"] / IGZIP
    rows.append(["Fluent Bit, gzip (not run here; calibrated by igzip)", f"{wall:.2f}", "", FLUENT_BIT_RSS,
                 f"{measure.LINES / wall / 1000:,.0f}", f"{wall / bare['wall']:.2f}"])  # fmt: skip
    measure.table(
        f"{measure.LINES:,} nginx lines, {size / 1e6:.0f} MB, into S3 in objects of 10 MB",
        ("program", "wall s", "CPU s", "RSS MB", "thousand lines/s", "time / bare"),
        rows,
    )
    ours = figures["s3-shipper --once"]["wall"]
    print(f"\n{wall / ours:.1f} times sooner than Fluent Bit (goal 5), {ours / bare['wall']:.2f} of bare (goal 2)")
    measure.save("shipper", {"throughput": figures, "fluent_bit_calibrated": wall})


def _bare(log: str, directory: str, server: S3) -> dict[str, float]:
    """Compress with igzip and upload pieces of 10 MB one after another, with a client that is there already."""
    bucket, out = _bucket(server), os.path.join(directory, "access.log.gz")
    client = server.client()
    client.list_objects_v2(Bucket=bucket)
    if os.path.exists(out):
        os.unlink(out)  # igzip does not overwrite
    began = time.perf_counter()
    subprocess.run(["igzip", "-1", "-k", "-o", out, log], check=True, stdin=subprocess.DEVNULL)
    igzip = time.perf_counter() - began
    with open(out, "rb") as file:
        number = 0
        while piece := file.read(10_000_000):
            client.put_object(Bucket=bucket, Key=f"{number}.gz", Body=piece)
            number += 1
    return {"wall": time.perf_counter() - began, "cpu": float("nan"), "rss": float("nan"), "igzip": igzip}


def _bucket(server: S3) -> str:
    bucket = f"bench-{uuid.uuid4().hex[:8]}"
    server.make(bucket)
    return bucket


def _stored(server: S3, bucket: str) -> int:
    """Count the objects, without the one that tries whether the endpoint honours conditions."""
    return sum("probe" not in key for key in server.keys(bucket))


def _ship(log: str, directory: str, server: S3, size: int, *options: str) -> dict[str, float]:
    bucket, state = _bucket(server), os.path.join(directory, "state")
    command = [*SHIPPER, "--once", log, "--bucket", bucket, "--endpoint", server.endpoint, "--state-dir", state]
    began = time.perf_counter()
    process = psutil.Popen([*command, "--chunk-size", "10MB", *options], stderr=subprocess.DEVNULL, env=ENVIRON)
    rss = cpu = 0.0
    while process.poll() is None:
        try:
            times = process.cpu_times()
            rss, cpu = max(rss, measure.peak(process.pid)), times.user + times.system
        except (psutil.Error, OSError, SystemExit):
            break
        time.sleep(0.01)
    code = process.wait()
    wall = time.perf_counter() - began
    shutil.rmtree(state)
    if code:
        raise SystemExit(f"s3-shipper ended with {code}")
    return {"wall": wall, "cpu": cpu, "rss": rss, "igzip": 0.0}


@contextmanager
def _running(*arguments: str) -> Iterator[psutil.Popen]:
    process = psutil.Popen([*SHIPPER, *arguments], stderr=subprocess.PIPE, env=ENVIRON)
    try:
        for line in process.stderr:
            if b'"watching"' in line:
                break
        else:
            raise SystemExit("the process ended before it was watching")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.stderr.read()
        process.wait()


def memory() -> None:
    """Resident memory: before the first upload, after it, at full speed."""
    with measure.scratch() as directory, S3() as server:
        bucket, log = _bucket(server), os.path.join(directory, "app.log")
        common = ["--bucket", bucket, "--endpoint", server.endpoint, "--state-dir", os.path.join(directory, "state")]
        with _running(log, *common, "--slice", "2s") as process:
            time.sleep(1)
            before = process.memory_info().rss / 2**20
            with open(log, "wb") as file:
                file.write(b"a line\n")
            while not _stored(server, bucket):
                time.sleep(0.1)
            time.sleep(0.5)
            after = process.memory_info().rss / 2**20
        big = os.path.join(directory, "access.log")
        measure.nginx(big)
        fast = _ship(big, directory, server, 0)["rss"]
    figures = {"before_first_upload": before, "idle": after, "full_speed": fast}
    goals = {"before_first_upload": 38, "idle": 76, "full_speed": 115}
    rows = [[name.replace("_", " "), f"{value:.1f}", goals[name]] for name, value in figures.items()]
    measure.table("Resident memory, MiB", ("when", "MiB", "goal"), rows)
    measure.save("shipper", {"memory": figures})


def sources() -> None:
    """200 files with a tag each: descriptors and memory."""
    with measure.scratch() as directory, S3() as server:
        logs = os.path.join(directory, "logs")
        os.mkdir(logs)
        files = [open(os.path.join(logs, f"{number}.log"), "ab", buffering=0) for number in range(200)]  # noqa: SIM115
        common = ["--bucket", _bucket(server), "--endpoint", server.endpoint, "--state-dir", f"{directory}/state"]
        with _running(logs, *common, "--tag", "*", "--slice", "5s") as process:
            grown: list[float] = []
            descriptors = 0
            for _ in range(12):
                for file in files:
                    file.write(b"2026-11-23T10:00:00Z a line of some length, as logs have them\n" * 20)
                time.sleep(1)
                grown.append(process.memory_info().rss / 2**20)
                descriptors = max(descriptors, process.num_fds())
        for file in files:
            file.close()
    rows = [["descriptors at most", descriptors, "400 and the process's own"], ["MiB after 6 s", f"{grown[5]:.1f}", ""],
            ["MiB after 12 s", f"{grown[-1]:.1f}", "flat"]]  # fmt: skip
    measure.table("200 sources with 200 tags", ("what", "figure", "goal"), rows)
    measure.save("shipper", {"sources": {"descriptors": descriptors, "mib": grown}})


def objects() -> None:
    """Requests per object, as the bucket fills: no listing and no asking that grows with it."""
    from tests.servers.s3_proxy import S3Proxy

    rows = []
    figures = {}
    with measure.scratch() as directory, S3() as server, S3Proxy(server.endpoint) as proxy:
        bucket = _bucket(server)
        log = os.path.join(directory, "app.log")
        key = "%{path}%{time_slice}_%{index}.%{file_extension}"
        options = ["--bucket", bucket, "--endpoint", proxy.endpoint, "--state-dir", f"{directory}/state"]
        options += ["--slice", "1h", "--chunk-size", "1MiB", "--compress", "none", "--key-format", key]
        with _running(log, *options):
            for share in (20, 40, 80):
                before = len(proxy.requests)
                stored = _stored(server, bucket)
                with open(log, "ab") as file:
                    for _ in range(share):
                        file.write((b"x" * 1023 + b"\n") * 1024)
                while _stored(server, bucket) < stored + share * 0.9:
                    time.sleep(0.2)
                made = _stored(server, bucket) - stored
                requests = len(proxy.requests) - before
                figures[stored] = requests / max(1, made)
                rows.append([stored, made, f"{requests / max(1, made):.2f}"])
    measure.table("Requests per object with %{index}", ("objects there before", "made", "requests per object"), rows)
    measure.save("shipper", {"requests_per_object": figures})


PARTS: dict[str, Callable[[], None]] = {
    "throughput": throughput, "memory": memory, "sources": sources, "objects": objects,
}  # fmt: skip


if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
