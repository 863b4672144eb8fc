"""pod-init beside what it replaces: its start beside a shell's loop, cp -r, sha256sum on all cores, curl.

python bench/init.py                 # all of it, about five minutes
python bench/init.py start copy      # parts: start copy verify again fetch

Copies are made in memory, where nothing but the copying counts, and on the disk of the temporary directory, as far as
the kernel takes it there before the copy ends: neither cp nor pod-init waits for the disk.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure

INIT = [measure.PYTHON, "-I", "-m", "sidecars.init"]
SIZE = 2 << 30
FILES = 2_000
ROUNDS = 3
CORES = len(os.sched_getaffinity(0))


def timed(command: Sequence[str]) -> dict[str, float]:
    """Run a command to its end; give wall and CPU seconds, and the largest resident set in MB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "rss": usage.ru_maxrss / 1024}


def start() -> None:
    """From the start of the process to the end of a check that succeeds at once."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        port = server.getsockname()[1]
        runs: dict[str, Callable[[], dict[str, float]]] = {
            "pod-init wait tcp://": lambda: timed([*INIT, "wait", f"tcp://127.0.0.1:{port}"]),
            "python -c pass": lambda: timed([measure.PYTHON, "-I", "-c", "pass"]),
        }
        if shutil.which("nc"):
            runs["sh -c 'nc -z'"] = lambda: timed(["sh", "-c", f"until nc -z 127.0.0.1 {port}; do sleep 2; done"])
        if shutil.which("bash"):
            loop = f"until (: </dev/tcp/127.0.0.1/{port}); do sleep 2; done"
            runs["bash -c '</dev/tcp'"] = lambda: timed(["bash", "-c", loop])
        figures = measure.in_turn(runs, 20)
        modules = imported("wait", f"tcp://127.0.0.1:{port}")
    figures["pod-init wait tcp://"]["modules"] = modules
    rows = [
        [name, f"{each['wall'] * 1000:.0f}", f"{each['cpu'] * 1000:.0f}", f"{each['rss']:.0f}"]
        for name, each in figures.items()
    ]
    measure.table("A wait that is over at once", ("", "wall ms", "CPU ms", "RSS MB"), rows)
    print(f"\n{modules} modules are imported")
    measure.save("init", {"start": figures})


def imported(*words: str) -> int:
    """How many modules a run imports."""
    command = [INIT[0], "-I", "-X", "importtime", *INIT[2:], *words]
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True)
    return done.stderr.count("import time:") - 1


@contextlib.contextmanager
def places() -> Iterator[dict[str, str]]:
    """Give a directory in memory, and one on the disk if the temporary directory is on one."""
    with measure.scratch() as memory:
        on_disk = tempfile.mkdtemp(prefix="bench-")
        try:
            yield {"memory": memory, "disk": on_disk}
        finally:
            shutil.rmtree(on_disk)


def fill(folder: str, count: int) -> str:
    """Make SIZE bytes in so many files, 50 to a directory, whose content no file system makes smaller."""
    source = os.path.join(folder, f"src{count}")
    piece = random.Random(1).randbytes(1 << 20)
    for number in range(count):
        path = os.path.join(source, str(number // 50), str(number))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            for _ in range(SIZE // count // len(piece)):
                file.write(piece)
            file.write(piece[: SIZE // count % len(piece)])
    return source


def into_nothing(dest: str, command: Sequence[str]) -> dict[str, float]:
    """Time a command that makes a directory anew: what it has made is removed before, and no disk is busy with it."""
    shutil.rmtree(dest, ignore_errors=True)
    subprocess.run(["sync", "--file-system", os.path.dirname(dest)], check=True)
    return timed(command)


def copy() -> None:
    """2 GB, beside cp -r: in one file, and in 2,000."""
    rows, figures = [], {}
    with places() as folders:
        for where, folder in folders.items():
            for count in (1, FILES):
                source, dest = fill(folder, count), os.path.join(folder, "dest")
                found = by_chance({
                    "pod-init copy": lambda source=source, dest=dest: into_nothing(dest, [*INIT, "copy", source, dest]),
                    "cp -r": lambda source=source, dest=dest: into_nothing(dest, ["cp", "-r", source, dest]),
                })  # fmt: skip
                ours, theirs = found["pod-init copy"], found["cp -r"]
                ratio = theirs["wall"] / ours["wall"]
                figures[f"{count} in {where}"] = {**found, "speed beside cp": ratio}
                speeds = [f"{SIZE / each['wall'] / 1e9:.2f}" for each in (ours, theirs)]
                cpu = [f"{each['cpu']:.2f}" for each in (ours, theirs)]
                rows.append([f"{count:,} files, {where}", *speeds, f"{ratio:.2f}", *cpu, f"{ours['rss']:.0f}"])
                shutil.rmtree(source)
                shutil.rmtree(dest)
    header = ("2 GB", "pod-init GB/s", "cp -r GB/s", "ratio", "pod-init CPU s", "cp CPU s", "pod-init RSS MB")
    measure.table("copy, its start included", header, rows)
    measure.save("init", {"copy": figures})


def by_chance(runs: dict[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Run each ROUNDS times, in an order that chance makes, and once before: medians.

    In a fixed order one of them may always be the one that gets the memory which the other has given back.
    """
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for round_ in range(ROUNDS + 1):
        for name in random.sample(list(runs), len(runs)):
            figures = runs[name]()
            if round_:
                taken[name].append(figures)
    return {
        name: {key: statistics.median(figures[key] for figures in each) for key in each[0]}
        for name, each in taken.items()
    }


