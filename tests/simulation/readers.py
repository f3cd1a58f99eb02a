"""Simulated reader processes: the real `Reader`, joined to the process that started it by a pipe in memory.

It may be killed at each frame that it sends, and the last of what is on its way may be lost then. It may stand still,
and it ends with its owner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from connectors.runtime import Runtime
from connectors.service import crew, job_run
from connectors.service.catalog import SourceCatalog
from connectors.sync import readers, reading
from connectors.sync.context import ReaderPlan, SyncContext
from connectors.sync.readers import Readers
from connectors.sync.reading import Reader, ReaderJob
from connectors.sync.split import Split
from tests.simulation.kernel import EPOCH, OWNER, Owner
from tests.simulation.pipe import Pipe
from tests.simulation.source import SimulatedSource

if TYPE_CHECKING:
    from tests.simulation.process import Process

__all__ = ["READING", "SimulatedReader"]

P = ParamSpec("P")
T = TypeVar("T")


class _Clock(Runtime):
    """Time and threads of one reader."""

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(0)
        return function(*args, **kwargs)


class SimulatedReader(Owner):
    """One reader process; it has what is asked of a `ReaderProcess`, and what a source asks of its process.

    Attributes:
        end: the owner's end of the pipe.
        done: set when it has ended.
    """

    how_it_ended = "ended by SIGKILL"

    def __init__(self, process: Process, name: str, job: ReaderJob) -> None:
        super().__init__(name)
        self.world = process.world
        self.done = asyncio.Event()
        self.end, self._pipe = Pipe.pair(process, self)
        self._killing: asyncio.Task[None] | None = None
        context = Context()
        context.run(OWNER.set, self)
        self._running = asyncio.get_running_loop().create_task(
            self._run(self._with_source(job, process)), context=context
        )

    def _with_source(self, job: ReaderJob, process: Process) -> ReaderJob:
        """Has it make a source that knows in which process it lives, and for whom it reads."""
        given: Any = job.build
        path, connector, service_type, *_ = given.args
        catalog = SourceCatalog({service_type: path})
        whole = self.world.watch.latest[process.name, connector]
        catalog._loaded[service_type] = type("Source", (SimulatedSource,), {"process": self, "whole": whole})
        return replace(job, build=partial(catalog.build, *given.args[1:], **given.keywords))

    async def _run(self, job: ReaderJob) -> None:
        loop, random = asyncio.get_running_loop(), self.world.random
        try:
            await Reader(self._pipe, job, _Clock(wall=lambda: EPOCH + loop.time(), random=random)).run()  # type: ignore[arg-type]  # in place of a channel
        except Exception as error:  # noqa: BLE001 - a defect, whatever it is
            self.world.fail(f"{self.name} breaks down: {error!r}", error)
        finally:
            if not self.dead:
                self._pipe.close()
                self.dead = True
                self.done.set()

    # What happens to it

    def strike(self) -> None:
        """May kill it at this moment."""
        if self.world.chance("reader dies"):
            self.die()
        if self.dead:
            raise asyncio.CancelledError

    async def gate(self) -> None:
        """It may stand still at this moment."""
        if self.world.chance("reader stands still"):
            await asyncio.sleep(self.world.random.random() * self.world.random.choice((1.0, 40.0)))

    def die(self) -> None:
        """`kill -9`, or its owner is gone."""
        if self.dead:
            return
        self.world.note(self.name, "killed")
        self.dead = True
        self._pipe.tear()
        self._killing = asyncio.get_running_loop().create_task(self._destroy(), context=Context())

    async def _destroy(self) -> None:
        await self.destroy()
        self.done.set()

    # What its owner asks

    async def ended(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.done.wait()
        except TimeoutError:
            return False
        return True

    async def kill(self) -> None:
        self.die()
        await self.done.wait()


class _Watched(Readers):
    """Tells the watch that a sync by several readers begins, or goes on."""

    def __init__(self, split: Split, plan: ReaderPlan, context: SyncContext) -> None:
        process: Any = OWNER.get()
        process.world.watch.begin_split(
            process.name, context.connector.id, rules=context.filtering.basic_rules, checkpoint=split.to_checkpoint()
        )
        super().__init__(split, plan, context)


def _start(target: Any, name: str, job: ReaderJob) -> SimulatedReader:
    """Takes the place of `start_child`."""
    process: Any = OWNER.get()
    process.started += 1
    reader = SimulatedReader(process, f"{process.name}/{process.started}", job)
    process.readers = [each for each in process.readers if not each.done.is_set()] + [reader]
    return reader


#: What takes the place of processes: object, name, value. Pages are small, so that a few rows fill several.
READING: Final[list[tuple[Any, str, Any]]] = [
    (job_run, "start_child", _start),
    (readers, "Readers", _Watched),
    (readers, "Channel", Pipe),
    (crew, "Channel", Pipe),
    (readers, "_WORTHWHILE", 0),
    (readers, "_MOST_WAITING", 2),
    (reading, "PAGES_AHEAD", 3),
    (reading, "PAGE_DOCUMENTS", 4),
]
