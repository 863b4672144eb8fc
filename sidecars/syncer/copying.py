"""One directory tree made like another: looked through, compared, changed."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from sidecars.core.log import log
from sidecars.syncer.manifest import Manifest
from sidecars.syncer.plan import Plan, plan
from sidecars.syncer.tree import Seen, Tree, alike, copy, seen

MARKER = ".syncing"  # in a mirror while it is mixed; what the repository has by this name is not published
LOST = "lost+found"  # of a volume that is mounted in the mirror's place
_FEW = 64  # changes, each of which is written to the disk by itself; of more, all at once
# A consumer's own: a directory of another user, or one that is not empty, or one where a volume is mounted.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ENOTEMPTY)


class Copying:
    """One tree made like another.

    Whether a file has changed is told by what lstat(2) says now and said when both files were known to be alike, which
    the manifest holds; where that is of no use, by comparing the two.
    """

    def __init__(self, source: Tree, mirror: Tree, manifest: Manifest) -> None:
        self._source, self._mirror = source, mirror
        self.manifest = manifest
        self._wanted = source.scan(_left_out, whole=True)
        self._there = mirror.scan(self._left_alone)
        self.plan: Plan = plan(self._wanted, self._there, self._same)
        self._durably = self.plan.changes <= _FEW

    def _left_alone(self, folder: str, name: str) -> bool:
        return not folder and (name == MARKER or (name == LOST and name not in self._wanted))

    def _same(self, path: str) -> bool:
        wanted, there = self._wanted[path], self._there[path]
        if not self.manifest.knows(path, wanted, there):
            if not self._alike(path, wanted, there):
                return False
            self.manifest.note(path, wanted, there)
        return True

    def _alike(self, path: str, wanted: Seen, there: Seen) -> bool:
        if wanted.kind == stat.S_IFLNK:
            return self._source.target(path) == self._mirror.target(path)
        if wanted.size != there.size:
            return False
        with contextlib.ExitStack() as opened:
            try:
                files = [tree.open(path) for tree in (self._source, self._mirror)]
            except PermissionError:
                return False
            for file in files:
                opened.callback(os.close, file)
            return alike(*files)

    def run(self) -> None:
        """Make the changes, durably."""
        changes = self.plan
        kept = [path for path in changes.clear if not self._remove(path)]
        for path in changes.make:
            self._mirror.make(path, self._wanted[path].permissions)
        for path in changes.write:
            self._write(path)
        for path in changes.allow:
            self._mirror.allow(path, self._wanted[path].permissions)
        kept += [path for path in changes.remove if not self._remove(path)]
        if kept:
            log.warning(
                "what others have put into the mirror stays", path=self._mirror.path, count=len(kept), one=kept[0]
            )
        folders = {os.path.dirname(path) for paths in changes for path in paths}
        self._mirror.settle(folders, _FEW if self._durably else 0)

    def save(self) -> None:
        """Keep what is known of the files for the next time."""
        self.manifest.save([path for path, each in self._wanted.items() if not each.is_directory])

    def _write(self, path: str) -> None:
        wanted = self._wanted[path]
        if wanted.kind == stat.S_IFLNK:
            put = self._mirror.link(path, self._source.target(path))
        else:
            file = self._source.open(path)
            try:
                wanted = seen(os.fstat(file))
                put = self._mirror.write(path, wanted.permissions, lambda new: copy(file, new), durably=self._durably)
            finally:
                os.close(file)
        self.manifest.note(path, wanted, put)

    def _remove(self, path: str) -> bool:
        """Remove what was published, or what a consumer has put there; False if that does not let us."""
        try:
            self._mirror.remove(path, directory=self._there[path].is_directory)
        except OSError as error:
            if error.errno not in _NOT_OURS or self.manifest.lists(path):
                raise
            return False
        return True


def _left_out(folder: str, name: str) -> bool:
    return name == ".git" or (not folder and name == MARKER)