def verify() -> None:
    """Both ends read and compared, beside sha256sum of all the files of both on all cores."""
    rows, figures = [], {}
    with measure.scratch() as folder:
        for count in (1, FILES):
            source, dest = fill(folder, count), os.path.join(folder, "dest")
            timed([*INIT, "copy", source, dest])
            sums = f"find {source} {dest} -type f -print0 | xargs -0 -P {CORES} -n {max(1, min(50, count))} sha256sum"
            found = by_chance({
                "copy --verify": lambda source=source, dest=dest: timed([*INIT, "copy", source, dest, "--verify"]),
                "sha256sum": lambda sums=sums: timed(["sh", "-c", sums]),
            })  # fmt: skip
            ours, theirs = found["copy --verify"]["wall"], found["sha256sum"]["wall"]
            figures[str(count)] = {**found, "speed beside sha256sum": theirs / ours}
            rows.append([f"{count:,} files", *(f"{2 * SIZE / each / 1e9:.2f}" for each in (ours, theirs)),
                         f"{theirs / ours:.2f}"])  # fmt: skip
            shutil.rmtree(source)
            shutil.rmtree(dest)
    header = ("2 GB, twice", "copy --verify GB/s", f"sha256sum on {CORES} cores GB/s", "ratio")
    measure.table("copy --verify of what is in place", header, rows)
    measure.save("init", {"verify": figures})


def again() -> None:
    """A second start: nothing is to be done."""
    rows, figures = [], {}
    with measure.scratch() as folder:
        for count in (1, FILES, 10_000):
            source, dest = fill(folder, count), os.path.join(folder, "dest")
            timed([*INIT, "copy", source, dest])
            walls = [timed([*INIT, "copy", source, dest])["wall"] for _ in range(ROUNDS)]
            begun = [timed([*INIT, "copy", "--help"])["wall"] for _ in range(ROUNDS)]
            figures[str(count)] = {"wall": statistics.median(walls), "start": statistics.median(begun)}
            rows.append([f"{count:,} files", *(f"{each * 1000:.0f}" for each in figures[str(count)].values())])
            shutil.rmtree(source)
            shutil.rmtree(dest)
    measure.table("copy again, of 2 GB that are in place", ("", "wall ms", "of it the start, about"), rows)
    measure.save("init", {"again": figures})


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{ access_log off; sendfile on; tcp_nopush on; client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2;
fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
server {{ listen 127.0.0.1:{port}; root {folder}/web; }} }}
"""


@contextlib.contextmanager
def nginx(folder: str) -> Iterator[str]:
    """Give the URL of an nginx that serves the folder web."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with open(os.path.join(folder, "nginx.conf"), "w") as file:
        file.write(NGINX.format(folder=folder, port=port))
    os.chmod(folder, 0o755)  # Its worker is another user.
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "nginx"
    process = subprocess.Popen([program, "-p", folder, "-c", f"{folder}/nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            if process.poll() is not None:
                raise SystemExit("nginx did not start")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def fetch() -> None:
    """2 GB over HTTP on loopback, beside curl."""
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    if missing := [name for name in ("nginx", "curl") if not shutil.which(name, path=path)]:
        print(f"{' and '.join(missing)} not installed: fetch is left out", file=sys.stderr)
        return
    with measure.scratch() as folder:
        os.makedirs(os.path.join(folder, "web"))
        source = os.path.join(fill(folder, 1), "0", "0")
        os.rename(source, os.path.join(folder, "web", "model"))
        with nginx(folder) as url:
            dest = os.path.join(folder, "dest")
            runs = {
                "pod-init fetch": [*INIT, "fetch", f"{url}/model", f"{dest}/model"],
                "curl": ["curl", "-fsS", "--create-dirs", f"{url}/model", "-o", f"{dest}/model"],
            }
            found = by_chance({
                name: lambda command=command: into_nothing(dest, command) for name, command in runs.items()
            })  # fmt: skip
    ratio = found["curl"]["wall"] / found["pod-init fetch"]["wall"]
    rows = [[name, f"{SIZE / each['wall'] / 1e9:.2f}", f"{each['cpu']:.2f}", f"{each['rss']:.0f}"]
            for name, each in found.items()]  # fmt: skip
    measure.table(f"fetch of 2 GB over HTTP: {ratio:.2f} times curl's speed", ("", "GB/s", "CPU s", "RSS MB"), rows)
    measure.save("init", {"fetch": {**found, "speed beside curl": ratio}})


PARTS = {"start": start, "copy": copy, "verify": verify, "again": again, "fetch": fetch}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
