"""What a reader process does: reads one partition after the other of a source, up to finished pages.

Driver, rules, encoding and hashing, which cost most of the time of a sync, happen here, on a core of their own; the
process that owns the sync compares, writes and keeps count. A page is sent when there is room for it over there. What
belongs to a document and is fetched later, its download, is kept here under a number until the owner asks for it, or
says that it does not want it.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Literal, cast

from connectors import logger
from connectors.byoc import Filter
from connectors.filtering.basic_rule import BasicRuleEngine
from connectors.processes import Channel, end_with_parent
from connectors.runtime import Runtime
from connectors.source import BaseDataSource, Checkpoint, LazyDownload, Skipped
from connectors.sync import frames
from connectors.sync.contract import durable, opened, told
from connectors.sync.encode import encode
from connectors.sync.intake import Intake
from connectors.sync.page import PAGE_BYTES, PAGE_DOCUMENTS, PAGE_READ, Page

__all__ = ["PAGES_AHEAD", "Reader", "ReaderJob", "run_reader"]

#: Pages that a reader may have sent and the owner has not taken.
PAGES_AHEAD: Final = 8
#: Seconds between two checkpoints of a partition that make small pages; the owner stores one a second at most.
_CHECKPOINTS_EVERY: Final = 0.2
#: Seconds after which the loop is given back while documents come without a pause.
_SLICE: Final = 0.004


@dataclass(frozen=True, slots=True)
class ReaderJob:
    """What a reader process is given. It pickles, and holds secrets.

    Attributes:
        build: makes the source.
        flush_interval: seconds that a part of a page waits for more.
        level, format, secrets: of the log.
    """

    build: Callable[[], BaseDataSource] = field(repr=False)
    service_type: str
    filtering: Filter = field(repr=False)
    flush_interval: float
    level: int = logging.INFO
    format: Literal["text", "json"] = "text"
    secrets: frozenset[str] = field(default=frozenset(), repr=False)


def run_reader(end: socket.socket, job: ReaderJob) -> None:
    """Runs a reader process until the other end of the socket is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a service manager tells all processes: the owner ends its readers
    logger.configure(job.level, job.format, job.secrets)
    end_with_parent()

    async def read() -> None:
        await Reader(await Channel.open(end), job, Runtime()).run()

    asyncio.run(read())


