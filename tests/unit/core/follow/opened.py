"""A followed file by itself: opened on a path that was written before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from sidecars.core.follow.file import File, open_file


@contextlib.contextmanager
def opened(path: Path, content: bytes | None = None) -> Iterator[File]:
    """Open the file under this path, with this content if one is given."""
    if content is not None:
        path.write_bytes(content)
    file = File(str(path), open_file(str(path)))
    try:
        yield file
    finally:
        file.close()
