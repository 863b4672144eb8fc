"""A process that parses and encodes what its parent sends, until that closes the pipe."""

from __future__ import annotations

import gc
import signal
import sys
from typing import cast

from prometheus_client.registry import CollectorRegistry

from sidecars.adapter.counting import Counting
from sidecars.adapter.encode import encoder
from sidecars.adapter.pipeline import TOGETHER
from sidecars.adapter.reading import Formats, pieces, total, wrong
from sidecars.adapter.settings import Settings
from sidecars.adapter.workers import Done, Job, receive, send


def main() -> None:
    """Answer each job with what was made of it."""
    # The parent gets these too, and drains with this process's help.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    jobs, answers = sys.stdin.buffer, sys.stdout.buffer
    settings, to = cast(tuple[Settings, str], receive(jobs))
    formats, encode, counting = Formats(settings), encoder(settings, to), Counting(settings, CollectorRegistry())
    gc.freeze()
    while True:
        try:
            job = cast(Job, receive(jobs))
        except EOFError:
            return
        format, made, records, bad = formats.compiled(job.format), list[bytes](), 0, 0
        for piece in [job.data] if to in TOGETHER else pieces(format, job.context, job.data):
            segments = format.parse(piece, job.context)
            made += encode.encode(segments, job.origin)
            counting.count(segments)
            records, bad = records + total(segments), bad + wrong(segments)
        send(answers, Done(made, records, bad, counting.take()))


if __name__ == "__main__":
    main()
