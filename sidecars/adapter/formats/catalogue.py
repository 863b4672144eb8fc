"""The formats that have names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sidecars.adapter.formats import access, applications, plain, programs, servers, syslog
from sidecars.adapter.formats.columnar import Choice, Columnar, Row
from sidecars.adapter.formats.containers import Cri, Docker
from sidecars.adapter.formats.delimited import Delimited, W3c, ltsv
from sidecars.adapter.formats.fields import expanded
from sidecars.adapter.formats.json_lines import JsonLines
from sidecars.adapter.formats.logfmt import logfmt
from sidecars.adapter.formats.times import Times
from sidecars.adapter.table import Format, Record

Continuation = bytes | Literal["own"] | None

# Formats of which each form is a row of a table; the form of the first line is tried first.
ROWS: dict[str, tuple[Row, ...]] = {
    "alb": access.ALB,
    "apache": access.APACHE,
    "apache-common": access.APACHE_COMMON,
    "apache-error": servers.APACHE_ERROR,
    "apache-vhost": access.APACHE_VHOST,
    "envoy": access.ENVOY,
    "gunicorn": applications.GUNICORN,
    "haproxy": access.HAPROXY,
    "hash": (plain.HASH,),
    "klog": applications.KLOG,
    "log4j": applications.LOG4J,
    "mysql-error": servers.MYSQL_ERROR,
    "mysql-slow": servers.MYSQL_SLOW,
    "nginx": access.NGINX,
    "nginx-error": servers.NGINX_ERROR,
    "nginx-ingress": access.INGRESS,
    "postgres": servers.POSTGRES,
    "python": applications.PYTHON,
    "redis": servers.REDIS,
    "ruby": applications.RUBY,
    "syslog": (syslog.RFC5424, *syslog.RFC3164),
    "syslog-rfc3164": syslog.RFC3164,
    "syslog-rfc5424": (syslog.RFC5424,),
    "text": (plain.TEXT,),
    "traefik": access.TRAEFIK,
    "uvicorn": access.UVICORN,
}


def _json(special: Callable[[Record], None] | None = None) -> Callable[[str, Times, frozenset[str]], Format]:
    return lambda name, times, absent: JsonLines(name, times, absent, special)


# Formats that need more than a table.
MADE: dict[str, Callable[[str, Times, frozenset[str]], Format]] = {
    "json": _json(),
    "caddy": _json(programs.caddy),
    "mongodb": _json(programs.mongodb),
    "traefik-json": _json(programs.traefik),
    "logfmt": lambda name, times, absent: logfmt(times),
    "cri": lambda name, times, absent: Cri(times),
    "docker": lambda name, times, absent: Docker(times),
    "csv": lambda name, times, absent: Delimited(name, times),
    "tsv": lambda name, times, absent: Delimited(name, times),
    "ltsv": lambda name, times, absent: ltsv(times),
    "w3c": lambda name, times, absent: W3c(name),
    "iis": lambda name, times, absent: W3c(name),
}

# What people call them too.
ALIASES = {
    "apache2": "apache", "apache-combined": "apache", "combined": "apache", "httpd": "apache", "clf": "apache-common",
    "common": "apache-common", "apache2-error": "apache-error", "httpd-error": "apache-error", "vhost": "apache-vhost",
    "apache-vhost-combined": "apache-vhost", "nginx-combined": "nginx", "nginx-access": "nginx",
    "apache-access": "apache",
    "istio": "envoy", "istio-envoy-proxy": "envoy", "k8s-nginx-ingress": "nginx-ingress",
    "ingress-nginx": "nginx-ingress",
    "aws-alb": "alb", "elb": "alb", "glog": "klog", "logback": "log4j", "log4j2": "log4j", "java": "log4j",
    "spring": "log4j", "spring-boot": "log4j", "loguru": "python", "flask": "python", "celery": "python",
    "django": "python",
    "rails": "ruby", "postgresql": "postgres", "pg": "postgres", "mysql": "mysql-error", "mariadb": "mysql-error",
    "mariadb-error": "mysql-error", "mariadb-slow": "mysql-slow", "mongo": "mongodb", "redis-server": "redis",
    "syslog-rfc3164-local": "syslog-rfc3164", "rfc3164": "syslog-rfc3164", "rfc5424": "syslog-rfc5424",
    "rsyslog": "syslog", "jsonl": "json", "ndjson": "json", "json-lines": "json", "docker-json": "docker",
    "json-file": "docker", "docker-json-file": "docker", "containerd": "cri", "crio": "cri", "kubernetes": "cri",
    "none": "text", "raw": "text", "plain": "text", "key-value": "logfmt", "kv": "logfmt", "gunicorn-access": "nginx",
    "valkey": "redis", "iis-w3c": "iis", "adapter-node-server": "hash",
}  # fmt: skip

NAMES = tuple(sorted((*ROWS, *MADE)))

# What puts something around each line of another format; what cannot stand inside, for its header names the columns.
WRAPPERS = ("cri", "docker", "syslog", "syslog-rfc3164", "syslog-rfc5424")
HEADED = ("csv", "tsv", "w3c", "iis")


def made(name: str, times: Times, continuation: Continuation, absent: frozenset[str]) -> Format:
    """Make the format of this name, one of NAMES."""
    if name in MADE:
        return MADE[name](name, times, absent)
    return of_rows(name, ROWS[name], times, continuation)


def of_rows(name: str, rows: tuple[Row, ...], times: Times, continuation: Continuation) -> Format:
    """Make the format that some rows describe."""
    forms = [Columnar(row, times, _continued(row, continuation)) for row in rows]
    return forms[0] if len(forms) == 1 else Choice(name, forms)


def _continued(row: Row, continuation: Continuation) -> bytes | None:
    if not isinstance(continuation, str):
        return continuation
    return f"(?!{expanded(row.head)})".encode("latin-1") if row.head else None
