"""`<buffer>`, and the words that 0.12 has for it: when chunks are cut and sealed, and where they are kept."""

from __future__ import annotations

import os
import re
from typing import Any

import msgspec

from sidecars.core.errors import WrongSettings
from sidecars.shipper.fluentd import zones
from sidecars.shipper.fluentd.directives import BUFFER, OLD_BUFFER
from sidecars.shipper.fluentd.sections import Section
from sidecars.shipper.fluentd.values import array
from sidecars.shipper.slices import seconds_of_format

_DAY = 86400
_WAIT = 600.0
_FLUSH_INTERVAL = 60.0
_LARGEST_OBJECT = 1 << 30
_MOST_JOBS = 64
# fluentd's name for a chunk: b while it is filled, q when it waits to be uploaded, and its number in hexadecimal.
_CHUNK = re.compile(r".*\.[bq][0-9a-f]{12,40}\.(?:log|buf)")


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """How chunks are cut. Times in seconds; slice 0 is no slices; None is what is not said."""

    path: str | None
    by_tag: bool
    slice: int
    wait: float
    age: float | None
    zone: str
    chunk_size: int | None
    total: int | None
    jobs: int | None


def buffer(match: Section) -> Buffer:
    """Read the buffer of a match. Raises WrongSettings, with the line."""
    inner = match.section("buffer", BUFFER)
    if inner is None:
        return _old(match)
    for name in OLD_BUFFER:
        if name in match.values:
            match.report.warn(match.where(name), f"{name} has no effect beside <buffer>; move it there")
    keys = _keys(match)
    return _made(
        inner,
        inner.values,
        by_tag="tag" in keys,
        slice=_slice(inner) if "time" in keys else 0,
        age=_age(inner, by_time="time" in keys),
        zone=_zone(inner),
    )


def _old(match: Section) -> Buffer:
    values = {new: match.values[old] for old, new in OLD_BUFFER.items() if old in match.values}
    if {"queue_limit_length", "chunk_limit_size"} <= values.keys():
        values["total_limit_size"] = values["queue_limit_length"] * values["chunk_limit_size"]
    age = values.get("flush_interval")
    return _made(match, values, by_tag=False, slice=_slice_of_name(match), age=age, zone=zones.of(match) or "local")


def _made(
    section: Section, values: dict[str, Any], *, by_tag: bool, slice: int, age: float | None, zone: str
) -> Buffer:
    size, jobs = values.get("chunk_limit_size"), values.get("flush_thread_count")
    if size is not None and size < 1:
        raise WrongSettings(f"{section.place}: the size of chunks is limited to {size}, which lets nothing through")
    return Buffer(
        path=values.get("path"),
        by_tag=by_tag,
        slice=slice,
        wait=values.get("timekey_wait", _WAIT) if slice else 0.0,
        age=age,
        zone=zone,
        chunk_size=None if size is None else min(size, _LARGEST_OBJECT),
        total=values.get("total_limit_size"),
        jobs=None if jobs is None else min(jobs, _MOST_JOBS),
    )


def _keys(match: Section) -> tuple[str, ...]:
    """Read what chunks are told apart by: of `<buffer tag,time>` the tag and the time, of `<buffer>` the time."""
    element = match.inner("buffer")[0]
    keys = array(element.argument) if element.argument else ("time",)
    for key in keys:
        if key not in ("tag", "time"):
            raise WrongSettings(
                f"{element.place}: <buffer {element.argument}> cuts chunks by the field {key} of the record, which is "
                f"not supported; use time, tag, or both"
            )
    return keys


def _slice(inner: Section) -> int:
    seconds = inner.get("timekey", _DAY)
    if seconds < 1 or not float(seconds).is_integer():
        raise inner.wrong("timekey", f"is {seconds} seconds, expected a whole second or more")
    return int(seconds)


def _slice_of_name(match: Section) -> int:
    return seconds_of_format(match.get("time_slice_format")) if "time_slice_format" in match.values else _DAY


def _age(inner: Section, *, by_time: bool) -> float | None:
    mode = inner.get("flush_mode", "default")
    if mode == "default":
        mode = "lazy" if by_time else "interval"
    if mode == "immediate":
        return 1.0
    if mode == "interval":
        return float(inner.get("flush_interval", _FLUSH_INTERVAL))
    if "flush_interval" in inner.values:
        inner.report.warn(
            inner.where("flush_interval"),
            "flush_interval has no effect without flush_mode interval, in fluentd neither",
        )
    return None


def _zone(inner: Section) -> str:
    if inner.get("timekey_use_utc"):
        return "UTC"
    return zones.named(inner, "timekey_zone") if inner.get("timekey_zone") else "local"


def directory(path: str) -> str:
    """Give the directory of a buffer's path, which may be a pattern of files: /buffer/s3.*.log -> /buffer."""
    plain = path.partition("*")[0] if "*" in path else f"{path}/"
    return os.path.normpath(os.path.dirname(plain) or ".")


def left_behind(path: str) -> int:
    """Count the chunks that fluentd has not uploaded: in the directory, or, as in 0.12, beside it under its name."""
    folder = directory(path)
    parent, name = os.path.split(folder)
    beside = (each for each in _names(parent) if each.startswith(f"{name}."))
    return sum(1 for each in (*_names(folder), *beside) if _CHUNK.fullmatch(each))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder or ".")
    except OSError:
        return []
