"""What log-adapter counts beyond what every sidecar that follows files counts; more of records: counting.py."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

INPUT_BYTES = Counter("adapter_input_bytes_total", "Bytes taken from inputs without a file behind them.", ["input"])
DROPPED_RECORDS = Counter(
    "adapter_dropped_records_total",
    "Records that came while the queue was full and whose sender does not wait, as with syslog by UDP.",
    ["input"],
)
QUEUE_BYTES = Gauge("adapter_queue_bytes", "Bytes held until every output has delivered them.")
QUEUE_LIMIT_BYTES = Gauge("adapter_queue_limit_bytes", "How many are held at most.")
CONNECTIONS = Gauge("adapter_syslog_connections", "Open TCP connections that send syslog.")
RECORDS = Counter("adapter_records_total", "Records read.")
PARSE_ERRORS = Counter("adapter_parse_errors_total", "Records that were not in their format, passed on as they are.")
HEALTH_CHECK = Gauge("adapter_health_check", "1 while a check of GET /health is well, else 0.", ["check"])
