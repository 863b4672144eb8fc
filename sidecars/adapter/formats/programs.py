"""JSON of programs that put time, level, message and request where nobody else does."""

from __future__ import annotations

from collections.abc import Mapping

from sidecars.adapter.table import Record


def _moved(record: Record, source: Mapping[str, object], names: Mapping[str, str]) -> None:
    for theirs, ours in names.items():
        value = source.get(theirs)
        if value not in (None, ""):
            record[ours] = value


def mongodb(record: Record) -> None:
    """Read MongoDB 4.4's lines: `{"t":{"$date":...},"s":"I","c":"NETWORK","id":22943,"ctx":"listener","msg":...}`."""
    moment = record.get("t")
    if isinstance(moment, dict) and "$date" in moment:
        record["time"] = moment["$date"]
        del record["t"]
    for theirs, ours in (("s", "level"), ("c", "component"), ("ctx", "thread")):
        if theirs in record:
            record[ours] = record.pop(theirs)


_CADDY = {
    "remote_ip": "client", "client_ip": "client", "method": "method", "uri": "path", "proto": "protocol",
    "host": "authority",
}  # fmt: skip


def caddy(record: Record) -> None:
    """Lift the request of Caddy's access log, `http.log.access`, out of its object; its duration is in seconds."""
    request = record.get("request")
    if not isinstance(request, dict):
        return
    _moved(record, request, _CADDY)
    headers = request.get("headers")
    if isinstance(headers, dict):
        for theirs, ours in (("User-Agent", "user_agent"), ("Referer", "referrer")):
            values = headers.get(theirs)
            if isinstance(values, list) and values:
                record[ours] = values[0]
    if "size" in record:
        record["bytes"] = record.pop("size")
    if record.get("user_id"):
        record["user"] = record.pop("user_id")


_TRAEFIK = {
    "ClientHost": "client", "RequestMethod": "method", "RequestPath": "path", "RequestProtocol": "protocol",
    "DownstreamStatus": "status", "DownstreamContentSize": "bytes", "RequestHost": "authority",
    "ServiceAddr": "upstream",
    "RouterName": "router", "request_User-Agent": "user_agent", "request_Referer": "referrer", "ClientUsername": "user",
}  # fmt: skip


def traefik(record: Record) -> None:
    """Name the fields of Traefik's JSON access log as all access logs have them; its durations are nanoseconds."""
    if "RequestMethod" not in record:
        return
    for theirs, ours in _TRAEFIK.items():
        value = record.pop(theirs, None)
        if value not in (None, "", "-"):
            record[ours] = value
    duration = record.get("Duration")
    if isinstance(duration, int | float) and not isinstance(duration, bool):
        record["duration"] = duration / 1e9
        del record["Duration"]
    if "StartUTC" in record:
        record["time"] = record.pop("StartUTC")
