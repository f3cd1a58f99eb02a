"""The further workers of a daemon: started, told what to do, started again when they end, and never left behind.

Each of them claims jobs by leases, as every worker does, so that nothing depends on them but speed. A job is claimed by
the least busy of them, so that the syncs spread over the processes, and the cores.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from connectors.errors import describe
from connectors.processes import Channel, Child
from connectors.runtime import Runtime
from connectors.service.metrics import Metrics
from connectors.service.worker import Worker
from connectors.utils import format_duration

__all__ = ["Crew", "WorkerSight"]

_logger = logging.getLogger("connectors.daemon")

#: Seconds until a worker that ended is started again: the first time, and at most.
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
#: A worker that lived this long did not end because of how it began.
_SETTLED: Final = 60.0
#: Seconds after which a worker that says nothing counts no more when jobs are shared out, and is told of.
_SILENCE: Final = 5.0
_MISSING: Final = 30.0
#: More jobs than one worker ever runs.
_ANY: Final = 1_000_000
#: Seconds beyond the time to drain after which a worker is killed; its own time-outs come first.
_GRACE: Final = 40.0
#: Seconds that a process may take to end after it has said its last word.
_REAPING: Final = 10.0
#: Seconds between two looks for those that say nothing.
_LOOK: Final = 1.0


@dataclass(frozen=True, slots=True)
class WorkerSight:
    """A worker as people look at it.

    Attributes:
        number: 1 is the process that also schedules and serves the page.
        name: as it stands in leases and jobs; empty while it starts.
        running: ids of the connectors whose syncs it runs.
    """

    number: int
    name: str
    running: list[str]


@dataclass(slots=True)
class _Member:
    number: int
    name: str = ""
    running: list[str] = field(default_factory=list)
    child: Child | None = None
    channel: Channel | None = None
    heard_at: float = 0.0
    missing_since: float | None = None
    told: int | None = None
    is_new: bool = True

    def is_there(self, now: float) -> bool:
        """Whether it can be reckoned with: it is heard of, or will be in a moment."""
        return self.missing_since is None or (self.is_new and now - self.missing_since < _SILENCE)


class Crew:
    """Looks after the further workers.

    Args:
        size: how many there shall be.
        launch: starts the one with a number, 2 or higher; blocks.
        name: of the first worker, which is this process.
        worker: of this process.
        drain_timeout: seconds that running jobs may take to suspend.
    """

    def __init__(
        self,
        size: int,
        launch: Callable[[int], Child],
        *,
        name: str,
        worker: Worker,
        metrics: Metrics,
        runtime: Runtime,
        drain_timeout: float,
    ) -> None:
        self._members = [_Member(number) for number in range(2, size + 2)]
        self._launch = launch
        self._name = name
        self._worker = worker
        self._metrics = metrics
        self._runtime = runtime
        self._drain_timeout = drain_timeout
        self._stopping = asyncio.Event()

    @asynccontextmanager
    async def at_work(self, stop: asyncio.Event) -> AsyncIterator[None]:
        """Keeps the workers running; they suspend what they run when `stop` is set, and have ended at the end."""
        if not self._members:
            yield
            return
        self._worker.on_change = self._share_out
        self._share_out()
        keeping = asyncio.create_task(self._run(stop))
        keeping.add_done_callback(lambda _: stop.set())  # a defect of ours in there must not go unseen
        try:
            yield
        finally:
            self._stopping.set()
            await keeping

    def workers(self) -> list[WorkerSight]:
        """Returns all workers, this process among them."""
        own = WorkerSight(1, self._name, sorted(self._worker.running))
        return [own, *(WorkerSight(each.number, each.name, list(each.running)) for each in self._members)]

    def trouble(self) -> str | None:
        """Says which workers are missing; None when all are there."""
        now = self._runtime.monotonic()
        missing = [
            f"worker {each.number} for {format_duration(now - each.missing_since)}"
            for each in self._members
            if each.missing_since is not None and now - each.missing_since >= _MISSING
        ]
        return f"not there, or without a word: {', '.join(missing)}; the log says why" if missing else None

    # Running

    async def _run(self, stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(member)) for member in self._members]
            looking = group.create_task(self._look())
            waits = [group.create_task(event.wait()) for event in (stop, self._stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in (looking, *waits):
                task.cancel()
            self._stopping.set()
            for member in self._members:
                if member.channel is not None:
                    member.channel.tell(stop=True)
            _, late = await asyncio.wait(keepers, timeout=self._drain_timeout + _GRACE)
            if late:
                _logger.error("workers do not end though they were told to, and are killed")
                for member in self._members:
                    if member.child is not None:
                        await member.child.kill()

    async def _keep(self, member: _Member) -> None:
        """Starts one worker again and again, until the daemon stops."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = member.missing_since = self._runtime.monotonic()
            try:
                child = await self._runtime.in_thread(self._launch, member.number)
            except OSError as error:
                how = f"it cannot be started: {describe(error)}"
            else:
                how = await self._attend(member, child)
            if self._stopping.is_set():
                return
            if self._runtime.monotonic() - begun >= _SETTLED:
                pause = _FIRST_PAUSE
            _logger.error(
                "worker %s: %s; it is started again in %s, and others take over what it ran",
                member.number,
                how,
                format_duration(pause),
            )
            await self._rest(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _attend(self, member: _Member, child: Child) -> str:
        """Stays with a worker until it has ended; returns how."""
        member.child = child
        try:
            member.channel = channel = await Channel.open(child.end)
            if self._stopping.is_set():
                channel.tell(stop=True)
            while (message := await channel.hear()) is not None:
                self._hear(member, message)
            if not await child.ended(_REAPING):
                await child.kill()
            return child.how_it_ended
        finally:
            if member.channel is not None:
                member.channel.close()
            member.child, member.channel, member.name, member.running, member.told = None, None, "", [], None
            member.is_new = False
            member.missing_since = member.missing_since or self._runtime.monotonic()
            self._metrics.drop(member.number)
            self._share_out()

    def _hear(self, member: _Member, message: Mapping[str, Any]) -> None:
        member.heard_at, member.missing_since = self._runtime.monotonic(), None
        if "metrics" in message:
            self._metrics.take(member.number, message["metrics"])
        else:
            member.name, member.running = message["name"], message["running"]
            self._share_out()

    async def _look(self) -> None:
        """Notices who says nothing any more."""
        while True:
            await self._runtime.sleep(_LOOK)
            now = self._runtime.monotonic()
            for member in self._members:
                if member.channel is not None and member.missing_since is None and now - member.heard_at > _SILENCE:
                    member.missing_since = member.heard_at
            self._share_out()

    def _share_out(self) -> None:
        """Lets each worker run one job more than the least busy one does; this process, which has other work too, one
        job less. A worker that is just starting counts as one without a job."""
        there = [len(each.running) for each in self._members if each.is_there(self._runtime.monotonic())]
        own = min(there, default=_ANY)
        if self._worker.allowed != own:
            self._worker.allowed = own
            self._worker.freed.set()
        allowed = min([len(self._worker.running), *there]) + 1
        for member in self._members:
            if member.channel is not None and member.name and member.told != allowed:
                member.channel.tell(allowed=allowed)
                member.told = allowed
