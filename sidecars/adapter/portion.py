"""What inputs give and outputs deliver: whole records of one origin."""

from __future__ import annotations

from typing import Protocol, Self

from sidecars.core.follow.file import Batch


class Portion:
    """Records of one origin, each ended by a newline.

    origin     the file's path; `stdin`, a FIFO's path, `syslog`, or `post`, where no file is behind it
    batch      what the follower is to be told when it is delivered; None where no file is behind it
    continued  it begins inside a line whose beginning was in the portion before: the line is longer than a batch
    complete   false: it ends inside a line that goes on in the next portion
    """

    __slots__ = ("batch", "complete", "continued", "data", "origin")

    def __init__(
        self, origin: str, data: bytes, *, batch: Batch | None = None, continued: bool = False, complete: bool = True
    ) -> None:
        self.origin = origin
        self.data = data
        self.batch = batch
        self.continued = continued
        self.complete = complete


class Intake(Protocol):
    """One output's view of everything that is read, from files and elsewhere; iteration ends at the drain's end."""

    def __aiter__(self) -> Self:
        """Iterate over the portions."""

    async def __anext__(self) -> Portion:
        """Give the next portion, as soon as there is one."""

    def acknowledge(self, portion: Portion) -> None:
        """Take a portion as delivered; those of one origin in their order."""

    def pace(self, size: int, seconds: float) -> None:
        """Learn how long a delivery took, so that one takes about a quarter of a second."""
