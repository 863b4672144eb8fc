"""Objects of S3: one, in ranges, or all below a prefix, each under its own name."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sidecars.core import bucket
from sidecars.core.bucket import Refused, Store
from sidecars.core.errors import SidecarError, Transient, WrongSettings
from sidecars.core.log import log
from sidecars.init import placing, tree
from sidecars.init.archives import Limits, Rules, Unsafe, safe, shown
from sidecars.init.part import Part, Piece, Version, too_large
from sidecars.init.sources import Again, Bounds, Changed, Patience
from sidecars.init.transfer import Transfer, persist
from sidecars.init.tree import MANIFEST, STAGING, Entry, Tree

_PIECE = 1 << 20
_SECOND = 10**9


class Address(NamedTuple):
    """A bucket, and a key or a prefix."""

    bucket: str
    key: str

    @property
    def shown(self) -> str:
        """The URI."""
        return f"s3://{self.bucket}/{self.key}"


def address(uri: str) -> Address:
    """Read s3://BUCKET/KEY or s3://BUCKET/PREFIX/. Raises WrongSettings."""
    split = urlsplit(uri)
    if not split.netloc or "@" in split.netloc or split.query:
        raise WrongSettings(f"{uri[:200]} is no s3://BUCKET/KEY and no s3://BUCKET/PREFIX/")
    return Address(split.netloc, unquote(split.path[1:]))


class Door:
    """A client, with each call tried again as long as that may help."""

    def __init__(self, store: Store, patience: Patience) -> None:
        self.patience = patience
        self.client = bucket.connect(store)

    def ask(self, doing: str, call: Callable[[], Any]) -> Any:
        """Call until it gives a result. Raises SidecarError."""
        return persist(lambda: self.once(doing, call), self.patience)

    def once(self, doing: str, call: Callable[[], Any]) -> Any:
        """Call. Raises Again, SidecarError."""
        try:
            with bucket.asking(doing):
                return call()
        except Transient as error:
            raise Again(str(error)) from error


def find(place: Address, door: Door, bounds: Bounds) -> Object | Prefix:
    """Find out whether it is an object, or a prefix with or without its slash. Raises SidecarError."""
    if place.key and not place.key.endswith("/"):
        found = Object(place, door, bounds)
        try:
            found.head()
            return found
        except Refused as error:
            if error.status != 404:
                raise
        below = Prefix(place._replace(key=f"{place.key}/"), door, bounds)
        if not below.is_empty():
            return below
        raise SidecarError(f"there is no object {place.shown}, and none below {place.shown}/; correct the key")
    return Prefix(place, door, bounds)


class Object:
    """One object."""

    def __init__(self, place: Address, door: Door, bounds: Bounds) -> None:
        self.shown = place.shown
        self.name = place.key.rpartition("/")[2]
        self._place = place
        self._door = door
        self._bounds = bounds

    def head(self) -> Version:
        """Ask for size and ETag."""
        asked = {"Bucket": self._place.bucket, "Key": self._place.key}
        told = self._door.ask(f"look up {self.shown}", lambda: self._door.client.head_object(**asked))
        size = int(told["ContentLength"])
        if self._bounds.limit is not None and size > self._bounds.limit:
            raise too_large(self._bounds.limit)
        return Version(str(told.get("ETag", "")), str(told.get("LastModified", "")), size, ranges=True)

    def look(self, known: Version | None) -> Version | None:
        """Ask for size and ETag; None when they are what is known."""
        version = self.head()
        same = known is not None and (known.etag, known.size) == (version.etag, version.size)
        return None if same and version.etag else version

    def fill(self, part: Part) -> None:
        """Fetch the pieces that are missing."""

        def read(piece: Piece) -> None:
            Range(self._place, part.version.etag, self._door).read(piece, lambda data: part.put(piece, data))

        Transfer(part, self._bounds.jobs, self._door.patience).run(lambda: read)


