"""The web server of log-adapter in a process of its own, with plain formats: what a test of HTTP and the page needs.

    python adapter_web_program.py PATH... [-- FLAG...]

FLAGs are log-adapter's. Lines are JSON objects, or `time#message` where the path ends in file.log. It prints its address.
"""

from __future__ import annotations

import asyncio
import glob
import json
import signal
import sys
from collections.abc import Sequence

from sidecars.adapter.encode.shaping import Shaping
from sidecars.adapter.settings import Settings
from sidecars.adapter.table import Objects, Record, Segment
from sidecars.adapter.web.server import Web
from sidecars.core.settings import load


class Lines:
    """A format in which each line is read by a function."""

    continuation: bytes | None = None
    parts: str | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    def context(self, data: bytes, before: object) -> object:
        return None

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        lines = data.removesuffix(b"\n").split(b"\n")
        return [Objects([getattr(self, f"_{self.name}")(line.decode("utf-8", "replace")) for line in lines], lines)]

    def _hash(self, line: str) -> Record:
        time, found, message = line.partition("#")
        return {"time": time, "message": message} if found else {"time": time}

    def _json(self, line: str) -> Record:
        try:
            record = json.loads(line)
            return record if isinstance(record, dict) else {"message": line}
        except ValueError:
            return {"message": line, "parse_error": "not JSON"}


class Traces(Lines):
    """JSON lines, and lines that are indented and belong to them."""

    continuation = rb"[ \t]"

    def parse(self, data: bytes, context: object = None) -> list[Segment]:
        lines: list[bytes] = []
        for line in data.removesuffix(b"\n").split(b"\n"):
            if line[:1] in (b" ", b"\t") and lines:
                lines[-1] += b"\n" + line
            else:
                lines.append(line)
        return [Objects([{"message": line.decode("utf-8", "replace")} for line in lines], lines)]


class Posted:
    """What was posted, as the queue of log-adapter keeps it; `full` refuses."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.position = 0

    def offer(self, data: bytes) -> bool:
        if b"too much" in data:
            return False
        self.pieces.append(data)
        self.position += len(data)
        return True

    def recent(self, after: int = 0) -> list[tuple[str, bytes]]:
        found = b"".join(self.pieces)[after:]
        return [("post", found)] if found else []


FORMATS = {"hash": Lines("hash"), "json": Lines("json"), "traces": Traces("json")}


def format_for(path: str, head: bytes) -> Lines:
    return FORMATS["hash" if path.endswith("file.log") else "traces" if path.endswith("traces.log") else "json"]


async def serve(settings: Settings, paths: Sequence[str]) -> None:
    posted = Posted()
    web = Web(
        settings,
        format_for,
        Shaping(settings),
        lambda: [name for path in paths for name in (sorted(glob.glob(path)) or [path] if "*" in path else [path])],
        recent=posted,
        post=posted.offer if settings.post else None,
        health=(lambda: (False, ["it does not answer"])) if settings.health else None,
    )
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(*await web.open(), flush=True)
    await stop.wait()
    await web.close()


def main() -> None:
    words = sys.argv[1:]
    flags = words[words.index("--") + 1 :] if "--" in words else []
    paths = words[: words.index("--")] if "--" in words else words
    settings = load(Settings, prog="log-adapter", prefix="ADAPTER_", argv=[*flags, "--listen", "127.0.0.1:0", *paths])
    asyncio.run(serve(settings, paths))


if __name__ == "__main__":
    main()
