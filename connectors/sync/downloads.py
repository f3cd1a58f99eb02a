"""Lazy downloads: what belongs to a document is fetched only when it is needed, a bounded number at a time."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from connectors.backends.ports import Operation
from connectors.errors import ConfigurationError, SyncError, describe
from connectors.source import Document, LazyDownload
from connectors.sync.context import SyncContext
from connectors.sync.deadletters import DeadLetters
from connectors.sync.encode import encode
from connectors.sync.progress import Progress, Segment
from connectors.sync.watch import Doing
from connectors.sync.writer import BulkWriter
from connectors.utils import format_duration

__all__ = ["Downloads"]

#: Characters that are not decoded in a millisecond or two.
_LARGE: Final = 1_000_000


class _Wanted(NamedTuple):
    """One download."""

    document: Document
    lazy: LazyDownload
    operation: Operation
    outcome: str
    segment: Segment


class Downloads:
    """Runs the downloads of one sync, in as many tasks of the sync's group as there may be at the same time.

    The tasks are started when they are first needed, and go from one download to the next until they are cancelled.

    Args:
        write: takes the complete operation, what it ends as when it is acknowledged, and its segment.

    Attributes:
        tasks: those that download.
        over: set while no download is under way.
    """

    def __init__(
        self,
        context: SyncContext,
        *,
        progress: Progress,
        writer: BulkWriter,
        dead_letters: DeadLetters,
        group: asyncio.TaskGroup,
        write: Callable[[Operation, str, Segment], None],
    ) -> None:
        self._context = context
        self._progress = progress
        self._writer = writer
        self._dead_letters = dead_letters
        self._group = group
        self._write = write
        self._most = context.config.concurrent_downloads
        self._under_way = 0
        self._begun: deque[_Wanted] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._room = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.over = asyncio.Event()
        self.over.set()

    async def start(self, document: Document, lazy: LazyDownload, operation: Operation, outcome: str) -> None:
        """Starts one, as soon as there are fewer than may be, and the writer has room for what it brings."""
        while self._under_way >= self._most:
            self._room.clear()
            await self._room.wait()
        await self._writer.room()
        idle = self._idle.pop() if self._idle else None
        if idle is None and len(self.tasks) < self._most:
            self._employ()
        self._under_way += 1
        self.over.clear()
        self._begun.append(_Wanted(document, lazy, operation, outcome, self._progress.begin()))
        if idle is not None and not idle.done():  # it is when the sync ends, see below
            idle.set_result(None)

    def _employ(self) -> None:
        work = self._work()
        try:
            self.tasks.append(self._group.create_task(work))
        except RuntimeError:  # the sync ends, and a library of the source swallowed the cancellation that says so
            work.close()
            raise asyncio.CancelledError from None

    async def _work(self) -> None:
        """Runs one download after the other."""
        task = asyncio.current_task()
        with self._context.watch.doing("") as doing:
            while True:
                while self._begun:
                    await self._download(self._begun.popleft(), doing)
                    self._under_way -= 1
                    self._room.set()
                    if not self._under_way:
                        self.over.set()
                    if task is not None and task.cancelling():  # a library of the source swallowed the cancellation
                        raise asyncio.CancelledError
                doing.change("")
                idle = asyncio.get_running_loop().create_future()
                self._idle.append(idle)
                await idle

    async def _download(self, wanted: _Wanted, doing: Doing) -> None:
        document, lazy, operation, outcome, segment = wanted
        seconds = self._context.config.download_timeout
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                doing.change(f"downloading {operation.id}")
                extra = await lazy(doit=True, timestamp=document.get("_timestamp"))
                doing.change(f"extracting the text of {operation.id}")
                body = await self._complete(document, extra)
        except (SyncError, ConfigurationError):
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            await self._fail(operation, segment, "the download was cancelled, and nobody asked for it")
        except Exception as error:  # noqa: BLE001 - whatever a download raises is this document's failure alone
            reason = describe(error)
            if isinstance(error, TimeoutError) and limit.expired():
                reason = f"the download took longer than {format_duration(seconds)}"
            await self._fail(operation, segment, reason)
        else:
            self._write(operation._replace(body=body), outcome, segment)

    async def _fail(self, operation: Operation, segment: Segment, reason: str) -> None:
        self._dead_letters.add(operation.id, "download", reason, operation.body, version=operation.version)
        self._progress.settle(segment, "dead_lettered")
        told = reason if reason.startswith(f"{operation.id}: ") else f"{operation.id}: {reason}"
        self._context.logger.log(self._dead_letters.log_level(operation.id), "%s", told)
        if self._dead_letters.full:
            await self._dead_letters.flush()

    async def _complete(self, document: Document, extra: Mapping[str, Any] | None) -> bytes:
        """Returns the bytes of the document with what its download brought."""
        merged = {**document, **(extra or {})}
        merged.pop("_id", None)
        attachment = merged.get("_attachment")
        extractor = self._context.extractor
        if attachment is not None and extractor is not None:
            del merged["_attachment"]
            content = attachment if isinstance(attachment, bytes) else await self._decode(attachment)
            name = str(merged.get("path") or merged.get("name") or merged.get("filename") or "")
            extracted = await extractor.extract(content, name=name, mime_type=merged.get("mime_type"))
            if extracted is not None:
                merged["body"] = extracted.text
                if extracted.title and _says_no_more(merged.get("title"), name):
                    merged["title"] = extracted.title
        return encode(merged)

    async def _decode(self, attachment: str) -> bytes:
        if len(attachment) < _LARGE:
            return base64.b64decode(attachment)
        return await self._context.runtime.in_thread(base64.b64decode, attachment)


def _says_no_more(title: Any, name: str) -> bool:
    """Whether a title says no more than the name of the file, so that the file's own title is the better one."""
    base = name.rpartition("/")[2]
    return not title or title in {base, base.rpartition(".")[0]}
