"""The two files by which git-sync tells others how it does: one that is touched, and one that holds the last error."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile


class ErrorFile:
    """The last error, as one JSON object, or the text of a wrong configuration; absent while all is well.

    A relative path is relative to the root; its directory is made, one level deep.
    """

    def __init__(self, path: str, root: str) -> None:
        self.path = os.path.join(root, path)

    def write(self, error: dict[str, object]) -> str | None:
        """Replace the file; give why that failed, None when it did not."""
        return self.write_text(json.dumps(error))

    def write_text(self, text: str) -> str | None:
        """Replace the file by a text."""
        directory = os.path.dirname(self.path)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(directory, 0o775)
            descriptor, temporary = tempfile.mkstemp(prefix="tmp-err-", dir=directory)
            try:
                with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(text)
                os.replace(temporary, self.path)
            except BaseException:
                os.unlink(temporary)
                raise
            os.chmod(self.path, 0o644)
        except OSError as error:
            return str(error)
        return None

    def remove(self) -> str | None:
        """Remove the file, if it is there; give why that failed."""
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return str(error)
        return None


def touch(path: str, root: str) -> None:
    """Make a file, with its directories, or renew its times; a relative path is relative to the root.

    Raises OSError.
    """
    path = os.path.join(root, path)
    os.makedirs(os.path.dirname(path), 0o775, exist_ok=True)
    with open(path, "ab"):
        os.utime(path)
