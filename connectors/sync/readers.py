"""Several processes read the partitions of one source; here they become one stream again, as if one had read them.

The owner of the sync alone holds ledger, seen set, counters and checkpoints, so that all promises are kept where they
always are: it takes the pages of all readers one after the other. A reader that dies costs what it had read since its
last checkpoint, which another one reads again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from inspect import signature
from typing import Any, Final, NamedTuple

from connectors.errors import RetryableError, SyncError
from connectors.processes import Channel
from connectors.source import Checkpoint, LazyDownload, Skipped
from connectors.sync import frames
from connectors.sync.context import ReaderPlan, ReaderProcess, SyncContext
from connectors.sync.page import ReadPage, Refused
from connectors.sync.reading import PAGES_AHEAD
from connectors.sync.split import Split
from connectors.sync.threads import to_its_end

__all__ = ["Readers", "full_stream"]

#: With fewer documents the start of the processes costs more than they save.
_WORTHWHILE: Final = 50_000
#: How often a partition is begun again by another reader without having got further.
_TRIES: Final = 3
#: Pages of one reader that wait for the checkpoint that covers them; it has room to read on meanwhile.
_MOST_WAITING: Final = PAGES_AHEAD // 2
#: Seconds for which they do.
_LONGEST_WAIT: Final = 1.0
#: Seconds that a reader may take to close its source and end.
_CLOSING: Final = 5.0


async def full_stream(context: SyncContext, checkpoint: Any, held: int) -> tuple[AsyncIterator[Any], Callable[[], Any]]:
    """Returns the stream of a full sync, what the source yields or what several processes read of it, and what to ask
    where the next incremental sync starts.

    Args:
        checkpoint: what the sync goes on behind, if it does.
        held: documents that the index holds of the connector.
    """
    source, filtering = context.source, context.filtering
    split = await _split(context, held) if checkpoint is None else Split.of(checkpoint)
    if split is not None:
        if context.readers is None:
            raise SyncError("this sync was begun by several processes, and there is nobody to start them")
        return Readers(split, context.readers, context).stream(), lambda: split.cursor
    if checkpoint is None:
        return source.get_docs(filtering), source.sync_cursor
    return source.get_docs(filtering, checkpoint=checkpoint), source.sync_cursor


async def _split(context: SyncContext, held: int) -> Split | None:
    """Returns the partitions in which several processes shall read; None where one is enough."""
    plan, source = context.readers, context.source
    # A first sync may be of any size: the source knows. And who counts what changed rules drop has to see it.
    if plan is None or plan.number < 2 or 0 < held < _WORTHWHILE or context.changed("basic_rules"):
        return None
    # A subclass may have a `get_docs` of its own, made before there were partitions.
    if not (
        source.lists_all
        and source.resumable
        and source.partitioned
        and "partition" in signature(source.get_docs).parameters
    ):
        return None
    with context.watch.doing("waiting for the source to say what its partitions are"):
        partitions = await source.partitions(context.filtering)
    return Split(partitions, source.sync_cursor()) if len(partitions) > 1 else None


class _ReaderLostError(RetryableError, SyncError):
    """A reader is gone with files that were still to be fetched: this sync ends, and is tried again."""

    def __init__(self, how: str) -> None:
        super().__init__(f"a process that read the source is lost with files yet to be fetched: {how}")


class _Lost(NamedTuple):
    """A reader has ended without having been told to; `with_files`: with some that were still to be fetched."""

    how: str
    with_files: bool


class _Ready(NamedTuple):
    """A reader can be told what to read."""


class _Done(NamedTuple):
    """A reader has read its partition to the end."""


class _Page(NamedTuple):
    """A page, and the numbers of its downloads."""

    page: ReadPage
    numbers: list[int]


class _Overdue(NamedTuple):
    """What a reader sent has waited long enough for a checkpoint."""


class _Settled(NamedTuple):
    """Nothing that a reader keeps is wanted any more, or nothing at this moment."""


class _Link:
    """One reader, as its owner sees it.

    Attributes:
        partition: number of the one that it reads.
        held: numbers of the downloads that it keeps and that somebody may want.
        waiting: what it sent and the sync has not taken; the oldest of it came at `since`.
    """

    def __init__(self, channel: Channel, settled: Callable[[_Link], None]) -> None:
        self.channel = channel
        self.partition: int | None = None
        self.held: set[int] = set()
        self.waiting: list[_Page | Refused | Skipped] = []
        self.since = 0.0
        self._settled = settled
        self._unwanted: list[int] = []
        self._awaited: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._lost: _ReaderLostError | None = None

    def lazy(self, number: int) -> LazyDownload:
        """Returns a download that the reader keeps."""
        return partial(self._download, number)

    async def _download(self, number: int, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:  # noqa: ARG002 - the reader has the original
        if not doit:
            self._unwanted.append(number)
            self._forget(number)
            return None
        if self._lost is not None:
            raise self._lost
        self._awaited[number] = asyncio.get_running_loop().create_future()
        self.channel.tell(fetch=number)
        try:
            return await self._awaited[number]
        except asyncio.CancelledError:
            self._unwanted.append(number)
            raise
        finally:
            del self._awaited[number]
            self._forget(number)

    @property
    def fetching(self) -> bool:
        """Whether somebody waits for a download."""
        return bool(self._awaited)

    def _forget(self, number: int) -> None:
        self.held.discard(number)
        if not self.held or not self._awaited:
            self._settled(self)

    def answer(self, number: int, outcome: dict[str, Any] | Exception) -> None:
        """Takes what became of a download; one that nobody waits for any more is dropped."""
        awaited = self._awaited.get(number)
        if awaited is None or awaited.done():
            return
        if isinstance(outcome, Exception):
            awaited.set_exception(outcome)
        else:
            awaited.set_result(outcome)

    def lose(self, how: str) -> None:
        """The reader is gone: what it was to fetch will never come, and nobody shall wait for it."""
        self._lost = _ReaderLostError(how)
        for awaited in self._awaited.values():
            if not awaited.done():
                awaited.set_exception(self._lost)

    def release(self) -> Iterator[_Page | Refused | Skipped]:
        """Yields what waits."""
        waiting, self.waiting = self.waiting, []
        yield from waiting

    def taken(self) -> None:
        """Tells the reader that there is room for another page, and what it need not keep."""
        self.channel.tell(taken=1, drop=self._unwanted)
        self._unwanted.clear()


class Readers:
    """The readers of one sync.

    Args:
        split: the partitions; it is brought up to date as they are read.
    """

    def __init__(self, split: Split, plan: ReaderPlan, context: SyncContext) -> None:
        self._split = split
        self._plan = plan
        self._every = context.config.checkpoint_interval
        self._runtime = context.runtime
        self._patience = context.drain_timeout
        self._watch = context.watch
        self._logger = context.logger
        self._todo = split.open[::-1]
        self._tries = Counter[int]()
        self._links: list[_Link] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._events: asyncio.Queue[tuple[_Link | None, Any]] = asyncio.Queue()
        #: Partitions of which more was taken than their checkpoint covers.
        self._uncovered: set[int] = set()
        self._told_at = float("-inf")

    async def stream(self) -> AsyncGenerator[Any, None]:
        """Yields `ReadPage`, `Refused`, `Skipped`, and a `Checkpoint` of the whole split now and then.

        Raises:
            RetryableError: readers ended again and again, or one with files that were still to be fetched.
            Exception: what the source raised.
        """
        number = min(self._plan.number, len(self._todo))
        who = "one process reads" if number == 1 else f"{number} processes read"
        self._logger.info("%s what is left of %s partitions", who, len(self._split))
        for _ in range(number):
            self._employ()
        try:
            while self._split.open or any(link.held for link in self._links):
                link, item = await self._next()
                if link is None:  # it never was
                    raise item
                for found in self._advance(link, item):
                    if isinstance(found, _Page):
                        link.held.update(found.numbers)
                        yield found.page
                        link.taken()
                    else:
                        yield found
                if isinstance(item, Checkpoint | _Done) and not self._uncovered and self._is_time():
                    yield Checkpoint(self._split.to_checkpoint())
        finally:
            await to_its_end(self._end())  # a sync that is given up is cancelled every second

    async def _end(self) -> None:
        """Ends the readers, but lets them bring what they are fetching: the sync writes it before it is suspended."""
        await asyncio.sleep(0)  # those that were begun at this very moment ask now
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                while any(link.fetching for link in self._links):
                    await self._events.get()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _next(self) -> tuple[_Link | None, Any]:
        """Returns the next thing that a reader sent, or that what one sent has waited long enough."""
        waiting = [link for link in self._links if link.waiting]
        oldest = min(waiting, key=lambda link: link.since, default=None)
        with self._watch.doing("waiting for what the processes send that read the source"):
            try:
                async with asyncio.timeout_at(None if oldest is None else oldest.since + _LONGEST_WAIT):
                    return await self._events.get()
            except TimeoutError:
                return oldest, _Overdue()

    def _advance(self, link: _Link, item: Any) -> Iterator[_Page | Refused | Skipped]:
        """Takes what a reader sent; yields what is to be taken into the sync now.

        What was read waits for the checkpoint that covers it, as long as that is near: so it is either counted and
        never read again, or read again and not counted.
        """
        partition = link.partition
        if isinstance(item, _Page | Refused | Skipped):
            if not link.waiting:
                link.since = self._runtime.monotonic()
            link.waiting.append(item)
            if sum(isinstance(each, _Page) for each in link.waiting) >= _MOST_WAITING:
                yield from self._uncover(link)
        elif isinstance(item, _Overdue):
            yield from self._uncover(link)
        elif isinstance(item, Exception):  # what was read before it is kept
            yield from self._uncover(link)
            raise item
        elif isinstance(item, Checkpoint) and partition is not None:
            yield from link.release()
            self._split.reach(partition, item.state)
            self._uncovered.discard(partition)
            self._tries[partition] = 0
        elif isinstance(item, _Done) and partition is not None:
            yield from link.release()
            self._split.finish(partition)
            self._uncovered.discard(partition)
            self._assign(link)
        elif isinstance(item, _Lost):
            self._replace(link, item)
        elif isinstance(item, _Ready):
            self._assign(link)

    def _uncover(self, link: _Link) -> Iterator[_Page | Refused | Skipped]:
        """Yields what waits without the checkpoint that covers it; till then there is none of the whole split."""
        if link.waiting and link.partition is not None:
            self._uncovered.add(link.partition)
        yield from link.release()

    def _is_time(self) -> bool:
        now = self._runtime.monotonic()
        if now - self._told_at < self._every:
            return False
        self._told_at = now
        return True

    def _assign(self, link: _Link) -> None:
        link.partition = self._todo.pop() if self._todo else None
        if link.partition is not None:
            partition, checkpoint = self._split.assignment(link.partition)
            link.channel.tell(read=partition, checkpoint=checkpoint)

    def _replace(self, link: _Link, lost: _Lost) -> None:
        """Has another reader go on behind the last checkpoint of one that is lost."""
        self._links.remove(link)
        number = link.partition
        if lost.with_files:
            raise _ReaderLostError(lost.how)
        if number is None:
            return
        self._tries[number] += 1
        if self._tries[number] >= _TRIES:
            raise RetryableError(f"the processes that read part {number + 1} of the source do not last: {lost.how}")
        self._logger.warning("a process that read the source is lost, another one goes on: %s", lost.how)
        self._todo.append(number)
        self._employ()

    # One reader

    def _employ(self) -> None:
        task = asyncio.create_task(self._attend())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self) -> None:
        """Starts a reader, and hears what it says until it ends."""
        process: ReaderProcess | None = None
        link: _Link | None = None
        try:
            process = await self._plan.start()
            link = _Link(await Channel.open(process.end), lambda link: self._events.put_nowait((link, _Settled())))
            self._links.append(link)
            self._events.put_nowait((link, _Ready()))
            while (content := await link.channel.receive()) is not None:
                self._hear(link, content)
            if not await process.ended(_CLOSING):
                await process.kill()
            lost = _Lost(process.how_it_ended, with_files=bool(link.held))
            link.lose(lost.how)
            self._events.put_nowait((link, lost))
        except Exception as error:  # noqa: BLE001 - raised by the stream, in its place
            self._events.put_nowait((link, error))
        finally:
            if link is not None:
                link.channel.close()
            if process is not None and not await process.ended(_CLOSING):
                await process.kill()

    def _hear(self, link: _Link, content: bytearray) -> None:
        try:
            kind, head, rest = frames.opened(content)
            if kind == frames.DOWNLOADED:
                number, error, size = head
                link.answer(number, frames.extra_from(size, rest) if error is None else frames.error_from(error))
                return
            item = self._item(link, kind, head, rest)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise SyncError(f"a process that reads the source sent what cannot be understood: {error}") from error
        self._events.put_nowait((link, item))

    @staticmethod
    def _item(link: _Link, kind: bytes, head: Any, rest: memoryview) -> Any:
        if kind == frames.PAGE:
            return _Page(frames.page_from(head, rest, link.lazy), [kept for _, kept in head["lazies"]])
        if kind == frames.CHECKPOINT:
            return Checkpoint(head)
        if kind == frames.SKIPPED:
            return Skipped(*head)
        if kind == frames.REFUSED:
            return Refused(*head)
        if kind == frames.DONE:
            return _Done()
        if kind == frames.FAILED:
            return frames.error_from(head)
        raise ValueError(f"the kind {kind!r}")
