"""log-tailer beside GNU tail and Fluent Bit: throughput, latency, idle CPU, memory.

python bench/tailer.py                    # all of it, about five minutes
python bench/tailer.py throughput idle    # parts: throughput forward latency idle memory
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure

TAILER = [measure.PYTHON, "-I", "-m", "sidecars.tailer", "--admin", "off"]
RECEIVER = os.path.join(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "tests/servers/forward_receiver.py"
)

# Fluent Bit 5.1.1 and GNU tail on one machine, November 2026: seconds for the same million nginx lines of 198 MB.
FLUENT_BIT = {"raw, defaults": 4.03, "raw, best tuning": 0.89, "json_lines": 3.86, "forward, best tuning": 1.59}
GNU_TAIL = 0.17
FLUENT_BIT_IDLE = {1: 0.027, 100: 0.093}


def throughput() -> None:
    """A million nginx lines from the head of a file to a file, from the process's start to the last byte."""
    with measure.scratch() as directory:
        log, out = os.path.join(directory, "access.log"), os.path.join(directory, "out")
        size = measure.nginx(log)
        json_size = _size(directory, [*TAILER, "--once", "--format", "json", log])
        label_size = _size(directory, [*TAILER, "--once", "--label", "name", log])
        figures = measure.in_turn(
            {
                "GNU tail -n +1 -F": lambda: measure.timed(["tail", "-n", "+1", "-F", log], out, size),
                "log-tailer": lambda: measure.timed([*TAILER, log], out, size),
                "log-tailer, ready": lambda: measure.timed_when_ready(TAILER, log, out, size),
                "log-tailer --label name": lambda: measure.timed([*TAILER, "--label", "name", log], out, label_size),
                "log-tailer --format json": lambda: measure.timed([*TAILER, "--format", "json", log], out, json_size),
            }
        )
    tail = figures["GNU tail -n +1 -F"]["wall"]
    rows: list[list[object]] = [
        [name, f"{f['wall']:.3f}", f"{f['cpu']:.2f}", f"{f['rss']:.0f}", f"{measure.LINES / f['wall'] / 1000:,.0f}",
         f"{f['wall'] / tail:.2f}"]
        for name, f in figures.items()
    ]  # fmt: skip
    for name, seconds in FLUENT_BIT.items():
        if not name.startswith("forward"):
            wall = seconds * tail / GNU_TAIL
            rows.append([f"Fluent Bit {name} (not run here; calibrated by GNU tail)", f"{wall:.2f}", "", "",
                         f"{measure.LINES / wall / 1000:,.0f}", f"{wall / tail:.1f}"])  # fmt: skip
    measure.table(
        f"{measure.LINES:,} nginx lines, {size / 1e6:.0f} MB, to a file",
        ("program", "wall s", "CPU s", "RSS MB", "thousand lines/s", "time / GNU tail's"),
        rows,
    )
    measure.save("tailer", {"throughput": figures})


def _size(directory: str, command: list[str]) -> int:
    out = os.path.join(directory, "size")
    with open(out, "wb") as file:
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    return os.path.getsize(out)


def forward() -> None:
    """The same lines to the forward output, acknowledged by a receiver that looks at the messages only."""
    with measure.scratch() as directory:
        log = os.path.join(directory, "access.log")
        measure.nginx(log)
        walls, rates = [], []
        for _ in range(5):
            receiver = subprocess.Popen([sys.executable, RECEIVER, "--null"], stdout=subprocess.PIPE)
            assert receiver.stdout
            port = json.loads(receiver.stdout.readline())["port"]
            began = time.perf_counter()
            subprocess.run([*TAILER, "--once", "--output", f"forward://127.0.0.1:{port}", log], check=True,
                           stderr=subprocess.DEVNULL)  # fmt: skip
            walls.append(time.perf_counter() - began)
            receiver.send_signal(signal.SIGTERM)
            receiver.communicate(timeout=10)
            rates.append(measure.LINES / walls[-1])
    wall = statistics.median(walls)
    fluent_bit = FLUENT_BIT["forward, best tuning"]
    measure.table(
        f"{measure.LINES:,} nginx lines to the forward output, each batch acknowledged",
        ("program", "wall s", "thousand lines/s"),
        [
            ["log-tailer, process start to exit", f"{wall:.2f}", f"{measure.LINES / wall / 1000:,.0f}"],
            ["Fluent Bit, best tuning (not run here)", fluent_bit, f"{measure.LINES / fluent_bit / 1000:,.0f}"],
        ],
    )
    measure.save("tailer", {"forward": {"wall": wall, "lines_per_second": measure.LINES / wall}})


