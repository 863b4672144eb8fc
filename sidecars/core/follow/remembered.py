"""What an earlier process knew: where it stopped in files that this one has not found yet."""

from __future__ import annotations

from sidecars.core.follow import succession
from sidecars.core.follow.file import File
from sidecars.core.follow.identity import Position, printable


class Remembered:
    """Positions of an earlier process that no file was found for yet, by inode and by path."""

    def __init__(self, positions: list[Position]) -> None:
        self._by_inode: dict[int, list[Position]] = {}
        self._by_path: dict[str, list[Position]] = {}
        self._of_path: dict[str, list[Position]] = {}
        self._done: dict[str, list[Position]] = {}
        for position in positions:
            if position.done:
                self._done.setdefault(position.path, []).append(position)
                continue
            self._of_path.setdefault(position.path, []).append(position)
            self._by_inode.setdefault(position.inode, []).append(position)
            self._by_path.setdefault(position.path, []).append(position)

    @property
    def paths(self) -> list[str]:
        """The paths that were followed."""
        return list(self._by_path)

    def done(self, path: str) -> tuple[Position, ...]:
        """Give the ends of what was delivered under this path and forgotten."""
        return tuple(self._done.get(printable(path), ()))

    def of(self, file: File) -> Position | None:
        """Give the position of this inode, once."""
        for position in self._by_inode.get(file.inode, ()):
            if succession.is_inode_of(file, position):
                self._take(position)
                return position
        return None

    def under(self, path: str) -> list[Position]:
        """Give the positions under this path, once, the oldest first."""
        positions = sorted(self._by_path.get(printable(path), ()), key=lambda position: position.born or 0)
        for position in positions:
            self._take(position)
        return positions

    def elsewhere(self, file: File, path: str) -> Position | None:
        """Give the position under this path that is in the content of a file with another inode."""
        positions = self._of_path.get(printable(path), ())
        return next((position for position in positions if succession.same_file_elsewhere(file, position)), None)

    def _take(self, position: Position) -> None:
        self._by_inode[position.inode].remove(position)
        self._by_path[position.path].remove(position)
