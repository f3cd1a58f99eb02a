"""Connections to the database file."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from connectors.backends.embedded.faults import is_busy, translate
from connectors.errors import ConfigurationError, SuspendSync

__all__ = ["BUSY_TIMEOUT", "Database", "create_file", "with_rows"]

#: Seconds that a call waits for other processes to let go of the database.
BUSY_TIMEOUT: Final = 30.0

_POLL: Final = 0.0005
_PAGE_SIZE: Final = 8192
_WRITER_CACHE: Final = 16 << 10  # KiB; four times as much made nothing faster
_READER_CACHE: Final = 16 << 10  # KiB
_CHECKPOINT_PAGES: Final = 2000
_KEPT_STATEMENTS: Final = 32
_WAL_KEPT: Final = 64 << 20


class Database(sqlite3.Connection):
    """A connection in autocommit mode that knows its file and how long to wait for others."""

    path: Path
    inode: tuple[int, int] | None  # of the file that is open
    busy_timeout: float
    _polls = False  # whether SQLite's busy handler is off

    @classmethod
    def connect(cls, path: Path, *, write: bool, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Opens the file, which must be there.

        Acknowledged means durable: `synchronous=FULL` syncs the write-ahead log at each commit, so that not even a
        power cut takes back what was acknowledged.
        """
        # A statement that is kept for reuse keeps the values of its last execution: megabytes for a batch of documents.
        kept = 0 if write else _KEPT_STATEMENTS
        try:
            database = sqlite3.connect(
                path, timeout=busy_timeout, isolation_level=None, factory=cls, cached_statements=kept
            )
        except sqlite3.Error as error:
            raise translate(error, path) from error
        database.path = path
        database.inode = _inode(path)
        database.busy_timeout = busy_timeout
        try:
            with database.translated():
                database.configure(write=write)
        except BaseException:
            database.close()
            raise
        return database

    def configure(self, *, write: bool) -> None:
        """Sets what a connection does not keep in the file, and in a new file its page size and journal mode."""
        self.execute("PRAGMA temp_store = MEMORY")
        if not write:
            self.execute(f"PRAGMA cache_size = -{_READER_CACHE}")
            self.execute("PRAGMA query_only = ON")
            return
        self.execute(f"PRAGMA page_size = {_PAGE_SIZE}")
        # Two processes that create the file at once: SQLite does not wait by itself while the journal mode changes.
        self._persist("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = FULL")
        self.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
        self.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        self.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")

    def _persist(self, statement: str) -> None:
        """Executes a statement that takes a lock, again and again while others hold it."""
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                self.execute(statement).close()
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(_POLL)
            else:
                return

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A write transaction, which takes the one write lock at its beginning; all or nothing.

        Within another one it is a part of that: all or nothing too, and durable with the whole.

        SQLite's own busy handler sleeps up to 100 ms between tries and would miss the moment between two transactions
        of a bulk write for as long as that lasts. Polling each half millisecond meets it.
        """
        if self.in_transaction:
            with self._part():
                yield
            return
        if not self._polls:
            self.execute("PRAGMA busy_timeout = 0")
            self._polls = True
        self._persist("BEGIN IMMEDIATE")
        with self._ended():
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A read transaction: all statements in it see the same state."""
        self.execute("BEGIN")
        with self._ended():
            yield

    @contextmanager
    def _part(self) -> Iterator[None]:
        self.execute("SAVEPOINT part")
        try:
            yield
        except BaseException:
            if self.in_transaction:
                self.execute("ROLLBACK TO part")
                self.execute("RELEASE part")
            raise
        self.execute("RELEASE part")

    @contextmanager
    def _ended(self) -> Iterator[None]:
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self.in_transaction:  # SQLite ends it by itself after a full disk, say
                self.execute("ROLLBACK")
            raise

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raises SQLite's errors as those of the project."""
        try:
            yield
        except sqlite3.Error as error:
            translated = translate(error, self.path)
            if translated is error:
                raise
            raise translated from error

    def check_file(self) -> None:
        """Raises SuspendSync when the open file is no longer the one of its name: what is written is lost."""
        if _inode(self.path) != self.inode:
            raise SuspendSync(
                f"The embedded index {self.path} was removed or replaced while it is open, so that nothing that is "
                "written now will be found. Start every process that uses it anew; the next syncs mend the index"
            )

    def wal_size(self) -> int:
        """Returns the size of the write-ahead log in bytes."""
        try:
            return Path(f"{self.path}-wal").stat().st_size
        except FileNotFoundError:
            return 0

    def checkpoint(self, *, wait: float) -> bool:
        """Copies the write-ahead log into the database and empties it; False when others still read from it.

        Args:
            wait: seconds to wait for them.
        """
        self.execute(f"PRAGMA busy_timeout = {round(wait * 1000)}")
        self._polls = False
        busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def create_file(path: Path) -> None:
    """Creates the file, readable by its owner alone, and its folder, where they are missing.

    A file that exists is not opened: closing it would drop the locks that SQLite holds on it in this process.

    Raises:
        ConfigurationError: it cannot be created, or is no file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise ConfigurationError(f"{path} is a folder; name a file for the embedded index", field="embedded.path")
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not path.parent.is_dir():
            raise ConfigurationError(
                f"The folder {path.parent} of the embedded index is a file; name another path", field="embedded.path"
            ) from None
    except OSError as error:
        raise ConfigurationError(
            f"The embedded index {path} cannot be created: {error.strerror}. Name a path that this user may write",
            field="embedded.path",
        ) from error


def with_rows(statement: str, rows: int, columns: int = 1) -> str:
    """Returns the statement with `@rows` replaced by placeholders: `?,?` for one column, `(?,?),(?,?)` for more.

    One statement with many rows, not many executions of a small one: each step of a statement gives up the
    interpreter lock and has to wait for it again, up to five milliseconds while the event loop computes. And a
    statement with several rows makes the full text flush, so that there should be one for all of them.
    """
    row = "?" if columns == 1 else f"({','.join('?' * columns)})"
    return statement.replace("@rows", ",".join([row] * rows))
