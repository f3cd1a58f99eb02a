"""Lazy downloads: what belongs to a document is fetched only when it is needed, a bounded number at a time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectors.backends.ports import Operation
from connectors.errors import ConfigurationError, SyncError, describe
from connectors.source import Document, LazyDownload
from connectors.sync.context import SyncContext
from connectors.sync.deadletters import DeadLetters
from connectors.sync.encode import encode
from connectors.sync.progress import Progress, Segment
from connectors.sync.writer import BulkWriter
from connectors.utils import format_duration

__all__ = ["Downloads"]

#: Characters that are not decoded in a millisecond or two.
_LARGE: Final = 1_000_000


class Downloads:
    """Runs the downloads of one sync, each in a task of the sync's group.

    Args:
        write: takes the complete operation, what it ends as when it is acknowledged, and its segment.

    Attributes:
        tasks: those that are under way.
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
        self._slots = asyncio.Semaphore(context.config.concurrent_downloads)
        self.tasks: set[asyncio.Task[None]] = set()

    async def start(self, document: Document, lazy: LazyDownload, operation: Operation, outcome: str) -> None:
        """Starts one, once there is a slot for it and the writer has room for what it brings."""
        await self._slots.acquire()
        try:
            await self._writer.room()
        except asyncio.CancelledError:
            self._slots.release()
            raise
        segment = self._progress.begin()
        download = self._download(document, lazy, operation, outcome, segment)
        try:
            task = self._group.create_task(download)
        except RuntimeError:  # the sync ends, and a library of the source swallowed the cancellation that says so
            download.close()
            self._slots.release()
            raise asyncio.CancelledError from None
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self._slots.release()

    async def _download(
        self, document: Document, lazy: LazyDownload, operation: Operation, outcome: str, segment: Segment
    ) -> None:
        seconds = self._context.config.download_timeout
        limit = asyncio.timeout(seconds)
        watch = self._context.watch
        try:
            async with limit:
                with watch.doing(f"downloading {operation.id}"):
                    extra = await lazy(doit=True, timestamp=document.get("_timestamp"))
                with watch.doing(f"extracting the text of {operation.id}"):
                    body = await self._complete(document, extra)
        except (SyncError, ConfigurationError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a download raises is this document's failure alone
            reason = describe(error)
            if isinstance(error, TimeoutError) and limit.expired():
                reason = f"the download took longer than {format_duration(seconds)}"
            self._dead_letters.add(operation.id, "download", reason, operation.body, version=operation.version)
            self._progress.settle(segment, "dead_lettered")
            told = reason if reason.startswith(f"{operation.id}: ") else f"{operation.id}: {reason}"
            self._context.logger.log(self._dead_letters.log_level(operation.id), "%s", told)
            if self._dead_letters.full:
                await self._dead_letters.flush()
            return
        self._write(operation._replace(body=body), outcome, segment)

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