class Range(NamedTuple):
    """What of an object is to be read, of one version of it."""

    place: Address
    etag: str
    door: Door

    def read(self, piece: Piece, put: Callable[[memoryview], None]) -> None:
        """Read the rest of a piece. Raises Again, Changed, SidecarError."""
        asked = {"Bucket": self.place.bucket, "Key": self.place.key}
        if self.etag:
            asked["IfMatch"] = self.etag
        if piece.end:
            asked["Range"] = f"bytes={piece.offset}-{piece.end - 1}"
        doing = f"read {self.place.shown}"
        try:
            answer = self.door.once(doing, lambda: self.door.client.get_object(**asked))
        except Refused as error:
            if error.status in (404, 412, 416):
                raise Changed(f"{self.place.shown} changes while it is fetched") from error
            raise
        body = answer["Body"]
        try:
            while data := self.door.once(doing, lambda: body.read(_PIECE)):
                if piece.offset + len(data) > (piece.end or 0):
                    raise SidecarError(f"{self.place.shown} sends more bytes than it says; is something between?")
                put(memoryview(data))
        finally:
            body.close()
        if not piece.complete:
            raise Again(f"{self.place.shown} ends too early")


class Target:
    """An object of a prefix, and the file that it is to be.

    The file gets its time when it is whole, so that one left half is known by it. The part of a second is made from the
    ETag: another version of the same second and size is another file.
    """

    def __init__(self, place: Address, told: dict[str, Any], path: str) -> None:
        self.place = place
        self.path = path
        self.etag = str(told.get("ETag", ""))
        self.size = int(told["Size"])
        fraction = int.from_bytes(hashlib.sha256(self.etag.encode()).digest()[:8], "big") % _SECOND
        self.mtime_ns = int(told["LastModified"].timestamp()) * _SECOND + fraction
        self._lock = threading.Lock()
        self._descriptor = -1
        self._left = 0

    def entry(self, mode: int) -> Entry:
        """What the file is to be."""
        return Entry("file", self.size, self.mtime_ns, mode)

    def pieces(self, size: int) -> list[Slice]:
        """Divide it."""
        made = [Slice(self, at, min(at + size, self.size)) for at in range(0, self.size, size)]
        self._left = len(made)
        return made

    def put(self, place: str, offset: int, data: memoryview) -> None:
        """Write bytes to their place in the file."""
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        while data:
            count = os.pwrite(self._descriptor, data, offset)
            offset, data = offset + count, data[count:]

    def done(self, place: str, mode: int) -> bool:
        """Count a piece that is there; the last gives the file its permissions and its time."""
        with self._lock:
            self._left -= 1
            if self._left > 0:
                return False
            if self._descriptor < 0:
                self._descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            os.fchmod(self._descriptor, mode)
            os.utime(self._descriptor, ns=(self.mtime_ns, self.mtime_ns))
            os.close(self._descriptor)
            return True


class Slice(Piece):
    """A piece of one of several files."""

    __slots__ = ("target",)

    def __init__(self, target: Target, begin: int, end: int) -> None:
        super().__init__(begin, end)
        self.target = target


