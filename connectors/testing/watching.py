"""Watches the event loop for whoever holds it up, and the process for what a source leaves behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Final, Self, TypeAlias

__all__ = ["Counter", "Holdings", "LoopWatch", "closing_warnings", "growth", "holdings"]

Counter: TypeAlias = Callable[[], "int | Awaitable[int]"]

_BEAT: Final = 0.002
_LOOK: Final = 0.005
#: Threads of asyncio's own pool come and go as it likes.
_POOL: Final = "asyncio_"
#: Lines of code that are told of a place.
_LINES: Final = 3
_POLLS: Final = 0.02
#: Seconds in which what was closed may end in the background.
_PATIENCE: Final = 2.0


class LoopWatch:
    """Measures how long nothing else could run on the event loop while the block was entered.

    A beat runs on the loop every two milliseconds. When it is late although the machine had time for this process, a
    callback kept the loop. A thread looks meanwhile at what the loop's thread is doing.

    Args:
        limit: seconds from which on the place is remembered.

    Attributes:
        worst: longest time in seconds.
        where: the lines of code that ran then, as far as they could be seen.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self.worst = 0.0
        self.where = ""
        self._beat = self._cpu = 0.0
        self._starved = 0.0
        self._seen = ""
        self._ends = threading.Event()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="connectors-loop-watch", daemon=True
        )
        self._beat, self._cpu = time.monotonic(), time.thread_time()
        self._thread.start()
        self._timer = self._loop.call_later(_BEAT, self._beats)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:  # the one that may be due by now, too: what comes next is not in the block
            self._timer.cancel()
        self._ends.set()
        self._beats()
        self._thread.join()

    def _beats(self) -> None:
        now, cpu = time.monotonic(), time.thread_time()
        gap, busy = now - self._beat - _BEAT, cpu - self._cpu
        # What waits for a disk leaves the watching thread on time. When that was late, too, others had the processor,
        # and only what the loop's thread has computed itself counts.
        held = busy if self._starved > gap / 2 else gap
        if held > self.worst:
            self.worst, self.where = held, self._seen
        self._beat, self._cpu, self._starved, self._seen = now, cpu, 0.0, ""
        if not self._ends.is_set():
            self._timer = self._loop.call_later(_BEAT, self._beats)

    def _look(self, watched: int) -> None:
        before = time.monotonic()
        while not self._ends.wait(_LOOK):
            now = time.monotonic()
            self._starved += max(0.0, now - before - 2 * _LOOK)
            before = now
            if now - self._beat > self._limit and not self._seen:
                self._seen = _place(sys._current_frames().get(watched))  # noqa: SLF001 - the only way to see another thread


def _place(frame: FrameType | None) -> str:
    """Returns the innermost lines of code, without those of asyncio.

    Of these alone the files are read: `traceback` reads those of the whole stack, and until then it may look different.
    """
    found: list[tuple[str, int, str]] = []
    while frame is not None and len(found) < _LINES:
        file = frame.f_code.co_filename
        if f"{os.sep}asyncio{os.sep}" not in file:
            found.insert(0, (file, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    return "\n".join(f"    {file}:{line} in {name}: {getline(file, line).strip()}" for file, line, name in found)


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the process holds: texts that name tasks, threads and descriptors (files, connections)."""

    tasks: frozenset[str]
    threads: frozenset[str]
    descriptors: frozenset[str]
    connections: int


async def holdings(connections: Counter | None = None) -> Holdings:
    """Returns what the process holds now; `connections` asks the backend for its number of connections."""
    number = connections() if connections is not None else 0
    return Holdings(
        tasks=frozenset(f"the task {_task_name(task)}" for task in asyncio.all_tasks() if not task.done()),
        threads=frozenset(
            f"the thread {thread.name} ({thread.ident})"
            for thread in threading.enumerate()
            if not thread.name.startswith(_POOL)
        ),
        descriptors=frozenset(_descriptors()),
        connections=await number if inspect.isawaitable(number) else number,
    )


def _task_name(task: asyncio.Task[object]) -> str:
    coroutine = task.get_coro()
    return f"{task.get_name()} of {getattr(coroutine, '__qualname__', coroutine)}"


def _descriptors() -> Iterator[str]:
    folder = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    with suppress(OSError):  # where there is no such folder, only the warnings tell
        for entry in list(folder.iterdir()):
            with suppress(OSError):  # that of the listing itself is closed by now
                yield f"the descriptor {entry.name} ({entry.readlink()})"


async def growth(before: Holdings, connections: Counter | None = None, *, patience: float | None = None) -> list[str]:
    """Returns what is held in addition to `before`, after some time to end: connections close in the background."""
    ends = time.monotonic() + (_PATIENCE if patience is None else patience)
    while True:
        now = await holdings(connections)
        left = sorted((now.tasks - before.tasks) | (now.threads - before.threads))
        left += sorted(now.descriptors - before.descriptors)
        if now.connections > before.connections:
            left.append(f"{now.connections - before.connections} connections, as the backend counts them")
        if not left or time.monotonic() >= ends:
            return left
        await asyncio.sleep(_POLLS)


@contextmanager
def closing_warnings() -> Iterator[list[str]]:
    """Collects what is thrown away unclosed within the block."""
    found: list[str] = []
    gc.freeze()  # what was thrown away before is nobody's here, and to look at it all again would take its time
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield found
        finally:
            gc.collect()
            gc.unfreeze()
            found += [str(each.message) for each in caught if issubclass(each.category, ResourceWarning)]
