# ruff: noqa: E501  (a line of a log, and what is in it, are read best side by side)

"""Lines as documentation shows them, and what is in them."""

from __future__ import annotations

from typing import Any

from sidecars.adapter import formats
from sidecars.adapter.table import Record, Segment, Unparsed


def records(name: str, data: bytes, **how: Any) -> list[Record]:
    """The records of some lines, read at once."""
    return [record for segment in formats.compile(name, **how).parse(data) for record in segment.records()]


def lines_of(segments: list[Segment]) -> bytes:
    return b"".join(line + b"\n" for segment in segments for line in segment.lines)


def unparsed(segments: list[Segment]) -> list[bytes]:
    return [line for segment in segments if isinstance(segment, Unparsed) for line in segment.lines]


COMBINED = b'192.0.2.1 - - [31/Jan/2026:09:30:00 +0100] "GET /a?b=c HTTP/1.1" 200 12 "-" "curl/8"'
_COMBINED = {
    "client": "192.0.2.1", "time": "2026-01-31T09:30:00+01:00", "method": "GET", "path": "/a?b=c", "protocol": "HTTP/1.1",
    "status": 200, "bytes": 12, "user_agent": "curl/8",
}  # fmt: skip

_ALB = (
    b'https 2026-01-31T09:30:00.123456Z app/shop/1 192.0.2.1:2811 10.0.0.1:80 0.1 0.2 0.3 200 200 0 57 "GET https://shop:443/a HTTP/1.1" '
    b'"curl/8" ECDHE TLSv1.2 arn:aws:tg "Root=1" "shop" '
)

