"""What an operator can do about a file that cannot be written."""

from __future__ import annotations

import errno

_ADVICE = {
    errno.ENOSPC: "give the volume a larger sizeLimit",
    errno.EDQUOT: "give the volume a larger quota",
    errno.EROFS: "mount a volume there, without readOnly",
    errno.EACCES: "give the pod an fsGroup, or run as its owner",
    errno.EPERM: "give the pod an fsGroup, or run as its owner",
    errno.EBUSY: "a volume is mounted at it; mount that elsewhere, or the whole directory",
    errno.ELOOP: "a symlink leads in a circle or is where a directory is needed; remove it",
    errno.ENOENT: "is its volume mounted?",
    errno.ENOTDIR: "a file is where a directory is needed; remove it, or name another path",
    errno.EEXIST: "a file is where a directory is needed; remove it, or name another path",
    errno.EISDIR: "a directory is where a file is needed; remove it, or name another path",
}


def said(doing: str, path: str, error: OSError) -> str:
    """Put it in three parts: what failed, with which path, and what to do.

    "cannot make the directory /data/cache: Permission denied (/data); give the pod an fsGroup, or run as its owner"
    """
    named = error.filename2 or error.filename
    where = f" ({named})" if named and named != path else ""
    return f"cannot {doing} {path}: {error.strerror}{where}; {_ADVICE.get(error.errno or 0, 'look at the volume')}"
