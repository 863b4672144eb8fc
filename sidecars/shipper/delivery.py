"""One output's chunks into its bucket, each once.

What follows point 4 of the protocol in spool.py:

4.1 Many small members are compressed anew as one, into another file; the record is changed, the old file removed.
4.2 The key is made and recorded, before the first upload and for good. One with an index takes the index after the last
    that the ledger knows for keys of this kind; for the first of a kind the bucket is listed once.
4.3 The upload says If-None-Match: *. A failure whose outcome is not known is followed by the same upload under the same
    key, until the answer is 200 or 412.
4.4 412 for a key with the chunk's id in it: an earlier upload of ours has arrived. For a key with an index, the id in
    the object's metadata tells: ours has arrived; or it is another's object, and the next index is recorded and tried.
4.5 An endpoint that ignores the condition is asked for the object before the upload instead. Between question and
    upload another writer may use the same key with an index; a key with an id has only one writer.
4.6 An object that has arrived otherwise than it was sent is ours all the same, and 412 would be taken for success: the
    next upload overwrites it.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sidecars.core.errors import SidecarError
from sidecars.core.log import log
from sidecars.shipper import compression, points
from sidecars.shipper.chunk import Chunk
from sidecars.shipper.keys import ChunkFacts, KeyFormat, key_format
from sidecars.shipper.plan import Output, Plan
from sidecars.shipper.spool import Spool

if TYPE_CHECKING:
    from sidecars.shipper.bucket import Bucket

# Members smaller than this on average compress badly: a trickle of lines makes one each second.
_SMALL_MEMBER = 64 << 10


class Delivery:
    """How the chunks of one output get into its bucket. Blocking: called from threads."""

    def __init__(self, output: Output, spool: Spool, known: Mapping[str, str]) -> None:
        self.output = output
        self._spool = spool
        self._known = known
        self._lock = threading.Lock()
        self._bucket: Bucket | None = None
        self._made = not output.destination.create_bucket
        self._formats: dict[str, KeyFormat] = {}
        self._conditional: bool | None = None

    @property
    def bucket(self) -> Bucket:
        """The bucket; boto3 is imported when it is first asked for."""
        from sidecars.shipper.bucket import Bucket  # 16 MiB and 0.3 s that a pod pays with its first upload

        if self._bucket is None:
            self._bucket = Bucket(self.output.destination)
        return self._bucket

    def deliver(self, chunk: Chunk) -> None:
        """Try to have the chunk in the bucket; return when it is. Raises bucket.Failed, OSError."""
        from sidecars.shipper.bucket import Failed

        try:
            self._deliver(chunk)
        except Failed as error:
            # Somebody has removed it: where it is ours to make, it is made again.
            self._made = self._made and not (self.output.destination.create_bucket and error.code == "NoSuchBucket")
            raise

    def _deliver(self, chunk: Chunk) -> None:
        with self._lock:
            if not self._made:
                self.bucket.create()
                self._made = True
            conditional = self._honours_conditions()
            self._decide_key(chunk)
        while not self._is_stored(chunk, conditional):
            with self._lock:
                log.info("object key is taken", key=chunk.key, output=self.output.name)
                self._take_index(chunk)
        points.reached("object stored")

    def _is_stored(self, chunk: Chunk, conditional: bool) -> bool:
        """Upload under the chunk's key; False when the key is another's."""
        from sidecars.shipper.bucket import Corrupted, Taken

        key = chunk.key or ""
        if not conditional and not chunk.corrupted:
            owner = self.bucket.owner(key)
            if owner == chunk.id:
                return True
            if owner is not None and chunk.index is not None:
                return False
        try:
            self._put(chunk, conditional=conditional and not chunk.corrupted)
        except Corrupted:
            chunk.corrupted = True
            self._spool.ledger.commit([chunk])
            raise
        except Taken:
            # A key that holds the id can only be taken by ourselves. One that is free again fails, and is tried again.
            owner = chunk.id if chunk.index is None else self.bucket.owner(key)
            if owner is None:
                raise
            return owner == chunk.id
        return True

    def _put(self, chunk: Chunk, *, conditional: bool) -> None:
        self.bucket.put(
            chunk.key or "",
            self._spool.path(chunk),
            chunk.length,
            chunk=chunk.id,
            conditional=conditional,
            encoding=None,
            content_type=self.output.destination.content_type
            or compression.content_type(chunk.body, chunk.compression),
            lines=chunk.lines,
        )

    def _honours_conditions(self) -> bool:
        """Find out once whether the endpoint honours If-None-Match, and remember it in the ledger."""
        if self._conditional is None:
            place = self.output.destination
            name = f"conditional {place.endpoint or 'aws'} {place.bucket}"
            noted = self._spool.ledger.fact(name)
            if noted is None:
                noted = b"no" if self.bucket.ignores_conditions(_literal(self.output.layout.prefix)) else b"yes"
                self._spool.ledger.note(name, noted)
                if noted == b"no":
                    log.warning(
                        "endpoint ignores If-None-Match; objects are looked up before each upload instead",
                        endpoint=place.endpoint,
                        advice="let no other writer use the same keys",
                    )
            self._conditional = noted == b"yes"
        return self._conditional

    # The key

    def _format(self, chunk: Chunk) -> KeyFormat:
        if chunk.kind not in self._formats:
            layout = self.output.layout
            extension = layout.extension or compression.extension(chunk.body, chunk.compression)
            self._formats[chunk.kind] = key_format(layout, self._known, extension=extension)
        return self._formats[chunk.kind]

    def _decide_key(self, chunk: Chunk) -> None:
        if chunk.key is not None:
            return
        if self._format(chunk).indexed:
            self._take_index(chunk)
        else:
            chunk.key = self._format(chunk).render(_facts(chunk), None)
            try:
                self._spool.ledger.commit([chunk])
            except OSError:
                chunk.key = None
                raise
        points.reached("key recorded")

    def _take_index(self, chunk: Chunk) -> None:
        before = chunk.key, chunk.index
        made, facts = self._format(chunk), _facts(chunk)
        around = "\0".join(made.around_index(facts))
        last = self._spool.ledger.last_index(self.output.name, around)
        if last is None:
            last = made.greatest(facts, self.bucket.keys(made.around_index(facts)[0]))
        chunk.index = 0 if last is None else last + 1
        chunk.key = made.render(facts, chunk.index)
        try:
            self._spool.ledger.take_index(chunk, around, chunk.index)
        except OSError:
            chunk.key, chunk.index = before
            raise

    def make_whole(self, chunk: Chunk) -> None:
        """Compress many small members anew, as one. Raises OSError."""
        small = chunk.members > 1 and chunk.raw_bytes / chunk.members < _SMALL_MEMBER
        if chunk.key is not None or not small or chunk.compression == "none":
            return
        path = self._spool.path(chunk)
        try:
            length = compression.recompress(path, f"{path}-whole", chunk.compression, chunk.length)
        except OSError as error:
            # A chunk that is damaged, or finds no room for a second copy, is uploaded as it is.
            if error.errno not in (errno.EBADMSG, errno.ENOSPC, errno.EDQUOT):
                raise
            log.warning("chunk is uploaded in many small members", path=path, error=str(error))
            return
        self._spool.exchange(chunk, f"{chunk.file}-whole", length)


def _facts(chunk: Chunk) -> ChunkFacts:
    return ChunkFacts(id=chunk.id, tag=chunk.tag, slice=chunk.slice, opened=chunk.opened)


def _literal(prefix: str) -> str:
    """Give the part of a prefix that holds no placeholder."""
    for mark in ("%", "$", "{"):
        prefix = prefix.partition(mark)[0]
    return prefix


def check(plan: Plan) -> str:
    """Try each output with a real write, and say how it went. Raises SidecarError."""
    from sidecars.shipper.bucket import Bucket, Failed

    texts = []
    for output in {stream.output.name: stream.output for stream in plan.streams}.values():
        place = f"s3://{output.destination.bucket}/{output.layout.prefix}"
        try:
            warnings = Bucket(output.destination).check(_literal(output.layout.prefix))
        except Failed as error:
            raise SidecarError(f"{place} cannot be written: {error}") from error
        texts += [*(f"warning: {warning}" for warning in warnings), f"{place} can be written"]
    return "\n".join(texts)
