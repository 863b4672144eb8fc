"""ROOT/.git: made, mended with the least force, and fetched into."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from sidecars.syncer.root import Root, move_in, read, remove
from sidecars.syncer.settings import Settings

_BRANCH = "git-sync"
# What git says of objects or references that are damaged. What a remote says of its own is not meant.
_DAMAGE = re.compile(
    r"^(?!remote:).*(?:"
    r"bad object|bad tree object|object file .* is empty|loose object .* is corrupt|corrupt loose object|"
    r"unable to read (?:sha1 file|tree|object|.*[0-9a-f]{40})|unable to parse (?:object|commit)|missing (?:blob|tree)|"
    r"could not (?:parse|read) [0-9a-f]{40}|Could not read [0-9a-f]{40}|failed to read object|invalid object|"
    r"not a valid object|inflate: |packfile .* (?:cannot|does not|is truncated|index unavailable|claims)|"
    r"(?:pack|idx|index) .*(?:corrupt|too small|bad signature|non-monotonic)|index file (?:corrupt|smaller)|"
    r"bad (?:index file sha1 )?signature|sha1 mismatch|hash mismatch|reference broken|broken ref|unable to unpack|"
    r"bad config line|not a git repository|invalid commit|bad shallow|shallow file|[Cc]ould not resolve HEAD|"
    r"unable to resolve reference|did not send all necessary objects|cannot load object|not a tree object"
    r")",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Commit:
    """What a revision is: its full hash, its author's name, the first line of its message, its committer's time."""

    hash: str
    author: str
    subject: str
    time: float


def damaged(said: str) -> bool:
    """Tell if what git said is of a damaged repository here, and not of the remote, the network or the disk.

    "error: object file .git/objects/d6/70... is empty" -> True
    """
    return "No space left on device" not in said and bool(_DAMAGE.search(said))


class Repository:
    """The repository in ROOT/.git, with no files of its own checked out."""

    def __init__(self, root: Root, settings: Settings) -> None:
        self._root = root
        self._settings = settings
        self._known: tuple[object, ...] = ()

    def prepare(self) -> None:
        """Make or mend the repository and its remote. Costs no process when nothing has changed since."""
        if self._known and self._known == self._state():
            return
        if not self._healthy() and not self._head_mended():
            self._begin(self._root.repository)
        self._name_origin()
        self._known = self._state()

    def fetch(self, ref: str) -> str:
        """Fetch a ref; the hash of what it points to."""
        return self._fetched(ref, self._root.path)

    def rebuild(self, ref: str) -> str:
        """Make a repository beside, fetch the ref into it, exchange the two. The worktrees stay for their readers."""
        beside = os.path.join(self._root.own, "repository")
        remove(beside)
        self._begin(os.path.join(beside, ".git"))
        revision = self._fetched(ref, beside)
        move_in(os.path.join(beside, ".git"), self._root.repository)
        remove(beside)
        self._name_origin()
        return revision

    def point(self, revision: str) -> None:
        """Have the branch of ROOT hold the revision, and tell the next fetch's remote what is there."""
        self._root.run("reset", "--soft", revision, "--")

    def describe(self, revision: str) -> Commit:
        """Read a commit."""
        form = "--format=%H%n%an%n%ct%n%s"
        config = {"i18n.logOutputEncoding": "UTF-8"}
        said = self._root.run("show", "--no-patch", "--no-show-signature", form, revision, "--", config=config).text
        name, author, moment, subject = (*said.split("\n", 3), "")[:4]
        return Commit(name, author, subject, float(moment))

    def _fetched(self, ref: str, at: str) -> str:
        words = ["fetch", "--verbose", "--no-progress", "--prune", "--no-auto-gc", *self._extent(at)]
        self._root.run(*words, "--", self._settings.repo, ref, at=at)
        return self._root.run("rev-parse", "FETCH_HEAD^{}", at=at).text

    def _extent(self, at: str) -> Iterator[str]:
        if self._settings.depth:
            yield from ("--depth", str(self._settings.depth))
        elif read(os.path.join(at, ".git", "shallow")):
            yield "--unshallow"
        if self._settings.filter:
            yield f"--filter={self._settings.filter}"

    def _healthy(self) -> bool:
        if not os.path.isdir(self._root.repository) or os.path.islink(self._root.repository):
            return False
        return self._root.run("rev-parse", "--git-dir", ok=(0, 128)).text == ".git"

    def _head_mended(self) -> bool:
        """Write HEAD anew where that is all that is wrong: then nothing has to be fetched again."""
        if not os.path.isdir(os.path.join(self._root.repository, "objects")):
            return False
        self._root.write(os.path.join(self._root.repository, "HEAD"), f"ref: refs/heads/{_BRANCH}\n")
        return self._healthy()

    def _begin(self, repository: str) -> None:
        """Make an empty repository beside, and move it in."""
        new = os.path.join(self._root.own, "new")
        remove(new)
        self._root.run("init", "--quiet", f"--initial-branch={_BRANCH}", "--template=", "--", new)
        self._root.make(os.path.dirname(repository))
        move_in(os.path.join(new, ".git"), repository)
        remove(new)

    def _name_origin(self) -> None:
        """Set the remote, to which relative URLs of submodules are relative."""
        asked = self._root.run("config", "--local", "--get", "remote.origin.url", ok=(0, 1)).text
        if asked == self._settings.repo:
            return
        if asked:  # What a filter has left out must not be asked of the old one any more.
            self._root.run("config", "--local", "--remove-section", f"remote.{asked}", ok=(0, 128))
        self._root.run("config", "--local", "--replace-all", "remote.origin.url", self._settings.repo)

    def _state(self) -> tuple[object, ...]:
        """What changes when somebody replaces or damages the repository's outside."""
        repository = self._root.repository
        try:
            config = os.stat(os.path.join(repository, "config"))
            places = [os.stat(os.path.join(repository, name)).st_ino for name in ("", "objects", "refs")]
        except OSError:
            return ()
        return read(os.path.join(repository, "HEAD")), config.st_ino, config.st_mtime_ns, *places
