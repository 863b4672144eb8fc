"""Values that carry their unit and read themselves from the text an operator writes."""

from __future__ import annotations

import math
import os
import re
from typing import ClassVar, Self

from sidecars.core.errors import WrongSettings

DURATION = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
SPANS = re.compile(rf"(?:(?:{NUMBER})(?:ns|us|µs|μs|ms|s|m|h|d))+")
SPAN = re.compile(rf"({NUMBER})([a-zµμ]+)")
SIZE = re.compile(rf"({NUMBER}) ?([kmgt]?i?)b?", re.IGNORECASE)
ADDRESS = re.compile(
    r"(?P<bracket>\[)?(?P<host>(?(bracket)[0-9a-fA-F:.]*:[0-9a-zA-Z:.%_-]*|[\w.-]*))(?(bracket)\]):(?P<port>[0-9]{1,5})"
)


class Seconds(float):
    """A duration. As text: `5`, `5s`, `2m`, `1h30m`, `250ms`, as Go writes them, and `d` for days."""

    expected: ClassVar[str] = "seconds, or 90s, 5m, 1h"
    metavar: ClassVar[str] = "SECONDS"
    number: ClassVar[bool] = True

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a duration; ValueError when the text is none. A bare number is seconds."""
        if re.fullmatch(NUMBER, text):
            total = float(text)
        elif SPANS.fullmatch(text):
            total = math.fsum(float(number) * DURATION[unit] for number, unit in SPAN.findall(text))
        else:
            raise ValueError(text)
        if math.isinf(total):
            raise ValueError(text)
        return cls(total)

    def __str__(self) -> str:
        if self and (self < 1 or not self.is_integer()):
            return f"{self * 1000:g}ms" if self < 1 else f"{float(self)!r}s"
        rest, text = int(self), ""
        for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
            count, rest = divmod(rest, size)
            text += f"{count}{unit}" if count else ""
        return text or "0s"


class Bytes(int):
    """A number of bytes. As text: `100`, `64KiB` or `64Ki` (1024), `10M` or `10MB` (1000), as Kubernetes counts."""

    expected: ClassVar[str] = "bytes, or 64KiB, 10MB, 1GiB"
    metavar: ClassVar[str] = "BYTES"
    number: ClassVar[bool] = True

    @classmethod
    def read(cls, text: str) -> Self:
        """Read a size; ValueError when the text is none or gives no whole number of bytes."""
        match = SIZE.fullmatch(text)
        if not match or match[2].lower() not in SIZES:
            raise ValueError(text)
        whole, _, fraction = match[1].partition(".")
        scale = SIZES[match[2].lower()]
        parts, rest = divmod(int(fraction or "0") * scale, 10 ** len(fraction))
        if rest:
            raise ValueError(text)
        return cls(int(whole or "0") * scale + parts)

    def __str__(self) -> str:
        for unit in ("Ti", "Gi", "Mi", "Ki", "T", "G", "M", "k"):
            count, rest = divmod(int(self), SIZES[unit.lower()])
            if count and not rest:
                return f"{count}{unit}B"
        return int.__repr__(self)


class Address(str):
    """A host and a port. As text: `host:port`, `:port` (every interface), `[::1]:port`."""

    __slots__ = ("host", "port")
    expected: ClassVar[str] = "host:port, or :port, [::1]:port"
    metavar: ClassVar[str] = "HOST:PORT"
    number: ClassVar[bool] = False

    host: str
    port: int

    def __new__(cls, text: str) -> Self:
        """Read an address; ValueError when the text is none. The host of `:port` is empty."""
        match = ADDRESS.fullmatch(text)
        if not match or int(match["port"]) > 65535:
            raise ValueError(text)
        self = super().__new__(cls, text)
        self.host, self.port = match["host"], int(match["port"])
        return self

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an address, as the constructor does."""
        return cls(text)


class Secret:
    """A secret given by a file or a variable: only `reveal` says it, no text of this object ever does."""

    __slots__ = ("_seen", "_text", "file")

    def __init__(self, text: str | None = None, *, file: str | None = None) -> None:
        self.file = file
        self._text = text
        self._seen: tuple[int, ...] | None = None

    def reveal(self) -> str:
        """Say the secret, read anew when its file has changed.

        A file that cannot be read any more leaves the last secret in force; WrongSettings when there was none yet.
        """
        try:
            self.renew()
        except (OSError, UnicodeError) as error:
            if self._text is None:
                reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
                raise WrongSettings(f"cannot read the secret in {self.file}: {reason}; is it mounted?") from error
        return self._text or ""

    def renew(self) -> None:
        """Read the file again if it has changed, without the newline that an editor leaves at its end."""
        if self.file is None:
            return
        # Kubernetes renews a mounted secret by swapping a symlink above it: the inode tells, the times may not.
        status = os.stat(self.file)
        seen = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        if seen == self._seen:
            return
        with open(self.file, encoding="utf-8", newline="") as file:
            text = file.read()
        # A file found empty is being written by something that does not replace it: the old secret holds meanwhile.
        if text or self._text is None:
            text = text.removesuffix("\n")
            self._text, self._seen = text.removesuffix("\r"), seen

    def __eq__(self, other: object) -> bool:
        """The same file, whatever it holds now, or the same text."""
        if not isinstance(other, Secret):
            return NotImplemented
        return self.file == other.file and (self.file is not None or self._text == other._text)

    def __hash__(self) -> int:
        return hash((Secret, self.file))

    def __repr__(self) -> str:
        return f"Secret(file={self.file!r})" if self.file is not None else "Secret(***)"
