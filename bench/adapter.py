"""log-adapter beside GNU tail and Fluent Bit: throughput, memory, and the last records of a large file.

python bench/adapter.py                    # all of it, about six minutes
python bench/adapter.py throughput recent  # parts: throughput workers memory recent
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure

ADAPTER = [measure.PYTHON, "-I", "-m", "sidecars.adapter"]
# Only what reads, parses and writes: nothing that listens.
QUIET = [*ADAPTER, "--admin", "off", "--listen", "off"]
NGINX = ["--from", "nginx"]
JSON = ["--from", "json", "--add", "a=b", "--add", "c=d"]
ROUNDS = 3

# Fluent Bit 5.1.1 on one machine, November 2026: wall and CPU seconds for a million lines, to a file. Here walls are
# scaled by that of GNU tail, CPU seconds by those of gzip -1, which does nothing but compute.
FLUENT_BIT = {
    "nginx regex to JSON, defaults": (7.93, 7.53),
    "nginx regex to JSON, threaded": (4.92, 5.56),
    "JSON to JSON, defaults": (4.99, 4.52),
    "JSON to JSON, threaded": (3.33, 3.86),
}
GNU_TAIL_WALL, GZIP_CPU = 0.17, 1.5
GOALS = {"nginx": 400_000, "json": 800_000, "ratio": 2.5, "recent_ms": 20, "idle_mib": 50, "full_speed_mib": 85}


def json_lines(path: str, lines: int = measure.LINES) -> None:
    """Write lines such as a service logs, about as long as in the peers' runs: 232 bytes."""
    dice = random.Random(1)
    with open(path, "w", encoding="ascii") as file:
        for number in range(lines):
            moment = f"2026-11-23T06:{number // 60_000 % 60:02}:{number // 1000 % 60:02}.{number % 1000:03}Z"
            file.write(
                f'{{"time":"{moment}","level":"{dice.choice(("info", "info", "warning", "error"))}",'
                f'"logger":"shop.orders","message":"order {dice.randrange(10**6)} of user {dice.randrange(10**5)}",'
                f'"order_id":{dice.randrange(10**9)},"duration":{dice.random():.4f},"client":"10.{dice.randrange(256)}.0.1",'
                f'"path":"/api/v1/orders","trace_id":"{dice.randrange(16**16):016x}"}}\n'
            )


def throughput() -> None:
    """A million lines from the head of a file to a file, from the process's start to the last byte."""
    with measure.scratch() as directory:
        access, objects, out = (os.path.join(directory, name) for name in ("access.log", "app.json", "out"))
        size = measure.nginx(access)
        json_lines(objects)
        cases = {
            "nginx to JSON lines": [*QUIET, *NGINX, access],
            "nginx to ECS": [*QUIET, *NGINX, "--to", "ecs", access],
            "JSON to JSON, two fields added": [*QUIET, *JSON, objects],
        }
        sizes = {name: _size(out, command) for name, command in cases.items()}
        runs: dict[str, Callable[[], dict[str, float]]] = {
            "GNU tail -n +1 -F": lambda: measure.timed(["tail", "-n", "+1", "-F", access], out, size),
            "gzip -1": lambda: _gzipped(access),
        }
        for name, command in cases.items():
            runs[name] = _timed(command, out, sizes[name])
            if name != "nginx to ECS":
                runs[f"{name}, once ready"] = _timed_when_ready(command, out, sizes[name])
        figures = measure.in_turn(runs, ROUNDS)
    rows = [_row(name, f["wall"], f["cpu"], f["rss"]) for name, f in figures.items()]
    calibrated = _calibrated(figures["GNU tail -n +1 -F"]["wall"] / GNU_TAIL_WALL, figures["gzip -1"]["cpu"] / GZIP_CPU)
    rows += [
        _row(f"Fluent Bit {name} (not run here; calibrated)", f["wall"], f["cpu"], None)
        for name, f in calibrated.items()
    ]
    measure.table(
        f"{measure.LINES:,} lines, to a file",
        ("program", "wall s", "CPU s", "RSS MB", "thousand lines/s", "thousand lines per CPU s"),
        rows,
    )
    ratios = _ratios(figures, calibrated)
    measure.table(
        "Lines per CPU second beside Fluent Bit's (not run here)",
        ("what", "calibrated by gzip -1", "as measured there"),
        [[name, f"{each['calibrated']:.2f}", f"{each['as_measured']:.2f}"] for name, each in ratios.items()],
    )
    nginx, objects_ready = (
        figures["nginx to JSON lines, once ready"],
        figures["JSON to JSON, two fields added, once ready"],
    )
    print(
        f"\nonce ready: nginx {measure.LINES / nginx['wall']:,.0f} lines/s (goal {GOALS['nginx']:,}), "
        f"JSON {measure.LINES / objects_ready['wall']:,.0f} lines/s (goal {GOALS['json']:,})"
    )
    measure.save(
        "adapter", {"throughput": figures, "fluent_bit_calibrated": calibrated, "ratio_per_cpu_second": ratios}
    )


