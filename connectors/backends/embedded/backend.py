"""Opens the file and starts the threads of the embedded backend."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Self

from connectors.backends.embedded.connection import BUSY_TIMEOUT, Database, create_file
from connectors.backends.embedded.destination import EmbeddedDestination
from connectors.backends.embedded.schema import migrate
from connectors.backends.embedded.store import EmbeddedStore
from connectors.backends.embedded.thread import DatabaseThread
from connectors.errors import ConfigurationError, SuspendSync

__all__ = ["EmbeddedBackend"]


class EmbeddedBackend:
    """A destination and a store in one file.

    Any number of processes may have the file open at once, and one process several times.

    Attributes:
        path: of the database file; `-wal` and `-shm` files lie beside it.
        destination: where documents go.
        store: where records live.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use `open`, which also creates the file and checks it."""
        self.path = path
        connect = partial(Database.connect, path, busy_timeout=busy_timeout)
        self._writer = DatabaseThread("embedded-write", partial(connect, write=True))
        self._reader = DatabaseThread("embedded-read", partial(connect, write=False))
        self._searcher = DatabaseThread("embedded-search", partial(connect, write=False))
        self._users = {"destination", "store"}
        self.destination = EmbeddedDestination(
            self._writer, self._reader, self._searcher, clock=clock, release=partial(self._leave, "destination")
        )
        self.store = EmbeddedStore(self._writer, self._reader, release=partial(self._leave, "store"))

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        busy_timeout: float = BUSY_TIMEOUT,
        clock: Callable[[], float] = time.time,
    ) -> Self:
        """Opens the file, creates it where it is missing, and brings its schema to the newest version.

        Args:
            path: of the database file; its folder is created.
            busy_timeout: seconds to wait for other processes that hold the file locked.
            clock: seconds since the Unix epoch.

        Raises:
            ConfigurationError: the file cannot be created or read, is none of ours, or is of a newer release.
            RetryableError: another process holds the file locked.
        """
        await asyncio.to_thread(create_file, path)
        backend = cls(path, busy_timeout=busy_timeout, clock=clock)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(backend.close)
            try:
                await backend._writer.run(migrate)
            except SuspendSync as error:
                raise ConfigurationError(str(error), field="embedded.path") from error
            stack.pop_all()
        return backend

    async def close(self) -> None:
        """Finishes what was asked for, save for searches, and ends the threads; may be called twice."""
        await self._searcher.close(interrupt=True)  # nobody waits for a long one any more
        # The writer last: the last connection to close empties the write-ahead log.
        for thread in (self._reader, self._writer):
            await thread.close()

    async def _leave(self, user: str) -> None:
        self._users.discard(user)
        if not self._users:
            await self.close()
