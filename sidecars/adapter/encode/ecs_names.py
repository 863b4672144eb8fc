"""Names of the Elastic Common Schema for the fields of records."""

from __future__ import annotations

ECS_VERSION = "8.11.0"

TEXTS = {
    "user": "user.name",
    "method": "http.request.method",
    "referrer": "http.request.referrer",
    "user_agent": "user_agent.original",
    "host": "host.name",
    "process": "process.name",
    "thread": "process.thread.name",
    "logger": "log.logger",
    "file": "log.file.path",
    "file_name": "log.origin.file.name",
    "facility": "log.syslog.facility.name",
    "service": "service.name",
    "parse_error": "error.message",
    "trace_id": "trace.id",
    "span_id": "span.id",
    "pod": "kubernetes.pod.name",
    "namespace": "kubernetes.namespace",
    "node": "kubernetes.node.name",
    "container": "kubernetes.container.name",
}
INTEGERS = {
    "status": "http.response.status_code",
    "bytes": "http.response.body.bytes",
    "pid": "process.pid",
    "thread": "process.thread.id",
    "line": "log.origin.file.line",
}
# The sets of fields that the schema defines, and Beats' kubernetes: an object of such a name is taken for one.
SETS = frozenset(
    (
        *("agent", "client", "cloud", "container", "data_stream", "destination", "device", "dns", "ecs", "email"),
        *("error", "event", "faas", "group", "host", "http", "kubernetes", "labels", "log", "network", "observer"),
        *("orchestrator", "organization", "package", "process", "registry", "related", "rule", "server", "service"),
        *("source", "span", "threat", "tls", "trace", "transaction", "url", "user", "user_agent", "vulnerability"),
    )
)
