"""docs/benchmarks.md, made from bench/results: a figure stands there only if a benchmark has written it.

`python -m bench.table` writes the page; a test compares it with what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


class Row(NamedTuple):
    """One row: what was measured, how figures are written, and where each column's figure lies in the results."""

    label: str
    form: str
    places: tuple[str, ...]
    scale: float = 1


class Table(NamedTuple):
    """A table: its title, the file with the results, what is said of it, its columns and rows."""

    title: str
    name: str
    about: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


TABLES = (
    Table(
        "log-tailer",
        "tailer",
        "1,000,000 nginx lines of 190 MB in all, to a file, unless it says otherwise.",
        ("log-tailer", "GNU `tail -F`"),
        (
            Row("all lines, with the program's start, s", "{:.2f}",
                ("throughput/log-tailer/wall", "throughput/GNU tail -n +1 -F/wall")),
            Row("all lines, once it is ready, s", "{:.2f}", ("throughput/log-tailer, ready/wall", "")),
            Row("with `--label name`, s", "{:.2f}", ("throughput/log-tailer --label name/wall", "")),
            Row("with `--format json`, s", "{:.2f}", ("throughput/log-tailer --format json/wall", "")),
            Row("to a forward receiver, acknowledged, lines a second", "{:,.0f}", ("forward/lines_per_second", "")),
            Row("from write to stdout at 1,000 lines a second, median, ms", "{:.2f}",
                ("latency/log-tailer/p50_ms", "latency/GNU tail -F/p50_ms")),
            Row("the same, 99th percentile, ms", "{:.2f}", ("latency/log-tailer/p99_ms", "latency/GNU tail -F/p99_ms")),
            Row("idle with 1 file, CPU of one core, %", "{:.2f}", ("idle/1/cpu_percent", "")),
            Row("idle with 10,000 files, CPU of one core, %", "{:.2f}", ("idle/10000/cpu_percent", "")),
            Row("descriptors with 10,000 files", "{:.0f}", ("idle/10000/descriptors", "")),
            Row("memory, idle with 1 file, MiB", "{:.0f}", ("idle/1/rss_mib", "")),
            Row("memory at most while 10 GB pass, MiB", "{:.0f}", ("memory_mib/10 GB read", "")),
            Row("memory at most with one line of 1 GB, MiB", "{:.0f}", ("memory_mib/one line of 1 GB", "")),
            Row("memory at most with 10,000 files, MiB", "{:.0f}", ("memory_mib/10,000 files", "")),
        ),
    ),
    Table(
        "log-adapter",
        "adapter",
        "1,000,000 lines: nginx in 190 MB, JSON in 228 MB. Fluent Bit is not run here: its figures are those of an "
        "earlier run, scaled by what both machines need for the same work.",
        ("log-adapter", "Fluent Bit, defaults (not run here)", "Fluent Bit, threaded (not run here)"),
        (
            Row("nginx to JSON lines, with the program's start, s", "{:.2f}",
                ("throughput/nginx to JSON lines/wall", "fluent_bit_calibrated/nginx regex to JSON, defaults/wall",
                 "fluent_bit_calibrated/nginx regex to JSON, threaded/wall")),
            Row("the same, CPU s", "{:.2f}",
                ("throughput/nginx to JSON lines/cpu", "fluent_bit_calibrated/nginx regex to JSON, defaults/cpu",
                 "fluent_bit_calibrated/nginx regex to JSON, threaded/cpu")),
            Row("nginx to JSON lines, once it is ready, s", "{:.2f}",
                ("throughput/nginx to JSON lines, once ready/wall", "", "")),
            Row("nginx to ECS, s", "{:.2f}", ("throughput/nginx to ECS/wall", "", "")),
            Row("JSON to JSON, two fields added, s", "{:.2f}",
                ("throughput/JSON to JSON, two fields added/wall", "fluent_bit_calibrated/JSON to JSON, defaults/wall",
                 "fluent_bit_calibrated/JSON to JSON, threaded/wall")),
            Row("the same, CPU s", "{:.2f}",
                ("throughput/JSON to JSON, two fields added/cpu", "fluent_bit_calibrated/JSON to JSON, defaults/cpu",
                 "fluent_bit_calibrated/JSON to JSON, threaded/cpu")),
            Row("`GET /logs?tail=100` of a file of 10 GB, median, ms", "{:.1f}", ("recent/median_ms", "", "")),
            Row("memory, idle, MiB", "{:.0f}", ("memory_mib/idle", "", "")),
            Row("memory at full speed, MiB", "{:.0f}", ("memory_mib/full_speed", "", "")),
        ),
    ),
    Table(
        "s3-shipper",
        "shipper",
        "1,000,000 nginx lines of 190 MB, in gzipped objects of 10 MB, to a server on the same machine. Fluent Bit is "
        "not run here: its time is that of an earlier run, scaled by what both machines need to compress.",
        ("s3-shipper", "`igzip -1`, then bare PUTs", "Fluent Bit (not run here)"),
        (
            Row("gzip, with the program's start, s", "{:.2f}",
                ("throughput/s3-shipper --once/wall", "throughput/igzip -1, then the PUTs/wall",
                 "fluent_bit_calibrated")),
            Row("zstd, s", "{:.2f}", ("throughput/s3-shipper --once --compress zstd/wall", "", "")),
            Row("as JSON, s", "{:.2f}", ("throughput/s3-shipper --once --format json/wall", "", "")),
            Row("memory before the first upload, MiB", "{:.0f}", ("memory/before_first_upload", "", "")),
            Row("memory, idle after it, MiB", "{:.0f}", ("memory/idle", "", "")),
            Row("memory at full speed, MiB", "{:.0f}", ("memory/full_speed", "", "")),
            Row("requests for each object with `%{index}`, none there", "{:.1f}", ("requests_per_object/0", "", "")),
            Row("the same, 60 there", "{:.1f}", ("requests_per_object/60", "", "")),
        ),
    ),
    Table(
        "git-syncer",
        "syncer",
        "Over HTTP on one machine; the large repository has 20,000 files in 200 MB.",
        ("git-syncer",),
        (
            Row("a poll without news, CPU ms", "{:.1f}", ("idle/in the process/cpu",), 1000),
            Row("the same where git has to be asked, CPU ms", "{:.1f}",
                ("idle/by git ls-remote, with --git-config http.x:y/cpu",), 1000),
            Row("a small repository, `--one-time`, s", "{:.2f}", ("small/git-syncer/wall",)),
            Row("first sync of the large one, s", "{:.1f}", ("large/first",)),
            Row("one file of it changed, push to link, s", "{:.2f}", ("large/one file",)),
            Row("push to link by webhook, median, ms", "{:.0f}", ("latency/webhook/p50",), 1000),
            Row("push to link by webhook, worst, ms", "{:.0f}", ("latency/webhook/worst",), 1000),
            Row("push to link by poll, period 1 s, median, s", "{:.2f}", ("latency/poll, period 1 s/p50",)),
            Row("memory, idle, MiB", "{:.0f}", ("idle/in the process/rss",)),
        ),
    ),
    Table(
        "ambassador",
        "ambassador",
        "One thread each; clients, servers and the proxy share the two cores.",
        ("ambassador", "HAProxy", "nutcracker", "Envoy"),
        (
            Row("bulk, 1 connection, MB a second", "{:,.0f}",
                ("bulk/1/ambassador/mb_per_second", "bulk/1/haproxy/mb_per_second", "", "bulk/1/envoy/mb_per_second")),
            Row("bulk, 8 connections, MB a second", "{:,.0f}",
                ("bulk/8/ambassador/mb_per_second", "bulk/8/haproxy/mb_per_second", "", "bulk/8/envoy/mb_per_second")),
            Row("small requests, 50 connections, a second", "{:,.0f}",
                ("small/50 connections/ambassador/rps", "small/50 connections/haproxy/rps", "",
                 "small/50 connections/envoy/rps")),
            Row("the same, 99th percentile, ms", "{:.2f}",
                ("small/50 connections/ambassador/p99_ms", "small/50 connections/haproxy/p99_ms", "",
                 "small/50 connections/envoy/p99_ms")),
            Row("small requests, 500 connections, a second", "{:,.0f}",
                ("small/500 connections/ambassador/rps", "small/500 connections/haproxy/rps", "",
                 "small/500 connections/envoy/rps")),
            Row("connections set up, a second", "{:,.0f}",
                ("connections/ambassador/rate", "connections/haproxy/rate", "", "connections/envoy/rate")),
            Row("Redis, two shards, 50 connections, requests a second", "{:,.0f}",
                ("redis/50 connections/ambassador/rps", "", "redis/50 connections/nutcracker/rps",
                 "redis/50 connections/envoy/rps")),
            Row("the same, 99th percentile, ms", "{:.2f}",
                ("redis/50 connections/ambassador/p99_ms", "", "redis/50 connections/nutcracker/p99_ms",
                 "redis/50 connections/envoy/p99_ms")),
            Row("Redis, 500 connections, requests a second", "{:,.0f}",
                ("redis/500 connections/ambassador/rps", "", "redis/500 connections/nutcracker/rps",
                 "redis/500 connections/envoy/rps")),
            Row("Redis, 50 connections, `-P 16`, requests a second", "{:,.0f}",
                ("redis/50 connections, -P 16/ambassador/rps", "", "redis/50 connections, -P 16/nutcracker/rps",
                 "redis/50 connections, -P 16/envoy/rps")),
            Row("memory, idle, MiB", "{:.0f}", ("idle/ambassador/idle", "idle/haproxy/idle", "", "idle/envoy/idle")),
            Row("memory with 9,900 connections, MiB", "{:.0f}",
                ("idle/ambassador/9900", "idle/haproxy/9900", "", "idle/envoy/9900")),
            Row("from the start to the first answer, ms", "{:.0f}",
                ("idle/ambassador/ready_ms", "idle/haproxy/ready_ms", "", "idle/envoy/ready_ms")),
        ),
    ),
    Table(
        "ambassador, HTTP",
        "ambassador_http",
        "One process each, before nginx; clients, servers and the proxy share the two cores. The aiohttp proxy is 60 "
        "lines that check nothing: why requests are not carried by aiohttp.",
        ("ambassador", "nginx", "HAProxy", "Envoy", "aiohttp, minimal"),
        (
            Row("small requests, 50 connections, a second", "{:,.0f}",
                ("small/ambassador/rps", "small/nginx/rps", "small/haproxy/rps",
                 "small/envoy/rps", "small/aiohttp, minimal/rps")),
            Row("the same, CPU µs a request", "{:.0f}",
                ("small/ambassador/cpu_us", "small/nginx/cpu_us", "small/haproxy/cpu_us",
                 "small/envoy/cpu_us", "small/aiohttp, minimal/cpu_us")),
            Row("the same, 99th percentile, ms", "{:.2f}",
                ("small/ambassador/p99_ms", "small/nginx/p99_ms", "small/haproxy/p99_ms",
                 "small/envoy/p99_ms", "small/aiohttp, minimal/p99_ms")),
            Row("added by the proxy with one connection, median, ms", "{:.3f}",
                ("small/ambassador/added_ms", "small/nginx/added_ms", "small/haproxy/added_ms",
                 "small/envoy/added_ms", "small/aiohttp, minimal/added_ms")),
            Row("an answer of 1 GB, MB a second", "{:,.0f}",
                ("large/ambassador/mb_per_second", "large/nginx/mb_per_second", "large/haproxy/mb_per_second",
                 "large/envoy/mb_per_second", "large/aiohttp, minimal/mb_per_second")),
            Row("memory, idle, MiB", "{:.0f}",
                ("memory/ambassador/idle", "memory/nginx/idle", "memory/haproxy/idle",
                 "memory/envoy/idle", "memory/aiohttp, minimal/idle")),
            Row("memory with 500 connections, after 10 GB, MiB", "{:.0f}",
                ("memory/ambassador/after", "memory/nginx/after", "memory/haproxy/after",
                 "memory/envoy/after", "memory/aiohttp, minimal/after")),
        ),
    ),
    Table(
        "pod-init",
        "init",
        "2 GB, unless it says otherwise.",
        ("pod-init", "`cp -r`", "`sha256sum` on both cores", "`curl`"),
        (
            Row("a wait for a port that is open, CPU s", "{:.2f}", ("start/pod-init wait tcp:///cpu", "", "", "")),
            Row("the same, memory, MiB", "{:.0f}", ("start/pod-init wait tcp:///rss", "", "", "")),
            Row("copy of one file in memory, s", "{:.2f}",
                ("copy/1 in memory/pod-init copy/wall", "copy/1 in memory/cp -r/wall", "", "")),
            Row("copy of 2,000 files in memory, s", "{:.2f}",
                ("copy/2000 in memory/pod-init copy/wall", "copy/2000 in memory/cp -r/wall", "", "")),
            Row("copy of one file on disk, s", "{:.2f}",
                ("copy/1 in disk/pod-init copy/wall", "copy/1 in disk/cp -r/wall", "", "")),
            Row("copy of 2,000 files on disk, s", "{:.2f}",
                ("copy/2000 in disk/pod-init copy/wall", "copy/2000 in disk/cp -r/wall", "", "")),
            Row("the same copy of 2,000 files again, s", "{:.2f}", ("again/2000/wall", "", "", "")),
            Row("`--verify` of one file in place, read twice, s", "{:.2f}",
                ("verify/1/copy --verify/wall", "", "verify/1/sha256sum/wall", "")),
            Row("`--verify` of 2,000 files, s", "{:.2f}",
                ("verify/2000/copy --verify/wall", "", "verify/2000/sha256sum/wall", "")),
            Row("fetch over HTTP on loopback, s", "{:.2f}", ("fetch/pod-init fetch/wall", "", "", "fetch/curl/wall")),
        ),
    ),
    Table(
        "sidecars convert",
        "convert",
        "1,000 manifests of 1.5 MB in all, each with two shell loops; ruamel.yaml only reads and writes them.",
        ("sidecars convert --diff", "ruamel.yaml"),
        (
            Row("all of them, with the program's start, s", "{:.1f}",
                ("runs/convert --diff/wall", "runs/ruamel.yaml, read and written/wall")),
            Row("the same, CPU s", "{:.1f}", ("runs/convert --diff/cpu", "runs/ruamel.yaml, read and written/cpu")),
            Row("memory at most, MiB", "{:.0f}", ("runs/convert --diff/rss", "")),
        ),
    ),
)  # fmt: skip

