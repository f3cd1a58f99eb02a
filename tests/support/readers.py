"""Readers that are tasks of the test's own loop rather than processes: the same code at both ends of a socket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from connectors.byoc import Filter
from connectors.processes import Channel
from connectors.source import BaseDataSource
from connectors.sync.context import ReaderPlan
from connectors.sync.reading import Reader, ReaderJob
from tests.support.clock import InlineRuntime
from tests.support.sources import ScriptedSource

__all__ = ["InLoopReader", "InLoopReaders", "PartitionedSource"]


class PartitionedSource(ScriptedSource):
    """Plays one script for each partition; see `ScriptedSource`."""

    resumable = True
    partitioned = True

    def __init__(self, scripts: Iterable[Iterable[Any]], *, cursor: Any = None) -> None:
        self.scripts = [list(script) for script in scripts]
        super().__init__([item for script in self.scripts for item in script], cursor=cursor)
        self.asked = 0
        self.begun: list[tuple[Any, Any]] = []

    async def partitions(self, filtering: Any = None) -> Sequence[Any]:
        self.asked += 1
        return [{"part": number} for number in range(len(self.scripts))]

    async def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncIterator[Any]:
        self.begun.append((partition and partition["part"], checkpoint))
        script = self.script if partition is None else self.scripts[partition["part"]]
        async for item in self._play(checkpoint or 0, script):
            yield item


class InLoopReader:
    """In place of a process."""

    def __init__(self, job: ReaderJob) -> None:
        self.end, theirs = socket.socketpair()
        self.how_it_ended = "ended by SIGKILL"
        self._theirs = theirs
        self.task = asyncio.create_task(self._run(theirs, job))

    async def _run(self, theirs: socket.socket, job: ReaderJob) -> None:
        channel = await Channel.open(theirs)
        try:
            await Reader(channel, job, InlineRuntime()).run()
        finally:
            channel.close()

    async def ended(self, seconds: float) -> bool:
        await asyncio.wait([self.task], timeout=seconds)
        return self.task.done()

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class InLoopReaders:
    """Starts readers of one source object, which all of them share, and remembers them."""

    def __init__(self, source: BaseDataSource, number: int = 2, rules: Sequence[Any] = ()) -> None:
        self.started: list[InLoopReader] = []
        self.job = ReaderJob(lambda: source, source.service_type, Filter.of(list(rules)), 1.0)
        self.plan = ReaderPlan(number, self._start)

    async def _start(self) -> InLoopReader:
        await asyncio.sleep(0)
        self.started.append(InLoopReader(self.job))
        return self.started[-1]

    @property
    def alive(self) -> list[InLoopReader]:
        """Those that have not ended."""
        return [reader for reader in self.started if not reader.task.done()]