def _gzipped(path: str) -> dict[str, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(["gzip", "-1", "-c", path], stdout=subprocess.DEVNULL, check=True)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "rss": 0.0}


def _calibrated(by_wall: float, by_cpu: float) -> dict[str, dict[str, float]]:
    """Give Fluent Bit's figures as they would be on this machine."""
    return {name: {"wall": wall * by_wall, "cpu": cpu * by_cpu} for name, (wall, cpu) in FLUENT_BIT.items()}


def _timed(command: list[str], out: str, size: int) -> Callable[[], dict[str, float]]:
    return lambda: measure.timed(command, out, size)


def _timed_when_ready(command: list[str], out: str, size: int) -> Callable[[], dict[str, float]]:
    return lambda: measure.timed_when_ready(command[:-1], command[-1], out, size)


def _size(out: str, command: list[str]) -> int:
    with open(out, "wb") as file:
        subprocess.run([*command, "--once"], stdout=file, stderr=subprocess.DEVNULL, check=True)
    return os.path.getsize(out)


def _row(name: str, wall: float, cpu: float, rss: float | None) -> list[object]:
    return [name, f"{wall:.2f}", f"{cpu:.2f}", f"{rss:.0f}" if rss else "", f"{measure.LINES / wall / 1000:,.0f}",
            f"{measure.LINES / cpu / 1000:,.0f}"]  # fmt: skip


def _ratios(
    figures: dict[str, dict[str, float]], calibrated: dict[str, dict[str, float]]
) -> dict[str, dict[str, float]]:
    """Say how many times Fluent Bit's lines a CPU second gives."""
    ratios = {}
    for name, (_, cpu) in FLUENT_BIT.items():
        ours = figures["nginx to JSON lines" if name.startswith("nginx") else "JSON to JSON, two fields added"]["cpu"]
        ratios[name] = {"calibrated": calibrated[name]["cpu"] / ours, "as_measured": cpu / ours}
    return ratios


def workers() -> None:
    """The same million lines with one process that parses, and with two, in files that are read by turns."""
    with measure.scratch() as directory:
        access, objects, out = (os.path.join(directory, name) for name in ("access.log", "app.json", "out"))
        measure.nginx(access)
        json_lines(objects)
        cases = {
            "nginx to JSON lines": [*QUIET, *NGINX, access],
            "JSON to JSON, two fields added": [*QUIET, *JSON, objects],
        }
        runs = {
            f"{name}, --workers {number}": _timed(
                [*command[:-1], "--workers", str(number), command[-1]], out, _size(out, command)
            )
            for name, command in cases.items()
            for number in (1, 2)
        }
        figures = measure.in_turn(runs, ROUNDS)
    if all(f["processes"] == 1 for f in figures.values()):
        raise SystemExit("--workers starts no process here: there is nothing to compare")
    measure.table(
        f"{measure.LINES:,} lines, to a file, by processes that parse; the start included",
        ("program", "wall s", "CPU s", "RSS MB", "thousand lines/s", "thousand lines per CPU s"),
        [_row(name, f["wall"], f["cpu"], f["rss"]) for name, f in figures.items()],
    )
    measure.save("adapter", {"workers": figures})


