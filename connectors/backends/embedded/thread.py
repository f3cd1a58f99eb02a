"""One database connection and the one thread that uses it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Concatenate, Final, ParamSpec, TypeVar

from connectors.backends.embedded.connection import Database

__all__ = ["DatabaseThread"]

_INTERRUPT_AGAIN: Final = 0.05  # seconds
_CLOSED: Final = "The embedded index is closed; open it again"

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseThread:
    """Runs functions on a connection of its own, one after the other, in the order in which they were asked for.

    Cancelling the task that waits does not stop a function that has begun: it finishes, and its transaction with it.
    One that has not begun never does.

    Args:
        name: of the thread.
        connect: opens the connection; called in the thread by the first function.
    """

    def __init__(self, name: str, connect: Callable[[], Database]) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connect = connect
        self._database: Database | None = None
        self._closed = False
        self._interrupted = False

    async def run(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Returns what the function returns; errors of SQLite come as those of the project.

        Raises:
            RuntimeError: the thread is closed.
        """
        if self._closed:
            raise RuntimeError(_CLOSED)

        def call() -> T:
            if self._interrupted:
                raise RuntimeError(_CLOSED)
            if self._database is None:
                self._database = self._connect()
            with self._database.translated():
                return function(self._database, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def close(self, *, interrupt: bool = False) -> None:
        """Waits for what was asked for, closes the connection and ends the thread; may be called twice.

        Args:
            interrupt: ends the statement that runs, which then fails, and begins no further function.
        """
        first, self._closed = not self._closed, True
        if first:
            self._interrupted = interrupt
            self._executor.submit(self._disconnect)
        ending = asyncio.create_task(asyncio.to_thread(self._executor.shutdown))
        while self._interrupted and not ending.done():
            # Again and again: between two statements of a function there is nothing to interrupt.
            if self._database is not None:
                with suppress(sqlite3.ProgrammingError):  # closed this very moment
                    self._database.interrupt()
            await asyncio.wait([ending], timeout=_INTERRUPT_AGAIN)
        await ending

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