HEAD = """\
# Benchmarks

<!-- Made from bench/results by `python -m bench.table`; a test compares it. Do not change it by hand. -->

What was measured, beside the peer that does the same. `make bench` runs all of it again: ours and the peer in turn,
medians are kept. Walls vary by about 30 % on a busy machine, so look at ratios. An empty cell was not measured. What
each program does that its peers do not, and the other way round, is in [beside others](beside-others.md).
"""

TAIL = """
## Under fire

Tests that kill the processes at random and at every named point, and count what came out. Their summaries are
committed: [log-tailer](../bench/results/torture.md), [s3-shipper](../bench/results/torture-shipper.md), [s3-shipper
with Ceph](../bench/results/radosgw.md), [git-syncer](../bench/results/torture-syncer.md),
[ambassador](../bench/results/torture-ambassador.md), [its 100,000
connections](../bench/results/connections-ambassador.md), [pod-init](../bench/results/torture-init.md).
"""


def page() -> str:
    """Make the whole page."""
    return "\n".join([HEAD, *(line for table in TABLES for line in section(table)), TAIL.lstrip("\n")])


def section(table: Table) -> Iterator[str]:
    """Make the section of one program."""
    results = json.loads((ROOT / "bench" / "results" / f"{table.name}.json").read_text(encoding="utf-8"))
    machine = results["machine"]
    yield from (f"## {table.title}", "")
    yield (
        f"{table.about} By [bench/{table.name}.py](../bench/{table.name}.py) on {machine['date']}, "
        f"{machine['cores']} cores, Python {machine['python']}, Linux {machine['kernel']}; the raw results are in "
        f"[{table.name}.json](../bench/results/{table.name}.json)."
    )
    yield from ("", cells("", table.columns), cells("---", ["---:"] * len(table.columns)))
    yield from (cells(row.label, (figure(results, row, place) for place in row.places)) for row in table.rows)
    yield ""


def cells(first: str, others: Iterable[str]) -> str:
    """Write a row of a table."""
    return "| " + " | ".join([first, *others]) + " |"


def figure(results: Any, row: Row, place: str) -> str:
    """Write the figure at a place of the results; nothing where none was measured."""
    if not place:
        return ""
    found = results
    for key in keys(place, results):
        found = found[key]
    return row.form.format(found * row.scale)


def keys(place: str, results: Any) -> Iterator[str]:
    """Split a place at slashes into keys that the results have: a key may hold slashes itself."""
    while place:
        key = max((one for one in results if f"{place}/".startswith(f"{one}/")), key=len, default=place)
        yield key
        results = results[key]
        place = place[len(key) + 1 :]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
