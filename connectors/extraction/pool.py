"""Worker processes that can be killed one by one.

pebble starts and restarts the processes, and ends one whose time is up. Each worker has a pool of its own: with one
pool for all, the workers share a pipe and a lock, and the sudden death of one that is idle breaks the others' work.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import BrokenExecutor
from contextlib import asynccontextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from connectors.errors import SyncError
from connectors.extraction.worker import prepare_worker

if TYPE_CHECKING:
    from pebble import ProcessFuture, ProcessPool

__all__ = ["WorkerPool"]

Ts = TypeVarTuple("Ts")
T = TypeVar("T")

_FILES_PER_PROCESS = 2000
"""A worker is replaced after so many files, so that what libraries leak stays small. A start takes 0.1 s."""

_GRACE = 30.0
"""Seconds beyond the time-out after which a worker that pebble cannot end is given up with its pool."""

_STOPPED = "text extraction was stopped in the middle of a file"


class _Worker:
    """One process at a time, which pebble starts again whenever it has ended."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._pool: ProcessPool | None = None
        self._lock = Lock()  # a call that is cancelled leaves `start` running in its thread
        self._closed = False

    @property
    def started(self) -> bool:
        """Whether calls can be scheduled."""
        return self._pool is not None

    def start(self) -> None:
        """Starts the process, unless there is one. Blocks for some milliseconds.

        The thread must live as long as the worker is needed: the kernel ends a worker with the thread that started it.
        """
        from pebble import ProcessPool

        with self._lock:
            if self._pool is not None or self._closed:
                return
            pool = ProcessPool(
                max_workers=1,
                max_tasks=_FILES_PER_PROCESS,
                initializer=prepare_worker,
                initargs=(self._memory, os.getpid()),
                context=multiprocessing.get_context("spawn"),
            )
            # Pebble's threads and the processes inherit what this thread does not listen to. Ctrl-C in a terminal
            # reaches the whole group, and a worker that is still starting would print a traceback; so does its end.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
            try:
                _ = pool.active  # asking starts it
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            self._pool = pool

    def schedule(self, function: Callable[[*Ts], T], timeout: float, *args: *Ts) -> ProcessFuture[T]:
        """Hands one call to the process.

        Raises:
            BrokenExecutor: the process ended while it was idle, or cannot be started.
        """
        if self._pool is None:
            raise BrokenExecutor("closed")
        try:
            return self._pool.schedule(function, args=args, timeout=timeout)
        except RuntimeError as error:
            raise BrokenExecutor(str(error)) from error

    def stop(self, *, for_good: bool = False) -> None:
        """Ends the process, and lets no other one start if it is `for_good`. Blocks until it ended, 3 s at most."""
        with self._lock:
            self._closed = self._closed or for_good
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()  # type: ignore[no-untyped-call]  # pebble leaves it unannotated
            pool.join()


class WorkerPool:
    """Runs blocking functions in a bounded number of processes.

    Processes are started by spawn when they are first needed: the one that was used last is used first, so that a
    slow stream of files keeps a single one busy.

    Args:
        workers: number of processes, at most.
        timeout: seconds that a call may take.
        memory: bytes of address space that a process may use, on Linux.
    """

    def __init__(self, workers: int, timeout: float, memory: int) -> None:
        self._timeout = timeout
        self._workers = [_Worker(memory) for _ in range(workers)]
        self._running: set[ProcessFuture[Any]] = set()
        self._stopped = False
        self._free: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        for worker in reversed(self._workers):
            self._free.put_nowait(worker)

    async def run(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Returns `function(*args)`, computed in a process; both must pickle.

        Raises:
            TimeoutError: it took too long; the process was ended.
            pebble.ProcessExpired: the process died over it; `exitcode` tells how.
            SyncError: no process can be started.
        """
        async with self._worker() as worker:
            try:
                return await self._attempt(worker, function, *args)
            except BrokenExecutor:
                await asyncio.to_thread(worker.stop)  # it died while it was idle, or was told to: not this call's fault
            try:
                return await self._attempt(worker, function, *args)
            except BrokenExecutor as error:
                await asyncio.to_thread(worker.stop)
                raise SyncError(
                    "the worker processes of text extraction do not start, or something keeps ending them; is "
                    "`extraction.memory` too small, or does the system forbid new processes?"
                ) from error

    async def stop(self) -> None:
        """Ends all processes; calls that are under way raise SyncError."""
        self._stopped = True
        for future in self._running:
            future.cancel()  # type: ignore[no-untyped-call]  # pebble leaves it unannotated
        await asyncio.gather(*(asyncio.to_thread(worker.stop, for_good=True) for worker in self._workers))

    def _refuse_if_stopped(self) -> None:
        """Called right before a call is scheduled: nobody would end one that is scheduled later."""
        if self._stopped:
            raise SyncError(_STOPPED)

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Worker]:
        worker = await self._free.get()
        try:
            yield worker
        finally:
            self._free.put_nowait(worker)

    async def _attempt(self, worker: _Worker, function: Callable[[*Ts], T], *args: *Ts) -> T:
        from pebble import ProcessExpired

        if not worker.started:
            await asyncio.to_thread(worker.start)  # in the loop's executor, whose threads live as long as the loop
        self._refuse_if_stopped()
        future = worker.schedule(function, self._timeout, *args)
        self._running.add(future)
        limit = asyncio.timeout(self._timeout + _GRACE)
        try:
            async with limit:
                return await asyncio.wrap_future(future)
        except ProcessExpired as error:
            if abs(error.exitcode) == signal.SIGTERM:  # a service manager tells all processes of the daemon at once
                raise BrokenExecutor("told to end") from error
            raise
        except TimeoutError:
            if limit.expired():
                await asyncio.to_thread(worker.stop)
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopped and task is not None and not task.cancelling():
                raise SyncError(_STOPPED) from None
            raise
        finally:
            self._running.discard(future)
