"""The ledger: chunks, keys, indices and the follower's offsets in one SQLite file, changed together or not at all."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator

from sidecars.core.log import log
from sidecars.shipper.chunk import Chunk

_VERSION = 1
_FIELDS = Chunk.__struct_fields__
_COLUMNS = ", ".join(f'"{name}"' for name in _FIELDS)  # quoted: index is a word of SQL
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS chunks ({_COLUMNS}, PRIMARY KEY (id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS indices (output TEXT, key TEXT, last INTEGER, used REAL, PRIMARY KEY (output, key));
"""
_OFFSETS, _FORMAT = "offsets", "version"
# Time slices come and go: the indices of those used longest ago are dropped, and listed anew should they come back.
_INDICES = 10_000


class Corrupt(Exception):  # noqa: N818
    """The ledger cannot be read."""


class Ledger:
    """One SQLite file, synced at each commit (synchronous=FULL). Used from several threads, one at a time.

    Raises OSError when it cannot be written, Corrupt when it cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA cache_size=-512")
            broken = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
            if broken != "ok":
                raise Corrupt(broken)
            self._db.executescript(_SCHEMA)
            self._check_version()
        except sqlite3.OperationalError as error:
            raise OSError(f"cannot open the ledger {path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise Corrupt(str(error)) from error

    def _check_version(self) -> None:
        version = self.fact(_FORMAT)
        if version is None:
            self.note(_FORMAT, str(_VERSION).encode())
        elif version != str(_VERSION).encode():
            raise Corrupt(f"version is {version.decode(errors='replace')}, this program writes {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                except BaseException:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise OSError(f"cannot write the ledger: {error}") from error

    def fact(self, name: str) -> bytes | None:
        """Give what was noted under a name."""
        with self._lock:
            row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    def note(self, name: str, value: bytes) -> None:
        """Note something under a name."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def offsets(self) -> bytes | None:
        """Give the follower's offsets; None before the first commit."""
        return self.fact(_OFFSETS)

    def commit(self, chunks: Iterable[Chunk], offsets: bytes | None = None) -> None:
        """Record these chunks as they are now, and the offsets up to which the files' lines are in chunks."""
        with self._transaction() as db:
            if offsets is not None:
                db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_OFFSETS, offsets))
            values = ", ".join("?" * len(_FIELDS))
            rows = ([getattr(chunk, name) for name in _FIELDS] for chunk in chunks)
            db.executemany(f"INSERT OR REPLACE INTO chunks VALUES ({values})", rows)  # noqa: S608  (only marks)

    def forget(self, chunk: Chunk) -> None:
        """Drop a chunk that is in the bucket."""
        with self._transaction() as db:
            db.execute("DELETE FROM chunks WHERE id = ?", (chunk.id,))

    def chunks(self) -> list[Chunk]:
        """Give the chunks that are not known to be in a bucket, the oldest first."""
        with self._lock:
            rows = self._db.execute(f"SELECT {_COLUMNS} FROM chunks ORDER BY opened").fetchall()  # noqa: S608
        chunks = [Chunk(**dict(zip(_FIELDS, row, strict=True))) for row in rows]
        for chunk in chunks:
            chunk.sealed, chunk.corrupted = bool(chunk.sealed), bool(chunk.corrupted)
        return chunks

    def last_index(self, output: str, key: str) -> int | None:
        """Give the last index that was used in keys of this kind; None when none was."""
        with self._lock:
            row = self._db.execute("SELECT last FROM indices WHERE output = ? AND key = ?", (output, key)).fetchone()
        return None if row is None else int(row[0])

    def take_index(self, chunk: Chunk, key: str, index: int) -> None:
        """Record a chunk together with the index that it takes in keys of this kind."""
        values = ", ".join("?" * len(_FIELDS))
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO indices VALUES (?, ?, ?, ?)", (chunk.output, key, index, time.time()))
            db.execute(
                "DELETE FROM indices WHERE rowid IN (SELECT rowid FROM indices ORDER BY used DESC LIMIT -1 OFFSET ?)",
                (_INDICES,),
            )
            row = [getattr(chunk, name) for name in _FIELDS]
            db.execute(f"INSERT OR REPLACE INTO chunks VALUES ({values})", row)  # noqa: S608  (only marks)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def open_ledger(directory: str) -> tuple[Ledger, bool]:
    """Open the ledger of a state directory; one that cannot be read is set aside with its chunks. True when it was.

    What an unreadable ledger knew is lost: everything is read again, so that lines may come twice rather than never.
    """
    path = os.path.join(directory, "ledger.sqlite3")
    try:
        return Ledger(path), False
    except Corrupt as error:
        aside = os.path.join(directory, f"corrupt-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        os.makedirs(aside, exist_ok=True)
        for name in ("ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm", "chunks"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(os.path.join(directory, name), os.path.join(aside, name))
        log.error(
            "ledger cannot be read; all files are read again, what was shipped may be shipped twice",
            path=path,
            error=str(error),
            set_aside=aside,
        )
        return Ledger(path), True
