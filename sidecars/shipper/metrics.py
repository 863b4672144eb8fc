"""What s3-shipper counts beyond what every sidecar that follows files counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

OBJECTS = Counter("shipper_objects_total", "Objects stored in the bucket.", ["output"])
OBJECT_BYTES = Counter("shipper_object_bytes_total", "Bytes of the objects stored.", ["output"])
LINES = Counter("shipper_lines_total", "Lines in the objects stored.", ["output"])
LINE_BYTES = Counter("shipper_line_bytes_total", "Bytes of the lines in the objects stored, uncompressed.", ["output"])
RETRIES = Counter("shipper_retries_total", "Uploads tried again after a failure.", ["output"])
UNPARSED = Counter("shipper_unparsed_lines_total", "Lines that did not match their format, shipped as such.", ["tag"])
BACKLOG_BYTES = Gauge("shipper_backlog_bytes", "Bytes of chunks on the state volume.")
BACKLOG_CHUNKS = Gauge("shipper_backlog_chunks", "Chunks on the state volume, those that take lines included.")
PENDING_BYTES = Gauge("shipper_pending_bytes", "Bytes of lines in memory, written to their chunks within a second.")
BACKLOG_FULL = Gauge("shipper_backlog_full", "1 while nothing is read because the backlog is at its limit.")
