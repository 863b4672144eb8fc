"""What servers write about themselves: error logs, and logs of databases."""

from __future__ import annotations

import re

from sidecars.adapter.formats.columnar import Row
from sidecars.adapter.table import Record

_NGINX_HEAD = r"[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8} \["
# ngx_log_error_core and ngx_http_log_error: the client and what follows it are put behind the message.
NGINX_ERROR = (
    Row(
        "nginx-error",
        r"(?P<time>[0-9]{4}/[0-9]{2}/[0-9]{2} [0-9:]{8}) \[(?P<level>[a-z]++)\] (?P<pid>{INT})#(?P<thread>[0-9]++): "
        r"(?:\*(?P<connection>{INT}) )?(?P<message>[^,\r\n]*+(?:,(?! client: )[^,\r\n]*+)*+)"
        r"(?:, client: (?P<client>[^,\r\n]++))?(?:, server: (?P<server>[^,\r\n]*+))?"
        r'(?:, request: "(?:(?P<method>[A-Z]{1,20}+) (?P<path>[^ "\r\n]++)(?: (?P<protocol>HTTP/[0-9.]{1,5}+))?(?=")'
        r'|(?P<request>{QUOTED}))")?(?:, subrequest: "(?P<subrequest>{QUOTED})")?(?:, upstream: "'
        r'(?P<upstream>{QUOTED})")?'
        r'(?:, host: "(?P<authority>{QUOTED})")?(?:, referrer: "(?P<referrer>{QUOTED})")?(?P<extra>{REST})',
        head=_NGINX_HEAD,
    ),
)

_APACHE_HEAD = r"\[[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:.]{8,15} [0-9]{4}\] \["
APACHE_ERROR = (
    Row(
        "apache-error",
        r"\[(?P<time>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9]{2} [0-9:.]{8,15} [0-9]{4})\] \[(?:(?P<module>[a-z0-9_]*+):)?"
        r"(?P<level>[a-z0-9]++)\](?: \[pid (?P<pid>{INT})(?::tid (?P<thread>[0-9]++))?\])?"
        r"(?: (?P<file_name>[^ (\[\r\n]++)\((?P<line>{INT})\):)?(?: (?P<error>\([0-9]++\)[^:\r\n]++):)?"
        r"(?: \[(?:client|remote) (?P<client>[0-9.]{7,15}+|[0-9a-fA-F:.]{2,64}(?=:[0-9]++\])|[^\]\r\n]++)"
        r"(?::(?P<client_port>{INT}))?\])?(?: (?P<code>AH[0-9]{5}):)? (?P<message>{REST})",
        head=_APACHE_HEAD,
    ),
)

_PG_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}(?:\.[0-9]{3})?+ [A-Za-z0-9+-]{1,8}"
# What log_line_prefix puts there beside the time and the process: %q%u@%d, %a, %h and such.
_PG_PREFIX = _PG_TIME + r" \[[0-9]++(?:-[0-9]++)?+\](?::)?+ (?:[^ :\r\n]++ (?=[^\r\n]))?"
_PG_PARTS = "DETAIL|HINT|STATEMENT|CONTEXT|QUERY|LOCATION|BACKTRACE"
_PG_PART = re.compile(rf"{_PG_PREFIX}({_PG_PARTS}):  ?(.*)".replace("++", "+").replace("?+", "?"), re.DOTALL)


def _postgres(record: Record) -> None:
    """Make the lines that PostgreSQL puts after a message fields of their own: detail, hint, statement, context."""
    lines = str(record.get("message", "")).split("\n")
    texts, name = {"message": lines[0]}, "message"
    for line in lines[1:]:
        found = _PG_PART.match(line)
        if found:
            name = found[1].lower()
        text = found[2] if found else line.removeprefix("\t")
        texts[name] = f"{texts[name]}\n{text}" if name in texts and not found else text
    record.update(texts)


POSTGRES = (
    Row(
        "postgres",
        rf"(?P<time>{_PG_TIME}) \[(?P<pid>{{INT}})(?:-(?P<number>{{INT}}))?\](?::)? "
        r"(?:\[?(?P<user>[^ @:\[\]\r\n]*+)@(?P<database>[^ :\[\]\r\n]*+)\]?:? )?"
        rf"(?P<level>(?!(?:{_PG_PARTS}):)[A-Z]{{3,7}}[1-5]?):  ?(?P<message>{{REST}})",
        head=_PG_PREFIX + rf"(?!(?:{_PG_PARTS}):)[A-Z]",
        refine=_postgres,
        marks=b"\n",
    ),
)

# redis' serverLogRaw: a process' role is X sentinel, C child, S replica, M master.
_REDIS_LEVELS = {b".": "debug", b"-": "info", b"*": "notice", b"#": "warning"}
_REDIS_HEAD = r"[0-9]{1,10}+:(?:[XCSM] [0-9]{2} |signal-handler )"
REDIS = (
    Row(
        "redis",
        r"(?P<pid>{INT}):(?P<role>[XCSM]) (?P<time>[0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8}\.[0-9]{3})"
        r" (?P<level>[.*#-])"
        r" (?P<message>{REST})",
        {"level": _REDIS_LEVELS.get},
        head=_REDIS_HEAD,
    ),
    # serverLogFromHandler cannot write a date.
    Row("redis", r"(?P<pid>{INT}):signal-handler \((?P<time>[0-9]{1,19})\) (?P<message>{REST})", head=_REDIS_HEAD),
)

_MYSQL_TIME = (
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][ 0-9][0-9]:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?+(?:Z|[+-][0-9]{2}:[0-9]{2})?+"
)
# MySQL 5.7 and later, MariaDB.
MYSQL_ERROR = (
    Row(
        "mysql-error",
        rf"(?P<time>{_MYSQL_TIME}) (?P<thread>[0-9]++) \[(?P<level>[A-Za-z]++)\](?: \[(?P<code>MY-[0-9]{{6}})\])?"
        r"(?: \[(?P<subsystem>[A-Za-z0-9_]++)\])? (?P<message>{REST})",
        head=_MYSQL_TIME + r" [0-9]++ \[",
    ),
)

MYSQL_SLOW = (
    Row(
        "mysql-slow",
        r"(?:# Time: (?P<time>[^\r\n]++)\r?\n)(?:# User@Host: (?P<user>[^ \[\r\n]*+)\[[^\]\r\n]*+\] @"
        r" (?P<host>[^ \[\r\n]*+) ?"
        r"\[(?P<client>[^\]\r\n]*+)\](?: ++Id: ++(?P<connection>{INT}))?[^\r\n]*+\r?\n)?"
        r"(?:# Thread_id: (?P<thread>[0-9]++)[^\r\n]*+\r?\n)?"
        r"(?:# Query_time: (?P<duration>{NUM}) ++Lock_time: (?P<lock_duration>{NUM}) ++Rows_sent: (?P<rows_sent>{INT})"
        r" ++Rows_examined: (?P<rows_examined>{INT})[^\r\n]*+\r?\n)?(?:# [^\r\n]*+\r?\n)*+(?:use"
        r" (?P<database>[^;\r\n]++);\r?\n)?"
        r"(?:SET timestamp=[0-9]++;\r?\n)?(?P<message>{REST})",
        head=r"# Time: ",
    ),
)