class Reader:
    """Reads for the owner at the other end of the channel."""

    def __init__(self, channel: Channel, job: ReaderJob, runtime: Runtime) -> None:
        self._channel = channel
        self._job = job
        self._runtime = runtime
        self._assignments: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._room = asyncio.Semaphore(PAGES_AHEAD)
        self._flushing = asyncio.Lock()
        self._page = Page()
        self._begun = 0.0
        self._told_at = float("-inf")
        self._slice_ends = 0.0
        self._kept: dict[int, tuple[LazyDownload, Any]] = {}
        self._numbers = count()
        self._fetching: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Reads what it is told to, until the other end is closed, or a part of it fails: none goes on without it."""
        parts = [asyncio.create_task(part()) for part in (self._listen, self._work, self._tick)]
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*parts, *self._fetching.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._channel.close()
        for task in parts:
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, OSError):
                raise error

    async def _listen(self) -> None:
        while (message := await self._channel.hear()) is not None:
            if "read" in message:
                self._assignments.put_nowait(message)
            for _ in range(message.get("taken", 0)):
                self._room.release()
            for number in message.get("drop", ()):
                await self._drop(number)
            if "fetch" in message:
                number = message["fetch"]
                self._fetching[number] = asyncio.create_task(self._fetch(number))

    # Reading

    async def _work(self) -> None:
        try:
            source = await self._runtime.in_thread(self._job.build)  # importing its library blocks for a while
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the owner's to judge
            await self._channel.send(*frames.frame(frames.FAILED, frames.error_head(error)))
            return
        try:
            engine = BasicRuleEngine.from_records(self._job.filtering.basic_rules)
            intake = Intake(source, self._job.service_type, engine, full=True)
            while True:
                assignment = await self._assignments.get()
                try:
                    await self._read(source, intake, assignment)
                except Exception as error:  # noqa: BLE001 - whatever the source raises is the owner's to judge
                    await self._flush()
                    await self._channel.send(*frames.frame(frames.FAILED, frames.error_head(error)))
                else:
                    await self._channel.send(*frames.frame(frames.DONE, None))
        finally:
            await source.close()

    def _stream(self, source: BaseDataSource, assignment: Mapping[str, Any]) -> AsyncIterator[Any]:
        given = {"partition": assignment["read"]}
        if assignment["checkpoint"] is not None:
            given["checkpoint"] = assignment["checkpoint"]
        return cast("AsyncIterator[Any]", source.get_docs(self._job.filtering, **given))

    async def _read(self, source: BaseDataSource, intake: Intake, assignment: Mapping[str, Any]) -> None:
        """Reads one partition to its end."""
        async with opened(self._stream(source, assignment), self._job.service_type) as stream:
            async for item in stream:
                if item.__class__ is Checkpoint:
                    await self._reach(item)
                elif item.__class__ is Skipped:
                    await self._flush()
                    document_id = None if item.id is None else intake.identify(item.id)
                    await self._channel.send(*frames.frame(frames.SKIPPED, [item.reason, document_id]))
                else:
                    page = self._page
                    if not page.read:
                        self._begun = self._runtime.monotonic()
                    try:
                        refused = intake.take(page, *item)
                    except (TypeError, AttributeError) as error:
                        raise told(error, item, self._job.service_type) from None
                    if refused is not None:
                        await self._flush()
                        await self._channel.send(*frames.frame(frames.REFUSED, list(refused)))
                    elif len(page.ids) < PAGE_DOCUMENTS and page.size < PAGE_BYTES and page.read < PAGE_READ:
                        continue
                    await self._flush()
                await self._give_back()
        await self._flush()

    async def _give_back(self) -> None:
        now = self._runtime.monotonic()
        if now >= self._slice_ends:
            await asyncio.sleep(0)
            self._slice_ends = now + _SLICE

    async def _reach(self, checkpoint: Checkpoint) -> None:
        """Sends a checkpoint right behind all that it covers; one that comes too soon is left out."""
        now = self._runtime.monotonic()
        if len(self._page) < PAGE_DOCUMENTS // 2 and now - self._told_at < _CHECKPOINTS_EVERY:
            return
        self._told_at = now
        await self._flush()
        state = durable(checkpoint.state, f"the state of a checkpoint of the source {self._job.service_type}")
        self._channel.post(*frames.frame(frames.CHECKPOINT, state))

    async def _flush(self) -> None:
        """Sends what has gathered, as soon as there is room for it."""
        async with self._flushing:
            page, self._page = self._page, Page()
            if not page.read:
                return
            await self._room.acquire()
            lazies: dict[int, int] = {}
            for position, lazy in page.lazies.items():
                number = lazies[position] = next(self._numbers)
                self._kept[number] = lazy, page.documents[position].get("_timestamp")
            # No wait: it goes out while the next ones are read, of which there is room for a few.
            self._channel.post(*frames.page_frame(page, lazies))

    async def _tick(self) -> None:
        """Sends a part of a page that has waited long enough."""
        pause = max(0.05, self._job.flush_interval / 4)
        while True:
            await self._runtime.sleep(pause)
            if self._page.read and self._runtime.monotonic() - self._begun >= self._job.flush_interval:
                await self._flush()

    # Downloads

    async def _fetch(self, number: int) -> None:
        lazy, timestamp = self._kept.pop(number)
        try:
            extra = dict(await lazy(doit=True, timestamp=timestamp) or {})
            content = extra.pop("_attachment") if isinstance(extra.get("_attachment"), bytes) else None
            size = None if content is None else len(content)
            parts = frames.frame(frames.DOWNLOADED, [number, None, size], content or b"", encode(extra))
        except Exception as error:  # noqa: BLE001 - whatever a download raises is for the owner to judge
            parts = frames.frame(frames.DOWNLOADED, [number, frames.error_head(error), None])
        finally:
            self._fetching.pop(number, None)
        with suppress(OSError):  # the owner is gone: nobody asks any more
            await self._channel.send(*parts)

    async def _drop(self, number: int) -> None:
        fetching = self._fetching.get(number)
        if fetching is not None:
            fetching.cancel()
        kept = self._kept.pop(number, None)
        if kept is not None:
            await kept[0](doit=False)
