"""What real applications write: one function for each kind of log, seeded, so that a run can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random

# One record, newline included, of the given number and time (seconds since the epoch).
Record = Callable[[Random, int, float], str]

# A request, and the statuses it is answered with.
_REQUESTS = (
    ("GET /", (200, 200, 304)),
    ("GET /cart", (200, 200, 499)),
    ("POST /api/orders", (201, 201, 201, 400, 502)),
    ("GET /api/orders/{}", (200, 200, 404)),
    ("GET /search?q=caf%C3%A9&page={}", (200,)),
    ("GET /static/app.{}.js", (200, 304, 304)),
)
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "curl/8.14.1",
)
_CUSTOMERS = ("Zoë", "Jürgen", "Aiko 愛子", "Sam", "O'Neill", 'Ana "Nita" Lopez')
_FAILURES = (
    ("java.net.SocketTimeoutException", "Read timed out"),
    ("org.postgresql.util.PSQLException", "FATAL: remaining connection slots are reserved"),
    ("java.lang.IllegalStateException", "stock is negative"),
)


def access(random: Random, number: int, time: float) -> str:
    """One request in nginx's combined format.

        203.0.113.9 - - [23/Nov/2026:06:26:17 +0000] "GET /cart HTTP/1.1" 200 5120 "-" "curl/8.14.1"

    Source: ngx_http_log_module, log_format combined. The addresses are those of RFC 5737, for documentation.
    """
    request, statuses = random.choice(_REQUESTS)
    status = random.choice(statuses)
    size = 0 if status in (304, 499) else random.randint(100, 40_000)
    referrer = random.choice(("-", "https://shop.example.org/"))
    return (
        f"203.0.113.{random.randint(1, 254)} - - [{_moment(time):%d/%b/%Y:%H:%M:%S +0000}] "
        f'"{request.format(number)} HTTP/1.1" {status} {size} "{referrer}" "{random.choice(_AGENTS)}"\n'
    )


def order(random: Random, number: int, time: float) -> str:
    """One event of an application that logs in JSON, one object a line.

        {"time":"2026-11-23T06:26:17.123Z","level":"info","event":"order placed","order":17,"customer":"Zoë"}

    The text holds characters of several bytes as they are, since that is what most JSON loggers write.
    """
    level = random.choices(("info", "warning"), (9, 1))[0]
    record = {
        "time": f"{_moment(time):%Y-%m-%dT%H:%M:%S}.{_milliseconds(time)}Z",
        "level": level,
        "event": "order placed" if level == "info" else "payment is slow",
        "order": number,
        "customer": random.choice(_CUSTOMERS),
        "total": round(random.uniform(3, 300), 2),
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def java(random: Random, number: int, time: float) -> str:
    """One record of a Java service in logback's usual pattern; one in four is an error with its stack trace.

    2026-11-23 06:26:17,123 INFO  [http-nio-8080-exec-3] shop.StockService - item 17 reserved
    """
    head = f"{_moment(time):%Y-%m-%d %H:%M:%S},{_milliseconds(time)}"
    thread = f"[http-nio-8080-exec-{random.randint(1, 9)}]"
    if random.random() < 0.75:
        return f"{head} INFO  {thread} shop.StockService - item {number} reserved\n"
    return f"{head} ERROR {thread} shop.StockService - item {number} failed\n{_trace(random)}"


def backup(random: Random, number: int, time: float) -> str:
    """One line of a plain batch program that has no logging library.

    2026-11-23T06:26:17+00:00 backup 17 done: 1204 files, 38 MiB, 0 errors
    """
    files, size = random.randint(10, 2000), random.randint(1, 90)
    return f"{_moment(time):%Y-%m-%dT%H:%M:%S+00:00} backup {number} done: {files} files, {size} MiB, 0 errors\n"


def _trace(random: Random) -> str:
    kind, reason = random.choice(_FAILURES)
    frames = "".join(f"\tat shop.Stock.reserve(Stock.java:{random.randint(20, 300)})\n" for _ in range(3))
    cause = f"Caused by: {kind}: {reason}\n\tat shop.Warehouse.take(Warehouse.java:77)\n\t... 3 more\n"
    return f"shop.StockException: cannot reserve\n{frames}{cause}"


def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)


def _milliseconds(time: float) -> str:
    return f"{int(time * 1000) % 1000:03}"
