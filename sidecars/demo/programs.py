"""The programs of the demo: what is started, with which words and which ports."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass

from sidecars.demo import host, objects
from sidecars.demo.repository import NAME


@dataclass(frozen=True)
class Program:
    """A program of the demo: `python -m` and these words, unless they are a command of their own.

    In them {logs}, {state}, {site} and {rate} are filled in, and each port of PORTS by its name. Of one that serves the
    others the output is for nobody, and it ends last; one that calls others ends first. One that waits for ports
    starts when something listens there. One that needs git or redis is left out where that is not installed; another
    one stands in for it, or none.
    """

    name: str
    words: tuple[str, ...]
    serves: bool = False
    calls: bool = False
    waits_for: tuple[str, ...] = ()
    needs: str | None = None
    stands_in: str | None = None
    command: bool = False


# What listens, and where; another port is chosen where one is taken.
PORTS = {
    "page": 3080, "tailer": 9101, "adapter": 9102, "shipper": 9103, "syncer": 9104, "git": 9418, "s3": 9000,
    "ambassador": 9105, "redis": 6380, "redis_a": 6378, "redis_b": 6379, "outbound": 8088, "api": 8090, "caller": 9110,
}  # fmt: skip
_AMBASSADOR = (
    *("sidecars.ambassador", "--admin", "127.0.0.1:{ambassador}", "--log-level", "warning", "--state-dir", "off"),
    # A redis-cli that is open in another terminal is not waited for, as a person waits.
    *("--grace", "1s", "127.0.0.1:{outbound}=http://127.0.0.1:{api}"),
)
# In the order of their start. They end in the same order: the application first, as in a pod with native sidecars.
PROGRAMS = (
    # It says on stderr what it was asked for, each time. s3-shipper's drain waits for it, so that it must be there.
    Program("S3 server", ("moto.server", "-H", "127.0.0.1", "-p", "{s3}"), serves=True),
    Program("application", ("sidecars.demo", "app", "--dir", "{logs}", "--rate", "{rate}", "--log-level", "warning")),
    Program(
        "log-tailer",
        (
            *("sidecars.tailer", "{logs}/*.log", "--label", "name", "--state-dir", "{state}/tailer"),
            # The application has ended before it: there is nothing to wait for, and a person waits.
            *("--admin", "127.0.0.1:{tailer}", "--log-level", "warning", "--quiet", "0.1s"),
        ),
    ),
    Program(
        "log-adapter",
        (
            # The lines are on this terminal already, as log-tailer shows them.
            *("sidecars.adapter", "{logs}/*.log", "--output", "off", "--state-dir", "off", "--quiet", "0.1s"),
            *("--listen", "127.0.0.1:{page}", "--admin", "127.0.0.1:{adapter}", "--log-level", "warning"),
        ),
    ),
    Program(
        "s3-shipper",
        (
            *("sidecars.shipper", "{logs}/*.log", "--state-dir", "{state}/shipper", "--slice", "5s"),
            *(
                "--endpoint",
                "http://127.0.0.1:{s3}",
                "--bucket",
                objects.BUCKET,
                "--prefix",
                "demo/",
                "--create-bucket",
            ),
            *("--admin", "127.0.0.1:{shipper}", "--log-level", "warning", "--quiet", "0.1s"),
        ),
    ),
    Program(
        "API",
        ("sidecars.demo", "api", "--listen", "127.0.0.1:{api}", "--fail", "20", "--log-level", "warning"),
        serves=True,
    ),
    Program(
        "git host",
        ("sidecars.demo", "git", "--dir", "{state}/git", "--listen", "127.0.0.1:{git}"),
        serves=True,
        needs="git",
    ),
    Program(
        "git-syncer",
        (
            *("sidecars.syncer", "--repo", f"http://127.0.0.1:{{git}}/{NAME}", "--root", "{site}", "--link", "current"),
            *("--period", "1s", "--max-failures", "-1", "--admin", "127.0.0.1:{syncer}", "--log-level", "warning"),
        ),
        waits_for=("git",),
        needs="git",
    ),
    *(
        Program(
            f"Redis {each}",
            # It keeps nothing, and has no file but this folder to work in.
            (
                *("redis-server", "--bind", "127.0.0.1", "--port", f"{{redis_{each}}}", "--dir", "{state}"),
                *("--save", "", "--appendonly", "no"),
            ),
            serves=True,
            needs="redis",
            command=True,
        )
        for each in "ab"
    ),
    Program(
        "ambassador",
        (*_AMBASSADOR, "127.0.0.1:{redis}=redis://127.0.0.1:{redis_a},127.0.0.1:{redis_b}"),
        waits_for=("redis_b",),
        needs="redis",
    ),
    Program("ambassador", (*_AMBASSADOR, "127.0.0.1:{redis}=tcp://127.0.0.1:{page}"), stands_in="redis"),
    Program(
        "caller",
        (
            *("sidecars.demo", "caller", "--url", "http://127.0.0.1:{outbound}/", "--log-level", "warning"),
            *("--admin", "127.0.0.1:{caller}"),
        ),
        calls=True,
        waits_for=("api", "outbound"),
    ),
)


def installed() -> set[str]:
    """Give what is here of that which some programs need. It may take a moment."""
    there = {"git": host.serves(), "redis": shutil.which("redis-server") is not None}
    return {name for name, here in there.items() if here}


def chosen(there: Collection[str]) -> list[Program]:
    """Give the programs that can be shown with what is there."""
    return [
        each
        for each in PROGRAMS
        if (each.needs is None or each.needs in there) and (each.stands_in is None or each.stands_in not in there)
    ]
