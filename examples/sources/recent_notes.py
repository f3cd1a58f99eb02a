"""The same notes, with incremental syncs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from notes import NotesDataSource

from connectors.source import Checkpoint, Filter, IncrementalItem, Skipped, SourceItem

__all__ = ["RecentNotesDataSource"]

# What is five minutes old is read again: a row gets its time when it is written, and is seen when it is committed.
RECENT = "SELECT id, changed, title, locked FROM notes WHERE changed >= datetime(?, '-5 minutes') ORDER BY changed"


class RecentNotesDataSource(NotesDataSource):
    """Finds new and changed notes by `changed`, a time in UTC such as `2026-05-31 12:00:00`."""

    service_type = "recent_notes"
    incremental_sync_enabled = True

    _cursor: str | None = None

    async def get_docs(self, filtering: Filter | None = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        """Yields all notes. The position is fixed before the first read, and travels with the checkpoints."""
        start, last = checkpoint or (await self._newest(), None)
        async for item in super().get_docs(filtering, checkpoint=last):
            yield Checkpoint([start, item.state]) if isinstance(item, Checkpoint) else item
        self._cursor = start

    async def get_docs_incrementally(
        self,
        sync_cursor: Any,
        filtering: Filter | None = None,  # noqa: ARG002 - advanced rules, of which this source has none
    ) -> AsyncIterator[IncrementalItem]:
        """Yields what changed since the cursor; notes that were deleted are found by the next full sync."""
        newest = await self._newest()
        for note in await self._query(RECENT, sync_cursor):
            item = self._item(note)
            if isinstance(item, Skipped | Checkpoint):
                yield item
            else:
                yield *item, "index"
        self._cursor = newest

    def sync_cursor(self) -> str | None:
        """Returns the position that the last reading fixed; the framework asks when the sync completed."""
        return self._cursor

    async def _newest(self) -> str:
        rows = await self._query("SELECT coalesce(max(changed), '1970-01-01') FROM notes")
        return str(rows[0][0])
