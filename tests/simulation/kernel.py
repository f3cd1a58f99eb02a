"""What a simulation owns of the machine: the clock, the order of tasks, randomness, `fsync`, and which process a task
belongs to.

Several simulated processes share one event loop. Each task knows its process by a context variable, so that a process
can be killed: all its tasks are cancelled at once, while whatever it asks of the outside world fails. Tasks have
numbers, and the number is their hash: sets of tasks are walked in the same order in each run.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from unittest.mock import patch
from uuid import UUID

from connectors.backends.embedded import writing
from connectors.service import daemon, hold, lease, member, worker
from connectors.sync import opening
from connectors.testing import memory, memory_store
from tests.support.clock import Stuck

__all__ = ["EPOCH", "LATEST", "OWNER", "Disk", "Owner", "deterministic", "run_simulated"]

T = TypeVar("T")

#: Seconds for which a request may be under way; the server keeps to it, and the framework counts on it.
LATEST = 35.0
#: 2026-01-01, in seconds since the Unix epoch: where the wall clocks begin.
EPOCH = 1_767_225_600.0


class Owner:
    """A process, as the loop sees it: the tasks that were begun in its name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Takes a task that was begun in the name of this process."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    async def destroy(self) -> None:
        """Ends all tasks on the spot: no time passes, and nothing they do while they end is seen by anybody."""
        self.dead = True
        for _ in range(200):
            for task in list(self._tasks):
                task.cancel()
            await asyncio.sleep(0)
            if not self._tasks:
                return
        raise RuntimeError(f"tasks of {self.name} do not end: {[*self._tasks]}")


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)


class _Task(asyncio.Task[Any]):
    """A task whose hash does not depend on where it lies in memory."""

    number: int

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Selector(selectors.BaseSelector):
    """There is no I/O: when all wait, the clock jumps to the next timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._keys[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return self._keys[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys.pop(fileobj)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stuck("every task waits, and no timer is set")
        if timeout > 0:
            self.now += timeout + 1e-9  # a little more, since timers are compared as floats
        return []

    def get_map(self) -> Any:
        return self._keys


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _Selector()
        self._numbers = 0
        super().__init__(self._clock)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._clock.now

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, *, context: Any = None) -> asyncio.Task[Any]:
        self._numbers += 1
        # Set before the parent's __init__, which puts the task into a set.
        task = _Task.__new__(_Task)
        task.number = self._numbers
        _Task.__init__(task, coro, loop=loop, context=context)
        owner = OWNER.get() if context is None else context.get(OWNER)
        if owner is not None:
            owner.adopt(task)
        return task


def run_simulated(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a loop of its own with a jumping clock."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(scenario)


class Disk:
    """What is durable: how much of each file `fsync` has promised to keep, by the file's number."""

    def __init__(self) -> None:
        self.promised: dict[int, int] = {}
        #: Called in the middle of file work; may raise, to kill the process there.
        self.on_sync: Callable[[], None] = lambda: None

    def fsync(self, descriptor: int) -> None:
        """Takes the place of `os.fsync`."""
        self.on_sync()
        status = os.fstat(descriptor)
        self.promised[status.st_ino] = status.st_size

    def copy(self, source: Path, target: Path, *, power_cut: Random | None = None) -> None:
        """Copies what a killed process leaves behind; after a power cut, less of what was not synced."""
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(source.iterdir()):
            if path.is_dir():
                self.copy(path, target / path.name, power_cut=power_cut)
                continue
            content = path.read_bytes()
            promised = self.promised.get(path.stat().st_ino, 0)
            if power_cut is not None and promised < len(content):
                content = content[: power_cut.randint(promised, len(content))]
            copied = target / path.name
            copied.write_bytes(content)
            self.promised[copied.stat().st_ino] = len(content)


class _NoMonitor:
    """Takes the place of the monitor of the loop, which wakes ten times a second to measure real delays."""

    def __init__(self, metrics: object) -> None: ...

    async def run(self) -> None:
        await asyncio.Event().wait()


@contextmanager
def deterministic(
    random: Random, disk: Disk, died: Callable[[str], bool], *more: tuple[Any, str, Any]
) -> Iterator[None]:
    """Within the block, all that would be different in each run comes from `random` and from the simulated world.

    Args:
        died: whether a worker's name is that of a dead process of the asking process's machine.
        more: object, name, and what takes the place of that attribute.
    """
    with ExitStack() as stack:
        for target, name, value in (
            (memory, "uuid4", lambda: UUID(int=random.getrandbits(128))),
            (writing, "uuid4", lambda: UUID(int=random.getrandbits(128))),
            (secrets, "token_bytes", random.randbytes),
            (secrets, "randbits", random.getrandbits),
            (hold, "token_hex", lambda size: random.randbytes(size).hex()),
            (os, "fsync", disk.fsync),
            (lease, "died_here", died),
            (worker, "died_here", died),
            (daemon, "LoopMonitor", _NoMonitor),
            (member, "LoopMonitor", _NoMonitor),
            (opening, "_LATEST", LATEST),
            # Nobody changes a record that he was given; what is written still goes through its JSON form.
            (memory_store, "_copy", lambda record: record),
            (memory, "_TOMBSTONE_SECONDS", 2 * LATEST),
            *more,
        ):
            stack.enter_context(patch.object(target, name, value))
        yield
