"""What the benchmarks share: data to read, processes timed from outside, medians, tables, results on disk."""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")
LINES = 1_000_000
# `make bench` gives an environment with nothing but what an image has: development tools slow each start down.
PYTHON = os.environ.get("BENCH_PYTHON", sys.executable)
# Memory, so that the disk is not what is measured.
SCRATCH = "/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir()


@contextmanager
def scratch() -> Iterator[str]:
    """Give a directory in memory."""
    directory = tempfile.mkdtemp(prefix="bench-", dir=SCRATCH)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def nginx(path: str, lines: int = LINES) -> int:
    """Write lines of nginx's combined format, 197.9 bytes each on average as in the peers' runs; give the size."""
    dice = random.Random(1)
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML)"
    with open(path, "wb") as file:
        for start in range(0, lines, 10_000):
            rows = []
            for number in range(start, start + 10_000):
                address = ".".join(str(dice.randrange(1, 255)) for _ in range(4))
                rows.append(
                    f"{address} - - [23/Nov/2026:06:{number // 60_000 % 60:02}:{number // 1000 % 60:02} +0000] "
                    f'"GET /api/v1/items/{dice.randrange(10**6)}?page={dice.randrange(100)} HTTP/1.1" '
                    f'{dice.choice((200, 304, 404))} {dice.randrange(10**5)} "https://shop.example.org/" "{agent}"\n'
                )
            file.write("".join(rows).encode())
    return os.path.getsize(path)


def timed(command: Sequence[str], out: str, size: int) -> dict[str, float]:
    """Run a command until its output file has this size; give wall and CPU seconds, and the largest resident set in MB.

    A follower does not end by itself, so what is timed is how long it takes to have everything written.
    """
    if os.path.exists(out):
        os.unlink(out)
    with open(out, "wb") as file:
        began = time.perf_counter()
        process = psutil.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        while os.path.getsize(out) < size:
            if process.poll() is not None:
                break
            time.sleep(0.001)
        wall = time.perf_counter() - began
    if process.poll() is not None and os.path.getsize(out) < size:
        raise SystemExit(f"{command} ended early with {process.returncode}")
    return {"wall": wall, **(_ended(process) if process.poll() is None else {"cpu": float("nan"), "rss": float("nan")})}


def timed_when_ready(command: Sequence[str], log: str, out: str, size: int) -> dict[str, float]:
    """Time a follower that runs already, when the file is put under its path: the interpreter's start left out."""
    path = f"{log}.later"
    with open(out, "wb") as file:
        process = psutil.Popen([*command, path], stdout=file, stderr=subprocess.PIPE)
    wait_for(process, b'"watching"')
    threading.Thread(target=process.stderr.read, daemon=True).start()
    began = time.perf_counter()
    os.link(log, path)
    while os.path.getsize(out) < size:
        time.sleep(0.001)
    wall = time.perf_counter() - began
    os.unlink(path)
    return {"wall": wall, **_ended(process)}


def wait_for(process: psutil.Popen, event: bytes) -> None:
    """Read what a process says until it says this."""
    for line in process.stderr:
        if event in line:
            return
    raise SystemExit(f"the process ended before it said {event!r}")


def _ended(process: psutil.Popen) -> dict[str, float]:
    """End a process with the workers it has; give the CPU seconds and the largest resident sets of all together."""
    every = [process, *process.children(recursive=True)]
    usage = {"cpu": sum(each.cpu_times().user + each.cpu_times().system for each in every),
             "rss": sum(peak(each.pid) for each in every), "processes": len(every)}  # fmt: skip
    for each in every:
        each.kill()
    process.wait()
    return usage


def peak(pid: int) -> float:
    """Give the largest resident set of a process so far, in MB."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/{pid}/status has no VmHWM")


def in_turn(runs: dict[str, Callable[[], dict[str, float]]], rounds: int = 5) -> dict[str, dict[str, float]]:
    """Run each in turn, A B A B, and give the medians: so that a machine whose speed drifts is fair to all."""
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            taken[name].append(run())
    return {
        name: {key: statistics.median(figures[key] for figures in each) for key in each[0]}
        for name, each in taken.items()
    }


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"\n### {title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + " --- |" * len(header))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |", flush=True)


def save(name: str, results: dict[str, Any]) -> None:
    """Keep the figures, with what they were measured on."""
    os.makedirs(RESULTS, exist_ok=True)
    path = os.path.join(RESULTS, f"{name}.json")
    machine = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "kernel": platform.release().partition("-")[0],
        "cores": os.cpu_count(),
    }
    known: dict[str, Any] = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**known, "machine": machine, **results}, file, indent=2)
        file.write("\n")
    print(f"\nfigures are in bench/results/{name}.json", file=sys.stderr)
