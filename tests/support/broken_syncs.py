"""Sources that break rules about stopping, about changes, and about whole syncs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from connectors.source import Checkpoint, Document, RetryableError, SourceItem
from connectors.testing.shelf import Connection, Row, ShelfDataSource
from tests.support.broken import Registry

__all__ = ["BROKEN"]

BROKEN = Registry()
breaks = BROKEN.breaks


# Stopping in the middle

RESUMING = (
    "test_it_goes_on_behind_each_checkpoint",
    "test_it_goes_on_after_each_of_many_stops",
    "test_a_sync_that_stops_goes_on",
)


@breaks(*RESUMING, "test_the_position_survives_a_stop", found="it lost 1 documents: 4")
class LosesOne(ShelfDataSource):
    def state(self, start: int, last: int) -> Any:
        return [start, last + 1 if last == 3 else last]


@breaks(*RESUMING[:2], found="it yielded 13 documents, where the whole has 12")
class RepeatsOne(ShelfDataSource):
    def state(self, start: int, last: int) -> Any:
        return [start, last - 1]


@breaks("test_it_goes_on_after_each_of_many_stops", found="stopped at each checkpoint, it lost")
class CountsFromZeroAgain(ShelfDataSource):
    """Its checkpoints are right as long as it was not stopped before."""

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        async for item in super().get_docs(filtering, checkpoint=checkpoint):
            later = isinstance(item, Checkpoint) and checkpoint is not None
            yield Checkpoint([item.state[0], item.state[1] + 1]) if later else item  # type: ignore[union-attr]  # it is one


class Reconnecting(ShelfDataSource):
    """Opens a connection for each reading by itself."""

    def release(self, connection: Connection, error: BaseException | None) -> None:
        connection.close()

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        other = self.connect()
        try:
            async for item in super().get_docs(filtering, checkpoint=checkpoint):
                yield item
        except BaseException as error:
            self.release(other, error)
            raise
        else:
            other.close()


@breaks(
    "test_closing_in_the_middle_releases_everything",
    "test_cancelling_in_the_middle_releases_everything",  # which may be between two items, where reading is closed
    found="1 connections, as the backend counts them",
)
class KeepsWhenClosed(Reconnecting):
    def release(self, connection: Connection, error: BaseException | None) -> None:
        if not isinstance(error, GeneratorExit):
            connection.close()


@breaks("test_cancelling_in_the_middle_releases_everything", found="1 connections, as the backend counts them")
class KeepsWhenCancelled(Reconnecting):
    def release(self, connection: Connection, error: BaseException | None) -> None:
        if not isinstance(error, asyncio.CancelledError):
            connection.close()


@breaks("test_cancelling_in_the_middle_releases_everything", found="it went on")
class SwallowsCancellation(ShelfDataSource):
    async def first_position(self, connection: Connection) -> int:
        try:
            return await super().first_position(connection)
        except asyncio.CancelledError:
            return 0


@breaks("test_close_releases_everything", found="1 connections")
class ClosesNothing(ShelfDataSource):
    async def close(self) -> None:
        """Forgets its connection."""


@breaks("test_close_releases_everything", found="the task .* of Event.wait")
class LeavesATask(ShelfDataSource):
    async def ping(self) -> None:
        await super().ping()
        self.task = asyncio.ensure_future(asyncio.Event().wait())


@breaks("test_close_releases_everything", found="unclosed file")
class ThrowsAFileAway(ShelfDataSource):
    async def ping(self) -> None:
        await super().ping()
        Path(sys.executable).open("rb")  # noqa: SIM115, ASYNC230 - that is what is wrong with it


@breaks("test_a_cut_connection_is_told", found="it ended without an error and without")
class EndsWhenCut(ShelfDataSource):
    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        try:
            async for item in super().get_docs(filtering, checkpoint=checkpoint):
                yield item
        except RetryableError:
            return


@breaks("test_a_cut_connection_is_told", found="it raised BrokenPipeError")
class RaisesWhatItGot(ShelfDataSource):
    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[SourceItem]:
        try:
            async for item in super().get_docs(filtering, checkpoint=checkpoint):
                yield item
        except RetryableError as error:
            raise BrokenPipeError from error


# What changed


@breaks("test_changed_is_true_before_a_whole_reading", found="changed\\(\\) was False before anything was read")
class IsNeverNew(ShelfDataSource):
    async def changed(self) -> bool:
        return self._read is not None and await super().changed()


@breaks("test_changed_misses_nothing", found='was False after change\\(\\) of the document "1"')
class CountsRows(ShelfDataSource):
    rows: int | None = None

    async def last_position(self, connection: Connection, start: int) -> int | None:
        self.rows = len(await connection.page(0, 1000))
        return await super().last_position(connection, start)

    async def changed(self) -> bool:
        return self._read is None or len(await (await self._reach()).page(0, 1000)) != self.rows


@breaks(
    "test_changed_tells_of_what_an_incremental_sync_left_out",
    found='"2" was deleted and an incremental reading did not yield that',
    incremental_sees_deletes=False,
)
class ForgetsDeletes(ShelfDataSource):
    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        async for item in super().get_docs_incrementally(sync_cursor, filtering):
            if not isinstance(item, tuple) or item[2] != "delete":
                yield item
        self._read = self._cursor


@breaks("test_the_cursor_can_be_stored", found="sync_cursor\\(\\) is None")
class HasNoCursor(ShelfDataSource):
    def sync_cursor(self) -> int | None:
        return None


MIRROR = (
    "test_incremental_readings_follow_the_source",
    "test_incremental_readings_go_on_behind_their_checkpoints",
    "test_nothing_written_during_a_full_reading_is_missed",
    "test_the_position_survives_a_stop",
    "test_incremental_syncs_follow_the_source",
)


@breaks(*MIRROR, found="and a full reading has")
class WritesOtherwise(ShelfDataSource):
    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        async for item in super().get_docs_incrementally(sync_cursor, filtering):
            yield ({**item[0], "incremental": True}, *item[1:]) if isinstance(item, tuple) else item


@breaks(*MIRROR[:2], MIRROR[4], found='the delete of "2" was missed')
class DeletesNothing(ShelfDataSource):
    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        async for item in super().get_docs_incrementally(sync_cursor, filtering):
            if not isinstance(item, tuple) or item[2] != "delete":
                yield item


@breaks(*MIRROR[2:4], found="when 1 items of a full reading were yielded")
class FixesThePositionLate(ShelfDataSource):
    async def last_position(self, connection: Connection, start: int) -> int | None:
        return await connection.position()


@breaks(MIRROR[3], found="and gone on after a change")
class ForgetsThePosition(ShelfDataSource):
    def state(self, start: int, last: int) -> Any:
        return [-1, last]

    async def last_position(self, connection: Connection, start: int) -> int | None:
        return await connection.position() if start < 0 else start


@breaks(MIRROR[1], found="going on behind")
class ChecksTooEarly(ShelfDataSource):
    async def get_docs_incrementally(self, sync_cursor: Any, filtering: Any = None) -> AsyncIterator[Any]:
        held: list[Any] = []
        async for item in super().get_docs_incrementally(sync_cursor, filtering):
            if isinstance(item, Checkpoint):
                yield item
                for each in held:
                    yield each
                held.clear()
            else:
                held.append(item)


# Whole syncs


@breaks(
    "test_a_sync_fills_the_index_and_the_next_writes_nothing",
    "test_syncs_follow_the_source",
    found="in the same object wrote 12",
)
class RemembersThatItFetched(ShelfDataSource):
    fetched = noted = False

    def document(self, row: Row) -> Document:
        return {**super().document(row), "fetched": self.noted}

    async def first_position(self, connection: Connection) -> int:
        self.noted = self.fetched
        return await super().first_position(connection)

    async def fetch(self, key: int, *, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any] | None:
        self.fetched = self.fetched or doit
        return await super().fetch(key, doit=doit)


@breaks("test_syncs_follow_the_source", MIRROR[4], found="let `_timestamp` change")
class KeepsItsTimestamps(ShelfDataSource):
    def document(self, row: Row) -> Document:
        return {**super().document(row), "_timestamp": 1}
