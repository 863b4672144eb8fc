"""What somebody reads who asks what there is."""

from __future__ import annotations

ENDPOINTS = {
    "/": "a page to read the log in a browser; this text otherwise",
    "/logs": "the log, as a JSON array of records; POST takes lines, where --post is given",
    "/files": "what is read: names, sizes, formats",
    "/health": "200 when all is well, 503 and the reasons when not; never asks for credentials",
    "/api": "this list and the parameters of /logs, as JSON",
}

PARAMETERS = {
    "tail=N": "the last N records",
    "limit=N": "at most N records, beginning with the oldest",
    "before=CURSOR, after=CURSOR": "the records before or after a cursor, as X-Next, X-After and Link give it",
    "since=T, until=T": "between these times: 2026-01-31T09:30:00Z (or UTC), seconds since 1970, 10m, 2h ago",
    "level=L": "at least as severe as L; a list, or L and a comma, means just these",
    "q=TEXT": "records that contain the text, whatever the case",
    "FIELD=VALUE": "a field is so: status=500, status>=500, method!=GET, path=/api/*, field.NAME=VALUE for any name",
    "file=NAME": "of this file alone; NAME is of /files",
    "format=F": "json, ndjson, raw, ecs, logfmt, csv",
    "follow=1": "go on with what comes, as lines; tail=10 if nothing else is said",
}

LIMITS = {
    "records": "a filtered answer holds at most 10000 records and 2 MiB of log, tail and limit are at most 10000",
    "scan": "a filtered request looks through at most 64 MiB; then X-Incomplete is scanned, and X-Next goes on there",
    "live": "at most 32 clients follow at a time; who does not read for 30 s is dropped",
    "post": "at most 1 MiB at a time; 429 with Retry-After when the queue is full",
    "files": "without file=NAME the 32 files that changed last are read, in the order of their times",
}

HEADERS = {
    "Accept": "text/event-stream follows as server-sent events, Last-Event-ID resumes; application/x-ndjson: lines",
    "If-None-Match": "304 while the files are as they were",
    "Accept-Encoding": "gzip",
}


def text(host: str) -> str:
    """Give the friendly text for a terminal."""
    base = f"http://{host}" if host else "http://localhost:3080"
    lines = ["log-adapter: the log of this pod", "", *_rows(ENDPOINTS), "", "Parameters of /logs:", ""]
    lines += [*_rows(PARAMETERS), "", "Try:", ""]
    lines += [f"  curl '{base}/logs?{query}'" for query in ("tail=10", "level=error&since=1h", "q=timeout&format=raw")]
    lines += [f"  curl -N '{base}/logs?follow=1'"]
    return "\n".join(lines) + "\n"


def _rows(told: dict[str, str]) -> list[str]:
    width = max(map(len, told)) + 2
    return [f"  {name:<{width}}{words}" for name, words in told.items()]


def api() -> dict[str, object]:
    """Give the same for programs."""
    return {"endpoints": ENDPOINTS, "parameters": PARAMETERS, "headers": HEADERS, "limits": LIMITS}
