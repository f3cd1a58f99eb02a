"""Where documents go: the embedded index's `Destination`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from connectors.backends.embedded import reading, upkeep, writing
from connectors.backends.embedded.connection import Database
from connectors.backends.embedded.search import search_index
from connectors.backends.embedded.thread import DatabaseThread
from connectors.backends.ports import (
    Failure,
    IndexHandle,
    IndexInfo,
    IndexSpec,
    Operation,
    SearchPage,
    StampPage,
    WriteResult,
    unguarded,
)

__all__ = ["EmbeddedDestination"]

#: Seconds that a transaction of a bulk write should take; others get the lock between two of them.
TRANSACTION_SECONDS: Final = 0.15

_FIRST_BUDGET: Final = 500_000
# Not too low: while the event loop computes, a transaction takes long however small it is.
_BUDGET_RANGE: Final = (250_000, 4_000_000)
_DELETED_AT_ONCE: Final = 500
_MERGES: Final = 20  # steps for each index at a time, so that housekeeping returns soon


class EmbeddedDestination:
    """Documents and full text in one SQLite file; made by `EmbeddedBackend.open`.

    Args:
        writer: the thread that writes.
        reader: the thread for the reads of syncs.
        searcher: the thread for searches, so that a slow one holds up nothing else.
        clock: seconds since the Unix epoch; times the tombstones.
        release: called by `close`; the threads end when nobody uses them any more.
    """

    def __init__(
        self,
        writer: DatabaseThread,
        reader: DatabaseThread,
        searcher: DatabaseThread,
        *,
        clock: Callable[[], float],
        release: Callable[[], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._searcher = searcher
        self._clock = clock
        self._release = release
        self._budget = _FIRST_BUDGET  # bytes of a transaction, by what the last one took

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        """Creates the index when it is missing and says what it is. Language and pipeline mean nothing here."""
        found = await self._reader.run(writing.find_info, spec.name)  # which waits for no write
        return await self._writer.run(writing.prepare_index, spec.name) if found is None else found

    async def info(
        self,
        index: str,
        pipeline: Mapping[str, Any] | None = None,  # noqa: ARG002 - nothing here passes a pipeline
    ) -> IndexInfo | None:
        """Says what the index is, None when there is none."""
        return await self._reader.run(writing.find_info, index)

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """Writes and deletes in the given order; raises IndexChangedError when the index is not that of the handle.

        A large batch is several transactions. When the call raises or is cancelled, the first of them may have been
        done; sending the same batch again is right.
        """
        failures: dict[int, Failure] = {}
        position = 0
        while position < len(operations):
            written = await self._writer.run(
                writing.write_some, handle, operations, start=position, budget=self._budget, now=self._clock()
            )
            failures.update(written.failures)
            position = written.end
            self._adapt(written.seconds)
        return WriteResult(failures)

    def _adapt(self, seconds: float) -> None:
        """Sets the size of the next transaction by the time of the last one."""
        factor = min(max(TRANSACTION_SECONDS / max(seconds, 1e-6), 0.5), 1.5)
        low, high = _BUDGET_RANGE
        self._budget = min(max(round(self._budget * factor), low), high)

    async def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        """Yields the stamps of all documents that the connector wrote, in the order of their digests."""
        after = b""
        while True:
            page = await self._reader.run(reading.read_stamps, handle, after, reading.STAMP_PAGE)
            if page is None:
                return
            yield page
            after = reading.last_digest(page)

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Returns `(digest, _id)` of those of the connector's documents that have one of these digests."""
        return await self._reader.run(reading.find_ids, handle, digests)

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        """Returns `_id` → the document as JSON bytes, for those that are there."""
        return await self._reader.run(reading.fetch_documents, index, ids)

    async def count(self, index: str, connector_id: str | None = None) -> int:
        """Returns the number of documents, of one connector or of all; 0 where there is no index."""
        return await self._reader.run(reading.count_documents, index, connector_id)

    async def count_each(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        """Returns the number of documents for each index and connector."""
        return await self._reader.run(reading.count_each, wanted)

    async def purge(self, index: str, connector_id: str, *, guard: Callable[[], object] = unguarded) -> int:
        """Deletes all documents of the connector and returns their number. Raises what `guard` raises, which is called
        before each transaction."""
        total = 0
        while True:
            guard()
            count = await self._writer.run(writing.purge_some, index, connector_id, _DELETED_AT_ONCE, self._clock())
            total += count
            if count < _DELETED_AT_ONCE:
                return total

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        """Searches for people; see `connectors.backends.query_language`. Raises NotFoundError without such an index.

        `total` is exact up to 10,000 and stays there beyond. A hit's `source` has the first 300 characters of `body`.
        """
        return await self._searcher.run(search_index, index, query, limit, offset)

    async def indices(self) -> list[str]:
        """Returns the names of the indices that can be searched."""
        return await self._reader.run(reading.index_names)

    async def delete_index(self, index: str) -> bool:
        """Deletes an index with all its documents; False when there is none of that name."""
        if not await self._writer.run(writing.begin_deletion, index):
            return False
        await self._finish_deletions()
        return True

    async def _finish_deletions(self) -> None:
        while await self._writer.run(writing.delete_some, 4 * _DELETED_AT_ONCE):
            pass

    async def maintain(self) -> None:
        """Housekeeping, in short steps between other work; what is left over waits for the next call.

        Finishes deletions that were cut short, forgets tombstones, merges the full text, empties the write-ahead log
        and refreshes the statistics of the query planner.

        Raises:
            SuspendSync: the file was removed or replaced meanwhile.
        """
        await self._writer.run(Database.check_file)
        await self._finish_deletions()
        while await self._writer.run(upkeep.forget_tombstones, self._clock()):
            pass
        for index_pk in await self._reader.run(upkeep.index_keys):
            for _ in range(_MERGES):
                if not await self._writer.run(upkeep.merge_text, index_pk):
                    break
        await self._writer.run(upkeep.tidy)

    async def close(self) -> None:
        """Releases the threads, which end once the store is closed too; may be called twice."""
        await self._release()