# Format, line or lines, the records, or what must be in the one record.
CASES: list[tuple[str, bytes, Record]] = [
    ("nginx", COMBINED, _COMBINED),
    ("nginx", COMBINED.replace(b"192.0.2.1 - -", b"::1 - ada lovelace"), _COMBINED | {"client": "::1", "user": "ada lovelace"}),
    ("nginx", COMBINED.replace(b'"-" "curl/8"', rb'"http://x/\x22" "caf\xC3\xA9"'), {"referrer": 'http://x/"', "user_agent": "café"}),
    ("nginx", COMBINED.replace(b"GET /a?b=c HTTP/1.1", rb"\x16\x03\x01").replace(b"200", b"400"), {"request": "\x16\x03\x01", "status": 400}),
    ("nginx", COMBINED.replace(b"GET /a?b=c HTTP/1.1", b"GET /a b HTTP/1.1"), {"request": "GET /a b HTTP/1.1"}),
    ("nginx", COMBINED.replace(b"200 12", b"000 -"), {"status": 0}),
    ("nginx", COMBINED + b' "203.0.113.7, 192.0.2.9" 0.123 x="y"', _COMBINED | {"forwarded_for": "203.0.113.7, 192.0.2.9", "duration": 0.123, "extra": 'x="y"'}),
    ("nginx", COMBINED + b' "-"', _COMBINED),
    ("nginx", COMBINED.replace(b"31/Jan", b"31/Feb"), {"timestamp": "31/Feb/2026:09:30:00 +0100", "status": 200}),
    ("nginx-error", b'2026/01/31 09:30:00 [error] 12#34: *56 open() "/x, y" failed (2: No such file or directory), client: 192.0.2.1, server: shop, request: "GET /x HTTP/1.1", upstream: "http://10.0.0.1/x", host: "shop:8080", referrer: "http://a"',
     {"time": "2026-01-31T09:30:00Z", "level": "error", "pid": 12, "thread": "34", "connection": 56, "message": 'open() "/x, y" failed (2: No such file or directory)', "client": "192.0.2.1", "server": "shop", "method": "GET", "path": "/x", "protocol": "HTTP/1.1", "upstream": "http://10.0.0.1/x", "authority": "shop:8080", "referrer": "http://a"}),
    ("apache", COMBINED.replace(b"/a?b=c", rb"/a\"b"), _COMBINED | {"path": '/a"b'}),
    ("apache-common", COMBINED.removesuffix(b' "-" "curl/8"').replace(b" 12", b" -"), {name: value for name, value in _COMBINED.items() if name not in ("bytes", "user_agent")}),
    ("apache-vhost", b"shop.example.org:80 " + COMBINED, _COMBINED | {"server": "shop.example.org", "port": 80}),
    ("apache-error", b"[Fri Sep 09 10:42:29.902022 2011] [core:error] [pid 35708:tid 4328636416] [client ::1:1234] AH00128: File does not exist: /x",
     {"time": "2011-09-09T10:42:29.902022Z", "module": "core", "level": "error", "pid": 35708, "thread": "4328636416", "client": "::1", "client_port": 1234, "code": "AH00128", "message": "File does not exist: /x"}),
    ("apache-error", b"[Wed Oct 11 14:32:52 2000] [error] [client 127.0.0.1] client denied", {"time": "2000-10-11T14:32:52Z", "level": "error", "client": "127.0.0.1", "message": "client denied"}),
    ("syslog", rb'<165>1 2003-10-11T22:14:15.003Z shop evntslog - ID47 [ex@1 iut="3" a="b\"l\]x"][b c="d"] ' + b"\xef\xbb\xbfAn event",
     {"level": "notice", "facility": "local4", "time": "2003-10-11T22:14:15.003Z", "host": "shop", "process": "evntslog", "message_id": "ID47", "structured_data": {"ex@1": {"iut": "3", "a": 'b"l]x'}, "b": {"c": "d"}}, "message": "An event"}),
    ("syslog", b"<13>2026-01-31T09:30:00.1+01:00 shop cron[7]: run", {"level": "notice", "facility": "user", "time": "2026-01-31T09:30:00.1+01:00", "host": "shop", "process": "cron", "pid": 7, "message": "run"}),
    ("syslog", b"2026-01-31T09:30:00Z cron: run", {"time": "2026-01-31T09:30:00Z", "process": "cron", "message": "run"}),
    ("syslog", b"<999>x", {"severity": "999", "message": "x"}),
    ("cri", b"2026-01-31T09:30:00.123456789Z stderr F GET / 200", {"time": "2026-01-31T09:30:00.123456789Z", "stream": "stderr", "message": "GET / 200"}),
    ("docker", rb'{"log":"a \"b\"\n","stream":"stdout","time":"2026-01-31T09:30:00.1Z"}', {"time": "2026-01-31T09:30:00.1Z", "stream": "stdout", "message": 'a "b"'}),
    ("klog", b'I20260131 09:30:00.123456    1234 server.go:12] "Pod updated" pod="kube-system/dns" n=3', {"level": "info", "time": "2026-01-31T09:30:00.123456Z", "thread": "1234", "file_name": "server.go", "line": 12, "message": "Pod updated", "pod": "kube-system/dns", "n": 3}),
    ("log4j", b"2026-01-31 09:30:00,123 [main] ERROR org.x.App - bad\njava.io.E: x\n\tat a.b(C.java:1)", {"time": "2026-01-31T09:30:00.123Z", "thread": "main", "level": "error", "logger": "org.x.App", "message": "bad\njava.io.E: x\n\tat a.b(C.java:1)"}),
    ("log4j", b"2026-01-31T09:30:00.123+01:00  INFO 12 --- [shop] [  main] o.x.App   : up", {"time": "2026-01-31T09:30:00.123+01:00", "level": "info", "pid": 12, "application": "shop", "thread": "main", "logger": "o.x.App", "message": "up"}),
    ("log4j", b"09:30:00.123 [main] WARN o.x.App -- up", {"timestamp": "09:30:00.123", "thread": "main", "level": "warning", "logger": "o.x.App", "message": "up"}),
    ("log4j", b"2026-01-31 09:30:00,123 INFO  [org.jboss.as] (MSC 1) up", {"time": "2026-01-31T09:30:00.123Z", "level": "info", "logger": "org.jboss.as", "thread": "MSC 1", "message": "up"}),
    ("log4j", b"[2026-01-31 09:30:00,123] INFO [Broker id=1] up (kafka.Server)", {"time": "2026-01-31T09:30:00.123Z", "level": "info", "message": "[Broker id=1] up (kafka.Server)"}),
    ("python", b"2026-01-31 09:30:00,123 - a.b - ERROR - x\nTraceback (most recent call last):\n  File\nE: y", {"time": "2026-01-31T09:30:00.123Z", "logger": "a.b", "level": "error", "message": "x\nTraceback (most recent call last):\n  File\nE: y"}),
    ("python", b"WARNING:root:watch out", {"level": "warning", "logger": "root", "message": "watch out"}),
    ("python", b"[2026-01-31 09:30:00,123] INFO in app: up", {"time": "2026-01-31T09:30:00.123Z", "level": "info", "module": "app", "message": "up"}),
    ("python", b"2026-01-31 09:30:00.123 | INFO     | m:f:12 - up", {"time": "2026-01-31T09:30:00.123Z", "level": "info", "logger": "m", "function": "f", "line": 12, "message": "up"}),
    ("envoy", b'[2026-01-31T09:30:00.310Z] "POST /a HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "nsq2http" "cc21" "shop" "tcp://10.0.2.1:80"',
     {"time": "2026-01-31T09:30:00.310Z", "method": "POST", "path": "/a", "protocol": "HTTP/2", "status": 204, "bytes_received": 154, "bytes": 0, "duration": 0.226, "upstream_duration": 0.1, "forwarded_for": "10.0.35.28", "user_agent": "nsq2http", "request_id": "cc21", "authority": "shop", "upstream": "tcp://10.0.2.1:80"}),
    ("istio", b'[2026-01-31T09:30:00.409Z] "GET / HTTP/1.1" 418 - via_upstream - "-" 0 135 3 1 "-" "curl" "84961386" "httpbin:8000" "127.0.0.1:80" inbound|8000|| 127.0.0.1:41854 10.44.1.27:80 10.44.1.23:37652 outbound default',
     {"status": 418, "bytes": 135, "duration": 0.003, "client": "10.44.1.23:37652", "upstream_cluster": "inbound|8000||", "route": "default"}),
    ("haproxy", b'Feb  6 12:14:14 lb haproxy[14389]: 10.0.1.2:33317 [06/Feb/2009:12:14:14.655] web static/srv1 10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {shop} {} "GET /index.html HTTP/1.1"',
     {"host": "lb", "process": "haproxy", "pid": 14389, "client": "10.0.1.2", "client_port": 33317, "time": "2009-02-06T12:14:14.655Z", "frontend": "web", "backend": "static", "upstream": "srv1", "timers": "10/0/30/69", "duration": 0.109, "status": 200, "bytes": 2750, "termination": "----", "method": "GET", "path": "/index.html"}),
    ("haproxy", b"10.0.1.2:33313 [06/Feb/2009:12:12:51.443] fnt bck/srv1 0/0/5007 212 -- 0/0/0/0/3 0/0", {"frontend": "fnt", "timers": "0/0", "duration": 5.007, "bytes": 212}),
    ("alb", _ALB + b'"arn:aws:acm:x" 1 2026-01-31T09:30:00.000000Z "waf,forward" "https://x/" "LambdaTimeout" "10.0.0.1:80" "200" "Ambiguous" "UndefinedHeader" TID_1 "-" "/b" "TransformSuccess" "later"',
     {"domain": "shop", "chosen_cert_arn": "arn:aws:acm:x", "matched_rule_priority": 1, "request_creation_time": "2026-01-31T09:30:00.000000Z", "actions_executed": "waf,forward", "redirect_url": "https://x/",
      "error_reason": "LambdaTimeout", "target_port_list": "10.0.0.1:80", "target_status_code_list": "200", "classification": "Ambiguous", "classification_reason": "UndefinedHeader", "conn_trace_id": "TID_1", "transformed_uri": "/b", "request_transform_status": "TransformSuccess", "extra": '"later"'}),
    ("alb", _ALB + b'"-" -1 2026-01-31T09:30:00.000000Z "-" "-" "-" "-" "-" "-" "-"', {"domain": "shop", "request_creation_time": "2026-01-31T09:30:00.000000Z"}),
    ("alb", _ALB + b'"session-reused"', {"domain": "shop", "chosen_cert_arn": "session-reused"}),
    ("haproxy", b"127.0.0.1:56059 [03/Dec/2012:17:35:10.380] frt/f1: Connection error during SSL handshake", {"message": "Connection error during SSL handshake"}),
    ("postgres", b"2026-01-31 09:30:00.123 UTC [12] ada@db ERROR:  no x\n2026-01-31 09:30:00.123 UTC [12] ada@db STATEMENT:  select *\n\tfrom x",
     {"time": "2026-01-31T09:30:00.123Z", "pid": 12, "user": "ada", "database": "db", "level": "error", "message": "no x", "statement": "select *\nfrom x"}),
    ("redis", b"12:M 31 Jan 2026 09:30:00.123 # oops", {"pid": 12, "role": "M", "time": "2026-01-31T09:30:00.123Z", "level": "warning", "message": "oops"}),
    ("mysql-error", b"2026-01-31  9:30:00 0 [Note] Starting MariaDB", {"time": "2026-01-31T09:30:00Z", "thread": "0", "level": "notice", "message": "Starting MariaDB"}),
    ("mysql-slow", b"# Time: 2026-01-31T09:30:00.1Z\n# User@Host: ada[ada] @ web-0 []  Id:     8\n# Query_time: 2.000123  Lock_time: 0.000000 Rows_sent: 1  Rows_examined: 0\nuse db;\nSET timestamp=1769851800;\nselect 1;",
     {"time": "2026-01-31T09:30:00.1Z", "user": "ada", "host": "web-0", "connection": 8, "duration": 2.000123, "lock_duration": 0.0, "rows_sent": 1, "rows_examined": 0, "database": "db", "message": "select 1;"}),
    ("mongodb", b'{"t":{"$date":"2026-01-31T09:30:00.123+00:00"},"s":"W","c":"NET","id":7,"ctx":"conn1","msg":"x","attr":{"a":1}}', {"time": "2026-01-31T09:30:00.123Z", "level": "warning", "component": "NET", "id": 7, "thread": "conn1", "message": "x", "attr": {"a": 1}}),
    ("caddy", b'{"level":"info","ts":1769851800.5,"logger":"http.log.access","msg":"handled","request":{"remote_ip":"192.0.2.1","method":"GET","host":"shop","uri":"/a","proto":"HTTP/2.0"},"duration":0.25,"size":9,"status":200}',
     {"time": "2026-01-31T09:30:00.5Z", "level": "info", "client": "192.0.2.1", "method": "GET", "path": "/a", "protocol": "HTTP/2.0", "authority": "shop", "duration": 0.25, "bytes": 9, "status": 200}),
    ("traefik", COMBINED + b' 12 "web@docker" "http://10.0.0.2:80" 3ms', _COMBINED | {"count": 12, "router": "web@docker", "upstream": "http://10.0.0.2:80", "duration": 0.003}),
    ("gunicorn", b"[2026-01-31 09:30:00 +0100] [12] [INFO] up", {"time": "2026-01-31T09:30:00+01:00", "pid": 12, "level": "info", "message": "up"}),
    ("uvicorn", b'INFO:     192.0.2.1:52732 - "GET /a HTTP/1.1" 200 OK', {"level": "info", "client": "192.0.2.1", "client_port": 52732, "method": "GET", "path": "/a", "protocol": "HTTP/1.1", "status": 200}),
    ("ruby", b"F, [2026-01-31T09:30:00.123456 #12] FATAL -- shop: x\n  y", {"time": "2026-01-31T09:30:00.123456Z", "pid": 12, "level": "critical", "process": "shop", "message": "x\n  y"}),
    ("logfmt", rb'ts=2026-01-31T09:30:00Z lvl=warn msg="a \"b\"" n=4 dur=1.5 zip=01234 flag a.b=c n=5', {"time": "2026-01-31T09:30:00Z", "level": "warning", "message": 'a "b"', "n": [4, 5], "dur": 1.5, "zip": "01234", "flag": True, "a.b": "c"}),
    ("ltsv", b"time:[31/Jan/2026:09:30:00 +0000]\thost:192.0.2.1\tstatus:200\treqtime:0.1\tua:-", {"time": "2026-01-31T09:30:00Z", "client": "192.0.2.1", "status": 200, "duration": 0.1}),
    ("csv", b'ts,level,msg,n\n2026-01-31T09:30:00Z,warn,"a ""b""\nc",3', {"time": "2026-01-31T09:30:00Z", "level": "warning", "message": 'a "b"\nc', "n": 3}),
    ("tsv", b"ts\tmsg\n2026-01-31T09:30:00Z\tx", {"time": "2026-01-31T09:30:00Z", "message": "x"}),
    ("iis", b"#Fields: date time cs-method cs-uri-stem cs-uri-query c-ip cs(User-Agent) sc-status time-taken\n2026-01-31 09:30:00 GET /a b=c 192.0.2.1 Mozilla/5.0+(X) 200 12", {"time": "2026-01-31T09:30:00Z", "method": "GET", "path": "/a?b=c", "client": "192.0.2.1", "user_agent": "Mozilla/5.0 (X)", "status": 200, "duration": 0.012}),
    ("w3c", b"#Fields: date time cs-uri time-taken\n2026-01-31 09:30:00 /a 1.5", {"time": "2026-01-31T09:30:00Z", "path": "/a", "duration": 1.5}),
    ("hash", b"Sat Jan 31 09:30:00 UTC 2026#This is log#2", {"time": "Sat Jan 31 09:30:00 UTC 2026", "message": "This is log#2"}),
    ("hash", b"no sign", {"time": "no sign"}),
    ("text", b"2026-01-31 09:30:00,123 WARN  watch out", {"time": "2026-01-31T09:30:00.123Z", "level": "warning", "message": "watch out"}),
    ("text", b"\x1b[31m[error]\x1b[0m watch out", {"level": "error", "message": "watch out"}),
    ("text", b"Error opening file", {"message": "Error opening file"}),
    ("cri+nginx", b"2026-01-31T09:30:01.5Z stdout F " + COMBINED, _COMBINED | {"stream": "stdout"}),
    ("cri+log4j", b"2026-01-31T09:30:01.5Z stdout F 2026-01-31 09:30:00,123 [main] ERROR org.x.App - bad\n2026-01-31T09:30:01.6Z stdout F \tat a.b", {"time": "2026-01-31T09:30:00.123Z", "stream": "stdout", "thread": "main", "level": "error", "logger": "org.x.App", "message": "bad\n\tat a.b"}),
    ("docker+json", rb'{"log":"{\"ts\":1769851800,\"msg\":\"x\",\"level\":40}\n","stream":"stdout","time":"2026-01-31T09:30:01Z"}', {"time": "2026-01-31T09:30:00Z", "level": "warning", "stream": "stdout", "message": "x"}),
    ("cri+%{WORD:a} %{INT:n:int}", b"2026-01-31T09:30:01.5Z stdout F x 7", {"time": "2026-01-31T09:30:01.5Z", "stream": "stdout", "a": "x", "n": 7}),
    ("syslog+logfmt", b"<34>Oct 11 22:14:15 shop app[1]: level=warn msg=x n=1", {"level": "warning", "host": "shop", "message": "x", "n": 1}),
]  # fmt: skip
