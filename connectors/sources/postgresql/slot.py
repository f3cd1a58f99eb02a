"""The publication and the replication slot by which changes are followed: making, checking and watching them.

A slot makes the server keep its log from the slot's position on, whoever reads it or not. So what it holds is told in
every sync, a slot that holds too much is given up, and the server's own limit is asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg

from connectors.errors import ConfigurationError, RetryableError
from connectors.sources.postgresql.dialect import parameter, quoted
from connectors.sources.postgresql.faults import FullSyncNeededError, translated
from connectors.sources.postgresql.link import Link
from connectors.sources.postgresql.pgoutput import parse_lsn
from connectors.sources.relational import TableDeniedError, TableName
from connectors.utils import format_size

__all__ = ["Capture", "Followable", "Slot", "while_in_use"]

T = TypeVar("T")

_LOOK_AGAIN: Final = 0.2  # seconds
_TRIES_IN_USE: Final = 20
#: How long a full sync waits for the transactions of others.
_WRITERS_SECONDS: Final = 10.0
_SLOT: Final = """
SELECT confirmed_flush_lsn, plugin, database = current_database(), wal_status,
  pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = {name}
"""
_SERVER: Final = """
SELECT current_setting('wal_level'), pg_is_in_recovery(), current_setting('max_slot_wal_keep_size', true)
"""
_PUBLICATION: Final = "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate FROM pg_publication"
_PUBLISHED: Final = "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = {name}"
_OWN_SLOT: Final = """
SELECT FROM pg_replication_slots WHERE slot_name = {name} AND plugin = 'pgoutput' AND database = current_database()
"""
_LONELY_PUBLICATION: Final = """
SELECT FROM pg_publication WHERE pubname = {name} AND pg_get_userbyid(pubowner) = current_user
AND NOT EXISTS (SELECT FROM pg_replication_slots WHERE plugin = 'pgoutput' AND database = current_database())
"""
# `columns` are those that the log holds of a row that was deleted; None is all of them (REPLICA IDENTITY FULL).
_FOLLOWABLE: Final = """
SELECT n.nspname, c.relname, c.oid, c.relpersistence, c.relreplident = 'f', (
  SELECT array_to_string(array_agg(a.attname), chr(1)) FROM pg_index i
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
  WHERE i.indrelid = c.oid AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = ANY (string_to_array({schemas}, chr(1)))
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """A replication slot.

    Attributes:
        confirmed: what stands before it in the log will not be told again.
        held: bytes of the log that the server keeps for it.
    """

    confirmed: int
    held: int


@dataclass(frozen=True, slots=True)
class Followable:
    """A table as the log sees it: its number, and the columns that identify a deleted row; None is all columns."""

    oid: int
    identity: frozenset[str] | None


async def while_in_use(call: Callable[[], Awaitable[T]]) -> T:
    """Tries again for a few seconds while the slot is in use: a reader that has just left is noticed a little later."""
    for _ in range(_TRIES_IN_USE):
        with suppress(psycopg.errors.ObjectInUse):
            return await call()
        await asyncio.sleep(_LOOK_AGAIN)
    return await call()


class Capture:
    """One connector's publication and slot, through a connection that may write.

    Args:
        max_held: bytes of the log that the slot may make the server keep.
        patience: seconds to wait for transactions that were begun before.
    """

    def __init__(self, link: Link, *, publication: str, slot: str, max_held: int, patience: float, logger: Any) -> None:
        self._link = link
        self._publication = publication
        self._slot = slot
        self._max_held = max_held
        self._patience = patience
        self._logger = logger

    async def check(self) -> bool:
        """Returns whether the server limits how much of its log slots may hold.

        Raises ConfigurationError when it cannot tell of its changes.
        """
        ((level, standby, limit),) = await self._rows(_SERVER)
        if standby == "t":
            raise ConfigurationError(
                "change_data_capture: this server is a standby: name the primary, or set change_data_capture to false",
                field="change_data_capture",
            )
        if level != "logical":
            raise ConfigurationError(
                f"change_data_capture: the server's wal_level is {level}: set wal_level = logical in postgresql.conf "
                "and restart it, or set change_data_capture to false",
                field="change_data_capture",
            )
        return limit not in {"-1", None}

    # The publication

    async def followable(self, schemas: Collection[str]) -> dict[TableName, Followable]:
        """Returns the tables whose changes the log can tell so that each row is known by its key.

        To publish another one would make the server refuse its updates and deletes, so that is never done.
        """
        found = {}
        for schema, name, oid, persistence, full, columns in await self._rows(
            _FOLLOWABLE, "schemas", "\1".join(schemas)
        ):
            if persistence == "p" and (full == "t" or columns):
                identity = None if full == "t" else frozenset(columns.split("\1"))
                found[TableName(schema, name)] = Followable(int(oid), identity)
        return found

    async def published(self) -> set[TableName] | None:
        """Returns the tables that the publication has; None when there is none."""
        if not await self._rows(f"{_PUBLICATION} WHERE pubname = {{name}}", "name", self._publication):
            return None
        rows = await self._rows(_PUBLISHED, "name", self._publication)
        return {TableName(schema, name) for schema, name in rows}

    async def publish(self, tables: Collection[TableName]) -> None:
        """Makes the publication, or adds tables to it; waits then for the transactions that do not know it yet.

        Raises:
            ConfigurationError: the user may not; the message has the SQL for somebody who may.
            RetryableError: such a transaction does not end.
        """
        there = await self.published()
        missing = sorted(tables if there is None else set(tables) - there)
        if there is not None:
            await self._check_operations()
        if there is not None and not missing:
            return
        listed = ", ".join(f"{quoted(table.space)}.{quoted(table.name)}" for table in missing)
        name = quoted(self._publication)
        if there is None:
            sql = f"CREATE PUBLICATION {name}" + (f" FOR TABLE {listed}" if listed else "")
            sql += " WITH (publish_via_partition_root = true)"
        else:
            sql = f"ALTER PUBLICATION {name} ADD TABLE {listed}"
        try:
            with translated(f"the publication {self._publication}"):
                await self._link.fetch(sql)
        except TableDeniedError as error:
            raise ConfigurationError(
                f"{error}: have the owner of the tables run: {sql}", field="publication"
            ) from error
        except ConfigurationError as error:
            if not isinstance(error.__cause__, psycopg.errors.DuplicateObject):
                raise
            raise ConfigurationError(
                f"the publication {self._publication} shows the partitions of {listed}: run ALTER PUBLICATION {name} "
                "SET (publish_via_partition_root = true)",
                field="publication",
            ) from error
        self._logger.info("the publication %s has %d more tables", self._publication, len(missing))
        # A new publication is made before its slot, which waits for them itself.
        if there is not None and not await self._writers_ended(self._patience):
            raise RetryableError(
                f"transactions that were open when the publication {self._publication} changed do not end; look for "
                "old ones in pg_stat_activity (xact_start)"
            )

    async def _check_operations(self) -> None:
        rows = await self._rows(f"{_PUBLICATION} WHERE pubname = {{name}}", "name", self._publication)
        if rows and rows[0][1] != "t":
            raise ConfigurationError(
                f"the publication {self._publication} does not publish all changes: run ALTER PUBLICATION "
                f"{quoted(self._publication)} SET (publish = 'insert, update, delete, truncate')",
                field="publication",
            )

    async def _writers_ended(self, seconds: float) -> bool:
        """Waits until all transactions that are open now, and have written, have ended; returns whether they have."""
        ((until,),) = await self._rows("SELECT pg_snapshot_xmax(pg_current_snapshot())")
        done = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= {xmax}::xid8"
        ends = time.monotonic() + seconds
        while (await self._rows(done, "xmax", until))[0][0] != "t":
            if time.monotonic() >= ends:
                return False
            await asyncio.sleep(_LOOK_AGAIN)
        return True

    # The slot

    async def slot(self) -> Slot | None:
        """Returns the slot, None when there is none.

        Raises:
            ConfigurationError: the name is that of somebody else's slot.
            FullSyncNeededError: the server has given the slot up, for it held more of the log than the server allows.
        """
        rows = await self._rows(_SLOT, "name", self._slot)
        if not rows:
            return None
        confirmed, plugin, here, status, held = rows[0]
        if plugin != "pgoutput" or here != "t":
            raise ConfigurationError(
                f'slot: the slot "{self._slot}" belongs to something else (its plugin is {plugin}): write another name',
                field="slot",
            )
        if status == "lost" or confirmed is None or held is None:
            raise FullSyncNeededError(
                f'the server gave the slot "{self._slot}" up, since it held more of the log than '
                "max_slot_wal_keep_size allows"
            )
        return Slot(parse_lsn(confirmed), int(held))

    async def ready_slot(self) -> tuple[Slot, int]:
        """Returns the slot for a full sync, and the position behind which changes have to be told afterwards.

        The slot is the one that is there, unless it is lost or holds too much, or a new one. Its own position is
        always right. The present is better, where old changes need not be told again, but only when everything that
        was committed before it can be seen: a commit stands in the log a moment before others see its effects.

        Raises:
            RetryableError: it cannot be made while old transactions are open.
        """
        try:
            slot = await self.slot()
        except FullSyncNeededError as lost:
            self._logger.warning("%s", lost)
            await self.drop()
            slot = None
        if slot is not None and self._too_much(slot):
            self._logger.warning(
                "the slot %s made the server keep %s of its log, more than max_slot_lag: it is dropped and made anew; "
                "schedule incremental syncs, which move it on",
                self._slot, format_size(slot.held),
            )  # fmt: skip
            await self.drop()
            slot = None
        if slot is not None:
            present = await self.position()
            return slot, present if await self._writers_ended(_WRITERS_SECONDS) else slot.confirmed
        await self._create()
        slot = await self.slot()
        if slot is None:
            raise RetryableError(f'the slot "{self._slot}" was dropped as soon as it was made')
        return slot, slot.confirmed

    def report(self, slot: Slot) -> None:
        """Says in the log how much the slot holds; warns when that is much."""
        if self._too_much(slot):
            self._logger.warning(
                "the slot %s makes the server keep %s of its log, more than max_slot_lag: run incremental syncs more "
                "often, or turn change_data_capture off and drop it (SELECT pg_drop_replication_slot('%s'))",
                self._slot, format_size(slot.held), self._slot,
            )  # fmt: skip
        else:
            level = self._logger.warning if slot.held * 2 > self._max_held else self._logger.info
            level("the slot %s makes the server keep %s of its log", self._slot, format_size(slot.held))

    def _too_much(self, slot: Slot) -> bool:
        return slot.held > self._max_held

    async def drop(self) -> None:
        """Drops the slot. Raises RetryableError while something reads it."""
        with translated(f'dropping the slot "{self._slot}"'):
            sql = f"SELECT pg_drop_replication_slot({parameter(1)})"
            await while_in_use(lambda: self._link.fetch(sql, [self._slot]))

    async def forget(self) -> None:
        """Drops the slot, and the publication if it is this user's own and nothing else can be following it."""
        if await self._rows(_OWN_SLOT, "name", self._slot):
            await self.drop()
        if await self._rows(_LONELY_PUBLICATION, "name", self._publication):
            with translated(f"dropping the publication {self._publication}"):
                await self._link.fetch(f"DROP PUBLICATION {quoted(self._publication)}")

    async def _create(self) -> None:
        sql = f"SELECT pg_create_logical_replication_slot({parameter(1)}, 'pgoutput')"
        try:
            with translated(f'making the slot "{self._slot}"'):
                await self._link.command(f"SET statement_timeout = '{self._patience:g}s'")
                await self._link.fetch(sql, [self._slot])
                await self._link.command("SET statement_timeout TO DEFAULT")
        except TableDeniedError as error:
            raise ConfigurationError(
                f"{error} (ALTER ROLE … REPLICATION; on Amazon RDS: GRANT rds_replication)", field="username"
            ) from error
        except RetryableError as error:
            if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
                raise RetryableError(
                    f'the slot "{self._slot}" was not made within {self._patience:g} s: it waits for transactions that '
                    "were open before; look for old ones in pg_stat_activity (xact_start)"
                ) from error
            raise
        self._logger.info('made the slot "%s", by which changes are followed', self._slot)

    async def position(self) -> int:
        """Returns how far the server's log is on disk."""
        ((lsn,),) = await self._rows("SELECT pg_current_wal_flush_lsn()")
        return parse_lsn(lsn)

    async def _rows(self, sql: str, name: str = "", value: str = "") -> list[tuple[Any, ...]]:
        given = {name: parameter(1)} if name else {}
        with translated("PostgreSQL"):
            return list(await self._link.fetch(sql.format(**given), [value] if name else []))
