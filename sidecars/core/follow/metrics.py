"""What is counted about following, the same in every sidecar that follows files."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

READ_BYTES = Counter("follow_read_bytes_total", "Bytes read from followed files.", ["output"])
LAG_BYTES = Gauge("follow_lag_bytes", "Bytes seen in followed files and not delivered yet.", ["output"])
LOST_BYTES = Counter(
    "follow_lost_bytes_total", "Bytes seen in followed files that were gone before they could be read.", ["output"]
)
FILES = Gauge("follow_files", "Followed files, rotated ones that are still read included.", ["output"])
OPEN_FILES = Gauge("follow_open_files", "Descriptors held open on followed files.", ["output"])
ROTATIONS = Counter("follow_rotations_total", "Times another file was found under a followed path.", ["output"])
TRUNCATIONS = Counter("follow_truncations_total", "Times a followed file was cut and begun anew.", ["output"])
HOLE_BYTES = Counter(
    "follow_hole_bytes_total", "Bytes of holes skipped at the beginning of files after a truncation.", ["output"]
)
UNREADABLE = Gauge("follow_unreadable_files", "Followed paths that cannot be read now.", ["output"])
POLLING = Gauge("follow_polling", "1 while some directory is polled because inotify cannot be had for it.", ["output"])
CHECKPOINT_ERRORS = Counter("follow_checkpoint_errors_total", "Checkpoints that could not be written.", ["output"])
CHECKPOINTS = Counter("follow_checkpoints_total", "Checkpoints written.", ["output"])


def begin(output: str) -> None:
    """Let an output's counters be there before anything happened: an alert on an absent series never fires."""
    for counter in (READ_BYTES, LOST_BYTES, ROTATIONS, TRUNCATIONS, HOLE_BYTES, CHECKPOINT_ERRORS, CHECKPOINTS):
        counter.labels(output)