class Prefix:
    """All objects below a prefix, which ends with a slash: model/ has none of model2/."""

    def __init__(self, place: Address, door: Door, bounds: Bounds) -> None:
        self.shown = place.shown
        self.version = Version()
        self.pieces: list[Piece] = []
        self.abandoned = False
        self._place = place
        self._door = door
        self._bounds = bounds
        self._found: list[dict[str, Any]] = []

    @property
    def there(self) -> int:
        """How many bytes are there."""
        return sum(piece.done for piece in self.pieces)

    def save(self) -> None:
        """Nothing to note: a file that is whole says so by its time."""

    def is_empty(self) -> bool:
        """Whether no object is below it."""
        return not self._page(None, 1).get("Contents")

    def _page(self, token: str | None, count: int = 1000) -> Any:
        asked = {"Bucket": self._place.bucket, "Prefix": self._place.key, "MaxKeys": count}
        more = {"ContinuationToken": token} if token else {}
        return self._door.ask(f"list {self.shown}", lambda: self._door.client.list_objects_v2(**asked, **more))

    def _objects(self) -> Iterator[dict[str, Any]]:
        token = None
        while True:
            page = self._page(token)
            yield from page.get("Contents", ())
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return

    def look(self, rules: Rules) -> str:
        """List them, and give a digest of keys, sizes and ETags. Raises SidecarError for none and for too many."""
        self._found = []
        size = 0
        for told in self._objects():
            self._found.append(told)
            size += int(told["Size"])
            self._check(size, rules.limits)
        if not self._found:
            raise SidecarError(f"there is no object below {self.shown}; correct the bucket and the prefix")
        whole = hashlib.sha256()
        for told in self._found:
            whole.update(repr((told["Key"], told["Size"], told.get("ETag"))).encode(errors="surrogateescape"))
        return whole.hexdigest()

    def _check(self, size: int, limits: Limits) -> None:
        if len(self._found) > limits.files:
            raise SidecarError(f"there are more than --max-files {limits.files:,} objects; is it the right prefix?")
        if self._bounds.limit is not None and size > self._bounds.limit:
            raise SidecarError(f"the objects have more than --max-size {self._bounds.limit:,} bytes; is it right?")

    def stage(self, staging: str, dest: str | None, rules: Rules) -> Tree:
        """Fetch what is not in DEST and not staged yet; what there is to be, by path. Raises SidecarError, OSError."""
        wanted, targets = self._plan(rules)
        placing.remove_unwanted(staging, wanted, tree.ALL)
        placed = tree.there(dest, wanted) if dest else {}
        staged = tree.there(staging, wanted)
        missing: list[tuple[Target, Entry]] = []
        for path, entry in wanted.items():
            before = staged.get(path)
            if before is not None and before.kind != entry.kind:
                placing.remove(os.path.join(staging, path))
            if entry.kind == "dir":
                if path not in placed or placed[path].kind != "dir":
                    os.makedirs(os.path.join(staging, path), exist_ok=True)
            elif not entry.same_content(placed.get(path)) and not entry.same_content(before):
                os.makedirs(os.path.join(staging, os.path.dirname(path)), exist_ok=True)
                missing.append((targets[path], entry))
        self._fetch(staging, missing)
        return wanted

    def _plan(self, rules: Rules) -> tuple[Tree, dict[str, Target]]:
        """Give what is wanted, parents first, and where each file comes from."""
        wanted: Tree = {}
        targets: dict[str, Target] = {}
        mode = 0o644 if rules.mode is None else rules.mode
        folder = Entry("dir", mode=0o755 if rules.dir_mode is None else rules.dir_mode)
        for told in self._found:
            key = str(told["Key"])
            parts = self._parts(key, rules)
            path = "/".join(parts)
            is_folder = key.endswith("/")  # what consoles make for an empty folder
            if not path or _is_left_out(parts, is_folder, rules):
                continue
            above = ["/".join(parts[:count]) for count in range(1, len(parts))]
            entry = folder
            if not is_folder:
                targets[path] = Target(self._place._replace(key=key), told, path)
                entry = targets[path].entry(mode)
            for each, made in [*((each, folder) for each in above), (path, entry)]:
                if wanted.setdefault(each, made) != made:
                    raise SidecarError(
                        f"{self.shown} has more than one object for {shown(each)}, as file and directory perhaps; "
                        "leave one out with --exclude"
                    )
        return dict(sorted(wanted.items(), key=lambda item: item[0].split("/"))), targets

    def _parts(self, key: str, rules: Rules) -> list[str]:
        try:
            parts = safe(key[len(self._place.key) :])
            if parts and parts[0] in (MANIFEST, STAGING):
                raise Unsafe(f"{shown(key)} is a name that pod-init keeps for itself")
            return parts[rules.strip :]
        except Unsafe as error:
            if not rules.skip:
                raise SidecarError(f"{error}; --unsafe skip leaves such objects out") from error
            log.warning("left out", reason=str(error))
            return []

    def _fetch(self, staging: str, missing: list[tuple[Target, Entry]]) -> None:
        pieces: list[Piece] = []
        modes = {target.path: entry.mode for target, entry in missing}
        for target, entry in missing:
            place = os.path.join(staging, target.path)
            if os.path.lexists(place):
                os.unlink(place)
            if not target.size:
                target.done(place, entry.mode)
            pieces += target.pieces(self._bounds.piece)
        self.pieces, self.version = pieces, Version(size=sum(target.size for target, _ in missing))

        def read(piece: Piece) -> None:
            assert isinstance(piece, Slice)  # noqa: S101  (for mypy)
            target = piece.target
            place = os.path.join(staging, target.path)

            def put(data: memoryview) -> None:
                if self.abandoned:
                    raise SidecarError("another piece has failed")
                target.put(place, piece.offset, data)
                piece.done += len(data)

            Range(target.place, target.etag, self._door).read(piece, put)
            target.done(place, modes[target.path])

        Transfer(self, self._bounds.jobs, self._door.patience).run(lambda: read)


def _is_left_out(parts: list[str], is_folder: bool, rules: Rules) -> bool:
    paths = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    if any(map(rules.selection.leaves_out, paths)):
        return True
    return bool(rules.selection.include) and (is_folder or not rules.selection.takes(paths[-1]))
