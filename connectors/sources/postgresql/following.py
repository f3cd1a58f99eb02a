"""Incremental syncs by change data capture: where they start, and what they yield."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from connectors.errors import RetryableError
from connectors.source import Checkpoint, IncrementalItem
from connectors.sources.postgresql.changes import Changes, KeyValues, by_keys
from connectors.sources.postgresql.faults import FullSyncNeededError
from connectors.sources.postgresql.link import Link
from connectors.sources.postgresql.log import Reached, follow, unfinished
from connectors.sources.postgresql.pgoutput import Commit, format_lsn, parse_lsn
from connectors.sources.postgresql.slot import Capture, Followable
from connectors.sources.relational import Dialect, Statement, statements
from connectors.sources.relational.reader import Reader
from connectors.sources.relational.selection import Work
from connectors.sources.relational.values import id_maker

__all__ = ["Follower", "Following"]

#: Rows that are read again by one statement, and after which there may be a checkpoint.
_BATCH: Final = 500
_LOOK_AGAIN: Final = 0.05  # seconds


@dataclass(frozen=True, slots=True)
class Following:
    """The settings.

    Attributes:
        max_held: bytes of the log that the slot may make the server keep.
        patience: seconds to wait for transactions of others.
    """

    publication: str
    slot: str
    max_held: int
    patience: float


class Follower:
    """Follows the changes of one connector's tables.

    Args:
        open_link: opens a connection that may write, or one that follows the log.
        ask: runs a statement with a small result.
    """

    def __init__(
        self,
        settings: Following,
        *,
        open_link: Callable[[bool], Awaitable[Link]],
        ask: Callable[[Statement], Awaitable[Sequence[Sequence[Any]]]],
        reader: Reader,
        dialect: Dialect,
        logger: Any,
    ) -> None:
        self._settings = settings
        self._open_link = open_link
        self._ask = ask
        self._reader = reader
        self._dialect = dialect
        self._logger = logger
        self._warned = False

    async def check(self) -> None:
        """Raises ConfigurationError when the server cannot tell of its changes."""
        async with self._capture() as capture:
            await self._check_server(capture)

    async def forget(self) -> None:
        """Drops the slot, and the publication if nothing else can be following it."""
        async with self._capture() as capture:
            await capture.forget()

    async def fix_position(self, works: Collection[Work]) -> dict[str, Any]:
        """Makes the publication and the slot, if need be; returns the position at which the log is read on.

        Everything that is committed behind the position will be told; what the position is before, and the full sync
        reads anyway, is read once more.
        """
        async with self._capture() as capture:
            await self._check_server(capture)
            known = await capture.followable({work.space for work in works})
            followed = [work for work in works if _follows(work, known)]
            self._report_still([work for work in works if not _follows(work, known)])
            await capture.publish([work.table.name for work in followed if work.table is not None])
            slot, position = await capture.ready_slot()
            capture.report(slot)
        tables = {work.label: _entry(work, known) for work in followed}
        return {"slot": self._settings.slot, "lsn": format_lsn(position), "followed": tables}

    async def changes(self, cursor: Any, works: Collection[Work]) -> AsyncGenerator[IncrementalItem, None]:
        """Yields what changed since the cursor, as the rows are now, and a checkpoint after each batch.

        Raises:
            FullSyncNeededError: the log cannot be read on from there, or does not say which rows.
        """
        if not isinstance(cursor, Mapping) or "lsn" not in cursor:
            raise FullSyncNeededError("the last full sync did not follow changes yet")
        start = parse_lsn(cursor["lsn"])
        async with self._capture() as capture:
            await self._check_server(capture)
            by_oid = await self._check(capture, cursor, start, works)
            target = await capture.position()
        changes = Changes(by_oid)
        link = await self._open_link(True)
        try:
            names = {"slot": self._settings.slot, "publication": self._settings.publication}
            async with aclosing(follow(link, start=start, target=target, **names)) as messages:
                reached, told = start, False
                async for message in messages:
                    if isinstance(message, Reached):
                        reached = message.lsn
                        break
                    changes.add(message)
                    if changes.pending >= _BATCH or (told and isinstance(message, Commit)):
                        async with aclosing(self._rows(changes)) as items:
                            async for item in items:
                                yield item
                        told = True
                    if told and isinstance(message, Commit):
                        yield Checkpoint({**cursor, "lsn": format_lsn(message.end_lsn)})
                        told = False
        finally:
            await link.close()
        async with aclosing(self._rows(changes)) as items:
            async for item in items:
                yield item
        yield Checkpoint({**cursor, "lsn": format_lsn(max(reached, changes.done))})

    async def _check_server(self, capture: Capture) -> None:
        if not await capture.check() and not self._warned:
            self._warned = True  # once is enough
            self._logger.warning(
                "the server's max_slot_wal_keep_size is -1: while no sync runs, the slot %s can fill its disk; set it "
                "to what the disk can spare, such as 20GB",
                self._settings.slot,
            )

    @asynccontextmanager
    async def _capture(self) -> AsyncIterator[Capture]:
        link, settings = await self._open_link(False), self._settings
        try:
            yield Capture(
                link,
                publication=settings.publication,
                slot=settings.slot,
                max_held=settings.max_held,
                patience=settings.patience,
                logger=self._logger,
            )
        finally:
            await link.close()

    async def _check(
        self, capture: Capture, cursor: Mapping[str, Any], start: int, works: Collection[Work]
    ) -> dict[int, Work]:
        """Returns the followed tables by their number; raises FullSyncNeededError when changes may have been missed."""
        slot = await capture.slot()
        name = self._settings.slot
        if slot is None or cursor.get("slot") != name:
            raise FullSyncNeededError(f'the slot "{name}" is not there, or is not the one that the last sync used')
        if slot.confirmed > start:
            raise FullSyncNeededError(
                f'somebody else moved the slot "{name}" on to {format_lsn(slot.confirmed)}, past {format_lsn(start)} '
                "(each connector needs a slot of its own)"
            )
        capture.report(slot)
        followed: Mapping[str, Any] = cursor["followed"]
        here = {work.label: work for work in works}
        known = await capture.followable({work.space for work in works})
        published = await capture.published()
        by_oid: dict[int, Work] = {}
        for label, entry in followed.items():
            work = here.get(label)
            if work is None or work.table is None:
                continue  # it is not synced any more, or gone: the next full sync settles that
            if (
                not _follows(work, known)
                or _entry(work, known)["oid"] != entry["oid"]
                or list(work.key) != entry["key"]
            ):
                raise FullSyncNeededError(f"{work.title} was made anew, or has another key or REPLICA IDENTITY")
            if published is None or work.table.name not in published:
                raise FullSyncNeededError(f"{work.title} was taken out of the publication {self._settings.publication}")
            if _entry(work, known)["columns"] != entry["columns"]:
                self._logger.warning(
                    "%s has other columns than at the last full sync: rows that do not change get them by the next one",
                    work.title,
                )
            by_oid[entry["oid"]] = work
        self._report_still([work for label, work in here.items() if label not in followed])
        return by_oid

    def _report_still(self, works: Collection[Work]) -> None:
        if works:
            titles = [work.label for work in works]
            self._logger.info(
                "%d tables cannot be followed and wait for full syncs (views, new tables, tables without a primary key "
                "or REPLICA IDENTITY): %s",
                len(titles), ", ".join(titles[:5]) + (", …" if len(titles) > 5 else ""),
            )  # fmt: skip

    async def _rows(self, changes: Changes) -> AsyncGenerator[IncrementalItem, None]:
        """Reads the rows that changed; those that are not there any more are deletions."""
        await self._until_visible(set(changes.xids))
        for oid, keys in changes.take().items():
            work = changes.works[oid]
            for batch in _batches(keys):
                missing = {id_maker(work.prefix, range(len(key)))(key): None for key in batch}
                async with aclosing(self._reader.read(work, self._statement(work, batch))) as pages:
                    async for page in pages:
                        for document in page.documents:
                            missing.pop(document["_id"], None)
                            yield document, None, "index"
                for document_id in missing:
                    yield {"_id": document_id}, None, "delete"

    def _statement(self, work: Work, keys: Sequence[KeyValues]) -> Statement:
        assert work.table is not None  # noqa: S101 - only tables are followed
        select = statements.whole(self._dialect, work.table).sql
        return by_keys(select, [self._dialect.quote(name) for name in work.key], keys)

    async def _until_visible(self, xids: set[int]) -> None:
        """Waits until a new statement sees what these transactions did."""
        if not xids:
            return
        snapshot = Statement("SELECT pg_current_snapshot()::text")
        try:
            async with asyncio.timeout(self._settings.patience):
                while unfinished(xids, str((await self._ask(snapshot))[0][0])):  # noqa: ASYNC110 - the server tells nobody
                    await asyncio.sleep(_LOOK_AGAIN)
        except TimeoutError:
            raise RetryableError(
                "the log has transactions whose effects are not visible yet: does a synchronous standby not answer?"
            ) from None


def _follows(work: Work, known: Mapping[Any, Followable]) -> bool:
    """Says whether the log identifies the table's rows by the key that makes their ids."""
    table = work.table
    found = known.get(table.name) if table is not None else None
    if table is None or found is None:
        return False
    columns = [table.column(name) for name in work.key]
    never_null = all(column is not None and not column.nullable for column in columns)
    return never_null and (found.identity is None or set(work.key) <= found.identity)


def _entry(work: Work, known: Mapping[Any, Followable]) -> dict[str, Any]:
    """Returns what the cursor keeps of a followed table."""
    assert work.table is not None  # noqa: S101 - only tables are followed
    columns = [column.name for column in work.table.columns]
    return {"oid": known[work.table.name].oid, "key": list(work.key), "columns": columns}


def _batches(keys: Sequence[KeyValues]) -> Iterator[Sequence[KeyValues]]:
    for at in range(0, len(keys), _BATCH):
        yield keys[at : at + _BATCH]