def latency() -> None:
    """A line each millisecond: how long from the write to its arrival in the pipe."""
    rows, figures = [], {}
    for name, command in (("GNU tail -F", ["tail", "-n", "+1", "-F"]), ("log-tailer", TAILER)):
        delays = sorted(_delays(command))
        p50, p99 = delays[len(delays) // 2] * 1000, delays[len(delays) * 99 // 100] * 1000
        rows.append([name, f"{p50:.2f}", f"{p99:.2f}", f"{delays[-1] * 1000:.1f}"])
        figures[name] = {"p50_ms": p50, "p99_ms": p99, "max_ms": delays[-1] * 1000}
    rows.append(["Fluent Bit, flush 10 ms (not run here)", 5.8, 9.9, ""])
    measure.table("From write to stdout at 1,000 lines/s, milliseconds", ("program", "p50", "p99", "max"), rows)
    measure.save("tailer", {"latency": figures})


def _delays(command: list[str], lines: int = 8000) -> list[float]:
    with measure.scratch() as directory:
        log = os.path.join(directory, "app.log")
        process = subprocess.Popen([*command, log], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        with open(log, "ab", buffering=0) as file:
            file.write(b"%f\n" % time.monotonic())
            process.stdout.readline()
            writer = threading.Thread(target=_write_each_millisecond, args=(file, lines))
            writer.start()
            delays, rest = [], b""
            while len(delays) < lines:
                data = os.read(process.stdout.fileno(), 65536)
                now = time.monotonic()
                *whole, rest = (rest + data).split(b"\n")
                delays += [now - float(line) for line in whole]
            writer.join()
        process.kill()
        process.wait()
    return delays[lines // 10 :]


def _write_each_millisecond(file: object, lines: int) -> None:
    due = time.monotonic()
    for _ in range(lines):
        due += 0.001
        time.sleep(max(0.0, due - time.monotonic()))
        file.write(b"%f\n" % time.monotonic())  # type: ignore[attr-defined]


def idle() -> None:
    """Files to which nothing is written."""
    rows, figures = [], {}
    for count in (1, 100, 10_000):
        with measure.scratch() as directory:
            for number in range(count):
                with open(os.path.join(directory, f"{number}.log"), "w", encoding="ascii") as file:
                    file.write("a line\n")
            admin = ["--admin", "127.0.0.1:0"] if count == 100 else []
            process = psutil.Popen([*TAILER, *admin, directory], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            measure.wait_for(process, b'"watching"')
            threading.Thread(target=process.stderr.read, daemon=True).start()
            time.sleep(5)
            before, began = process.cpu_times(), time.monotonic()
            time.sleep(20)
            after = process.cpu_times()
            percent = 100 * (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
            rss, descriptors = process.memory_info().rss / 2**20, process.num_fds()
            process.kill()
            process.wait()
        peer = FLUENT_BIT_IDLE.get(count)
        rows.append([f"{count:,}", f"{percent:.3f}", f"{rss:.1f}", descriptors, peer if peer else ""])
        figures[str(count)] = {"cpu_percent": percent, "rss_mib": rss, "descriptors": descriptors}
    measure.table(
        "Idle", ("files", "CPU % of a core", "RSS MiB", "descriptors", "Fluent Bit's CPU % (not run here)"), rows
    )
    measure.save("tailer", {"idle": figures})


def memory() -> None:
    """The largest resident set while a lot is read."""
    rows, figures = [], {}
    cases: dict[str, Callable[[str], list[str]]] = {
        "10 GB read": _ten_gigabytes,
        "one line of 1 GB": _long_line,
        "10,000 files": _many_files,
    }
    for name, prepare in cases.items():
        with measure.scratch() as directory:
            paths = prepare(directory)
            process = psutil.Popen([*TAILER, "--once", *paths], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            most = 0.0
            while process.poll() is None:
                try:
                    most = max(most, measure.peak(process.pid))
                except (OSError, SystemExit):
                    break
                time.sleep(0.01)
            process.wait()
        rows.append([name, f"{most:.1f}"])
        figures[name] = most
    most = _blocked()
    rows.append(["200 MB waiting, stdout blocked for 10 s", f"{most:.1f}"])
    figures["stdout blocked"] = most
    measure.table("Largest resident set", ("case", "MiB (goal: 48)"), rows)
    measure.save("tailer", {"memory_mib": figures})


def _ten_gigabytes(directory: str) -> list[str]:
    first = os.path.join(directory, "0.log")
    measure.nginx(first, 5_050_000)
    paths = [first]
    for number in range(1, 10):
        paths.append(shutil.copyfile(first, os.path.join(directory, f"{number}.log")))
    return paths


def _long_line(directory: str) -> list[str]:
    path = os.path.join(directory, "long.log")
    with open(path, "wb") as file:
        for _ in range(1000):
            file.write(b"x" * 1_000_000)
        file.write(b"\n")
    return [path]


def _many_files(directory: str) -> list[str]:
    for number in range(10_000):
        with open(os.path.join(directory, f"{number}.log"), "wb") as file:
            file.write(b"a line of a log\n" * 1000)
    return [directory]


def _blocked() -> float:
    with measure.scratch() as directory:
        log = os.path.join(directory, "access.log")
        measure.nginx(log)
        process = psutil.Popen([*TAILER, log], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        select.select([process.stdout], [], [])
        time.sleep(10)
        most = measure.peak(process.pid)
        process.kill()
        process.wait()
        process.stdout.close()
    return most


PARTS = {"throughput": throughput, "forward": forward, "latency": latency, "idle": idle, "memory": memory}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        if part not in PARTS:
            raise SystemExit(f"no part {part!r}; there are {', '.join(PARTS)}")
        PARTS[part]()
