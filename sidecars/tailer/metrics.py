"""What log-tailer counts beyond what every sidecar that follows files counts."""

from __future__ import annotations

from prometheus_client import Counter

DELIVERED_BYTES = Counter("tailer_delivered_bytes_total", "Bytes of followed files delivered.", ["output"])
BATCHES = Counter("tailer_delivered_batches_total", "Batches delivered.", ["output"])
REMOVED_FILES = Counter("tailer_removed_files_total", "Rotated files removed after they were delivered.")
REMOVED_BYTES = Counter("tailer_removed_bytes_total", "Size of the rotated files removed.")
