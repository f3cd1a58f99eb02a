"""One database connection and the one thread that uses it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from connectors.backends.embedded.connection import Database

__all__ = ["DatabaseThread"]

_INTERRUPT_AGAIN: Final = 0.05  # seconds
_CLOSED: Final = "The embedded index is closed; open it again"
#: Changes that share a transaction at most: it should end as soon as a bulk write's.
_TOGETHER: Final = 64

P = ParamSpec("P")
T = TypeVar("T")


class _Change(NamedTuple):
    """A function that changes something, and who waits for its result."""

    future: Future[Any]
    function: Callable[[Database], Any]


class DatabaseThread:
    """Runs functions on a connection of its own, one after the other: those of `run` in the order in which they were
    asked for, and all changes that wait together at the turn of the first.

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
        self._changes: deque[_Change] = deque()
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
            database = self._opened()
            with database.translated():
                return function(database, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def change(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does what `run` does for a function that consists of one short write transaction.

        Those that wait at the same time are committed together: each is all or nothing by itself, and durable when its
        result comes, but the disk is waited for once.
        """
        if self._closed:
            raise RuntimeError(_CLOSED)
        future: Future[T] = Future()
        self._changes.append(_Change(future, lambda database: function(database, *args, **kwargs)))
        self._executor.submit(self._make_changes)
        return await asyncio.wrap_future(future)

    def _opened(self) -> Database:
        if self._database is None:
            self._database = self._connect()
        return self._database

    def _make_changes(self) -> None:
        """Makes the changes that wait, which may be none: an earlier turn made them."""
        changes: list[_Change] = []
        while self._changes and len(changes) < _TOGETHER:
            change = self._changes.popleft()
            if change.future.set_running_or_notify_cancel():
                changes.append(change)
        if len(changes) > 1 and self._make_together(changes):
            return
        for change in changes:
            _tell(change.future, self._outcome(change))

    def _make_together(self, changes: list[_Change]) -> bool:
        """Makes several changes in one transaction; False when one of them ended it, and nothing at all was done."""
        outcomes: list[Any] = []
        undone = False
        try:
            database = self._opened()
            with database.translated(), database.writing():
                for change in changes:
                    outcomes.append(self._outcome(change))
                    undone = not database.in_transaction  # SQLite does that when the disk is full, say
                    if undone:
                        break
        except Exception as error:  # noqa: BLE001 - every one of them is told
            outcomes = [_Failed(error)] * len(changes)
        if undone:
            return False
        for change, outcome in zip(changes, outcomes, strict=True):
            _tell(change.future, outcome)
        return True

    def _outcome(self, change: _Change) -> Any:
        """Returns the result of one change, or how it failed."""
        try:
            database = self._opened()
            with database.translated():
                return change.function(database)
        except Exception as error:  # noqa: BLE001 - who waits for it is told
            return _Failed(error)

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


class _Failed(NamedTuple):
    error: Exception


def _tell(future: Future[Any], outcome: Any) -> None:
    if isinstance(outcome, _Failed):
        future.set_exception(outcome.error)
    else:
        future.set_result(outcome)