@contextmanager
def _running(*arguments: str) -> Iterator[psutil.Popen]:
    process = psutil.Popen([*ADAPTER, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        measure.wait_for(process, b'"watching"')
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def memory() -> None:
    """Resident memory with everything that is on by default: idle, and while nearly 10 GB pass, a tenth at a time."""
    pieces = 10
    with measure.scratch() as directory:
        log, spare = os.path.join(directory, "access.log"), os.path.join(directory, "spare")
        admin, web = _free_port(), _free_port()
        with _running(
            log, *NGINX, "--admin", f"127.0.0.1:{admin}", "--listen", f"127.0.0.1:{web}", "--rotate-wait", "0"
        ) as process:
            time.sleep(3)
            idle = process.memory_info().rss / 2**20
            size, lines = _repeated(spare, 5)
            after = []
            for number in range(1, pieces + 1):
                shutil.copyfile(spare, f"{log}.next")
                # The file that was there is read to its end already: this is a rotation that frees its memory.
                os.replace(f"{log}.next", log)
                _wait_for_records(admin, number * lines)
                after.append(process.memory_info().rss / 2**20)
            most = measure.peak(process.pid)
            urllib.request.urlopen(f"http://127.0.0.1:{web}/logs?tail=1000").read()
            asked = process.memory_info().rss / 2**20
    rows = [
        ["idle, nothing read yet", f"{idle:.1f}", GOALS["idle_mib"]],
        [f"after each tenth of {pieces * size / 1e9:.1f} GB", " ".join(f"{each:.0f}" for each in after), "flat"],
        ["at most until then", f"{most:.1f}", GOALS["full_speed_mib"]],
        ["after GET /logs?tail=1000", f"{asked:.1f}", ""],
    ]
    measure.table("Resident memory with --listen and --admin, nginx to JSON lines", ("when", "MiB", "goal"), rows)
    figures = {"idle": idle, "after_each_tenth": after, "full_speed": most, "after_a_request": asked}
    measure.save("adapter", {"memory_mib": figures})


def _wait_for_records(port: int, count: int) -> None:
    """Wait until so many records were read, as the metrics say."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
        found = re.search(rb"^adapter_records_total (\S+)", text, re.MULTILINE)
        if found and float(found[1]) >= count:
            return
        time.sleep(0.1)
    raise SystemExit(f"the adapter did not read {count:,} records in two minutes")


def recent() -> None:
    """The last hundred records of a file of 10 GB, of real lines from its beginning to its end, in memory."""
    with measure.scratch() as directory:
        log = os.path.join(directory, "access.log")
        size, _ = _repeated(log, 53)
        port = _free_port()
        # Nothing but the request is to be measured: what is there already is not read.
        with _running(
            log, *NGINX, "--read-from", "end", "--admin", "off", "--listen", f"127.0.0.1:{port}", "--output", "off"
        ):
            first = _asked(port)
            taken = sorted(_asked(port) for _ in range(50))
    figures = {"first_ms": first, "median_ms": statistics.median(taken), "most_ms": taken[-1], "bytes": size}
    measure.table(
        f"GET /logs?tail=100 of a file of {size / 1e9:.1f} GB, a connection each, 50 times, milliseconds",
        ("first", "median", "slowest", "goal"),
        [[f"{first:.1f}", f"{figures['median_ms']:.1f}", f"{taken[-1]:.1f}", GOALS["recent_ms"]]],
    )
    measure.save("adapter", {"recent": figures})


def _repeated(path: str, times: int) -> tuple[int, int]:
    """Write a million nginx lines so many times, one after another; give the size and the lines."""
    measure.nginx(f"{path}.piece")
    with open(path, "wb") as file:
        for _ in range(times):
            with open(f"{path}.piece", "rb") as piece:
                shutil.copyfileobj(piece, file, 1 << 20)
    os.unlink(f"{path}.piece")
    return os.path.getsize(path), times * measure.LINES


def _asked(port: int) -> float:
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/logs?tail=100")
    answer = connection.getresponse()
    body = answer.read()
    took = time.perf_counter() - began
    connection.close()
    if answer.status != 200 or len(json.loads(body)) != 100:
        raise SystemExit(f"GET /logs?tail=100 gave {answer.status} and {len(body)} bytes")
    return took * 1000


PARTS = {"throughput": throughput, "workers": workers, "memory": memory, "recent": recent}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        if part not in PARTS:
            raise SystemExit(f"no part {part!r}; there are {', '.join(PARTS)}")
        PARTS[part]()
