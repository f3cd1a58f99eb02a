"""The PostgreSQL source itself."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from connectors.errors import ConfigurationError, ConnectorsError, SyncError
from connectors.source import Checkpoint, IncrementalItem, SourceItem
from connectors.sources.postgresql.dialect import PostgreSQLDialect, parameter
from connectors.sources.relational import RelationalDataSource, Row, Session, Statement, Table
from connectors.sources.relational.selection import Work
from connectors.sources.relational.settings import common_fields, tls_fields

if TYPE_CHECKING:
    from connectors.sources.postgresql.catalogue import Types
    from connectors.sources.postgresql.following import Follower
    from connectors.sources.postgresql.link import Link

__all__ = ["PostgreSQLDataSource"]

#: 13, the first with `publish_via_partition_root`, `wal_status` and `pg_current_snapshot`.
_OLDEST: Final = 130000
_SLOT_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
_MEGABYTE: Final = 1_000_000
# The same as long as no transaction that wrote something has ended, in any database of the server.
_LOG_POSITION: Final = "SELECT pg_postmaster_start_time()::text, pg_current_snapshot()::text"


class PostgreSQLDataSource(RelationalDataSource):
    """Tables and views of PostgreSQL, or the results of queries."""

    name = "PostgreSQL"
    service_type = "postgresql"
    dialect = PostgreSQLDialect()

    _by_rules = False
    #: Whether the last full sync read only what changes by transactions: no views, no queries.
    _tells_changes = False

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields of the connection, those of all relational sources, then those of change data capture."""
        only_capture = [{"field": "change_data_capture", "value": True}]
        optional: dict[str, Any] = {"type": "str", "value": "", "required": False}
        own: dict[str, dict[str, Any]] = {
            "host": {"label": "Host", "type": "str", "value": "", "tooltip": "Or the folder of the server's socket."},
            "port": {"label": "Port", "type": "int", "value": 5432},
            "user": {"label": "User", "type": "str", "value": ""},
            "password": {"label": "Password", "sensitive": True, **optional},
            "database": {"label": "Database", "type": "str", "value": ""},
            "schema": {
                "label": "Schemas", "type": "list", "value": None, "default_value": ["public"], "required": False,
                "tooltip": "One, or several.",
            },
            **tls_fields(),
        }  # fmt: skip
        capture: dict[str, dict[str, Any]] = {
            "change_data_capture": {
                "label": "Follow changes", "type": "bool", "value": False,
                "tooltip": "Incremental syncs read inserts, updates and deletes out of the server's log.",
            },
            "publication": {
                "label": "Publication", "type": "str", "value": None, "default_value": "connectors",
                "required": False, "depends_on": only_capture, "tooltip": "Made if it is not there.",
            },
            "slot": {
                "label": "Replication slot", "depends_on": only_capture, **optional,
                "tooltip": "This connector's own; made if it is not there. Without a name it gets one.",
            },
            "max_slot_lag": {
                "label": "Log that the slot may hold", "type": "int", "value": None, "default_value": 10_000,
                "required": False, "depends_on": only_capture,
                "tooltip": "Megabytes. A full sync drops a slot that holds more, and makes it anew.",
                "validations": [{"type": "greater_than", "constraint": 0}],
            },
        }  # fmt: skip
        fields = {**own, **common_fields(len(own) + 1), **capture}
        for order, declaration in enumerate(fields.values(), 1):
            declaration["order"] = order
        return fields

    # Configuration

    def spaces(self) -> list[str]:
        """Returns the configured schemas."""
        return [str(name).strip() for name in self.configuration["schema"] if str(name).strip()]

    async def validate_config(self) -> None:
        """Raises ConfigurationError for what is wrong with the fields."""
        await super().validate_config()
        slot = self.configuration["slot"].strip()
        if slot and not _SLOT_NAME.fullmatch(slot):
            raise ConfigurationError(
                f'slot: "{slot}" is no name of a slot: write small letters, digits and underscores', field="slot"
            )
        await asyncio.to_thread(self._tls)

    async def ping(self) -> None:
        """Connects, and looks whether the schemas are there and whether changes can be followed."""
        async with self.pool.lease() as session:
            rows = await self.ask(session, Statement("SELECT nspname FROM pg_namespace"), "ping")
        missing = set(self.spaces()) - {row[0] for row in rows}
        if missing:
            raise ConfigurationError(
                f'schema: there is no schema "{min(missing)}" in the database {self.configuration["database"]}',
                field="schema",
            )
        if self._follows_changes:
            await self._follower.check()

    async def forget(self) -> None:
        """Drops the slot and the publication, also of a connector that follows changes no more.

        Raises SyncError when the slot may be there still.
        """
        try:
            await self._follower.forget()
        except ConnectorsError as error:
            raise SyncError(
                f'{error}; if the server has the slot "{self._slot}", it keeps its log for it until somebody runs '
                f"SELECT pg_drop_replication_slot('{self._slot}')"
            ) from error

    @property
    def _follows_changes(self) -> bool:
        return bool(self.configuration["change_data_capture"])

    def _tls(self) -> dict[str, str]:
        """Returns libpq's parameters. Blocks on the files."""
        settings = self.configuration
        if not settings["ssl_enabled"]:
            return {"sslmode": "prefer"}
        parameters = {"sslmode": "require", "sslrootcert": ""}
        files = {"ssl_ca": "sslrootcert", "ssl_certificate": "sslcert", "ssl_key": "sslkey"}
        for field, name in files.items():
            given = settings[field].strip()
            if given:
                path = self.framework_config.base_dir / Path(given).expanduser()
                try:
                    path.read_bytes()
                except OSError as error:
                    raise ConfigurationError(f"{field}: {path} cannot be read: {error.strerror}", field=field) from None
                parameters[name] = str(path)
        if settings["ssl_verify"]:
            parameters["sslmode"] = "verify-full"
            parameters["sslrootcert"] = parameters["sslrootcert"] or "system"
        else:
            del parameters["sslrootcert"]  # with it, libpq would check the certificate
        return parameters

    # Connections

    async def open_session(self) -> Session:
        """Returns a new connection that reads."""
        _need_driver()
        from connectors.sources.postgresql.session import PostgreSQLSession

        return PostgreSQLSession(await self._open_link(), self._types)

    async def _open_link(self, *, read_only: bool = True, replication: bool = False) -> Link:
        from connectors.sources.postgresql.faults import translated
        from connectors.sources.postgresql.link import Link
        from connectors.sources.postgresql.log import LOG_SETTINGS

        settings = self.configuration
        parameters = {
            "host": settings["host"],
            "port": str(settings["port"]),
            "user": settings["user"],
            "password": settings["password"],
            "dbname": settings["database"],
            "application_name": "connectors",
            **await asyncio.to_thread(self._tls),
        }
        with translated("connecting to PostgreSQL"):
            link = await Link.open(
                {key: value for key, value in parameters.items() if value},
                read_only=read_only,
                replication=replication,
                settings=LOG_SETTINGS if replication else None,
                # Streams of rows are timed by their reader.
                patience=None if read_only and not replication else settings["query_timeout"],
            )
        if link.server_version < _OLDEST:
            version = link.server_version // 10_000
            await link.close()
            raise ConfigurationError(f"this server is PostgreSQL {version}; 13 or later is needed", field="host")
        return link

    async def read_catalogue(self, session: Session) -> list[Table]:
        """Returns the tables, views, materialised views and foreign tables of the configured schemas."""
        from connectors.sources.postgresql.catalogue import read_tables
        from connectors.sources.postgresql.faults import translated

        with translated("the catalogue"):
            return await read_tables(_link(session), self._types, self.spaces())

    @cached_property
    def _types(self) -> Types:
        from connectors.sources.postgresql.catalogue import Types

        return Types()

    # What changed

    async def log_position(self, session: Session) -> Any:
        """Returns what is the same for as long as no transaction that wrote something has ended on the server."""
        rows = await self.ask(session, Statement(_LOG_POSITION), "the server's position")
        return list(rows[0])

    async def changed(self) -> bool:
        """Compares it with that before this object's last full sync; views and queries may change by themselves."""
        return not self._tells_changes or await super().changed()

    async def fix_position(self, session: Session, tables: Sequence[Table]) -> Any:
        """Returns where the next incremental sync starts: in the log, or in the columns that grow."""
        self._tells_changes = not self._by_rules and not any(table.is_view for table in tables)
        if not self._follows_changes:
            await self._warn_of_slot(session)
        if not self._follows_changes or self._by_rules:
            return await super().fix_position(session, tables)
        read = {table.name for table in tables}  # one that was born since must not be followed before it was read
        works = self._works(None, await self.read_catalogue(session))
        return await self._follower.fix_position(
            [work for work in works if isinstance(work, Work) and work.table is not None and work.table.name in read]
        )

    async def _warn_of_slot(self, session: Session) -> None:
        """A slot that nobody reads any more fills the server's disk, and nobody else would say so."""
        slots = Statement(f"SELECT FROM pg_replication_slots WHERE slot_name = {parameter(1)}", (self._slot,))
        if await self.ask(session, slots, "the server's slots"):
            self.logger.warning(
                "change_data_capture is off, and its slot %s still makes the server keep its log: drop it (SELECT "
                "pg_drop_replication_slot('%s'); so does connectors purge)",
                self._slot,
                self._slot,
            )

    def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the rows of one table or query after the other; see the base class."""
        self._by_rules = _has_rules(filtering)
        self._tells_changes = False
        return super().get_docs(filtering, checkpoint=checkpoint, partition=partition)

    async def partitions(self, filtering: Any = None) -> list[Any]:
        """Returns ranges of keys; see the base class."""
        self._by_rules = _has_rules(filtering)
        self._tells_changes = False
        return await super().partitions(filtering)

    async def get_docs_incrementally(
        self, sync_cursor: Any, filtering: Any = None
    ) -> AsyncGenerator[IncrementalItem, None]:
        """Yields what the log says, or what may have grown since the cursor."""
        if not self._follows_changes or _has_rules(filtering):
            self._by_rules = True  # for `fix_position`: by the columns that grow
            async with aclosing(super().get_docs_incrementally(sync_cursor, filtering)) as items:
                async for item in items:
                    yield item
            return
        async with self.pool.lease() as session:
            log = await self.log_position(session)
            works = self._works(None, await self.read_catalogue(session))
        tables = [work for work in works if isinstance(work, Work)]
        async with aclosing(self._follower.changes(sync_cursor, tables)) as changes:
            async for item in changes:
                if isinstance(item, Checkpoint):
                    self._cursor = item.state
                yield item
        self._seen = log if self._seen is not None else None

    @cached_property
    def _follower(self) -> Follower:
        _need_driver()
        from connectors.sources.postgresql.following import Follower, Following

        settings = self.configuration
        return Follower(
            Following(
                publication=settings["publication"].strip(),
                slot=self._slot,
                max_held=settings["max_slot_lag"] * _MEGABYTE,
                patience=settings["query_timeout"],
            ),
            open_link=lambda replication: self._open_link(read_only=False, replication=replication),
            ask=self._ask_anew,
            reader=self._reader,
            dialect=self.dialect,
            logger=self.logger,
        )

    async def _ask_anew(self, statement: Statement) -> list[Row]:
        async with self.pool.lease() as session:
            return await self.ask(session, statement, "the server's state")

    @property
    def _slot(self) -> str:
        """The slot's name: the one that was written, or one that is the same as long as the tables are."""
        settings = self.configuration
        if given := settings["slot"].strip():
            return str(given)
        what = [settings["database"], *self.spaces(), *map(str, settings["tables"]), settings["publication"]]
        return f"connectors_{hashlib.blake2b(chr(0).join(what).encode(), digest_size=6).hexdigest()}"


def _need_driver() -> None:
    try:
        import psycopg  # noqa: F401 - looked for, since what needs it is imported next
    except ImportError as error:  # ImportError: psycopg is there, and libpq is not
        raise ConfigurationError(
            f"the driver of PostgreSQL is not installed ({error}): pip install 'connectors[postgresql]'"
        ) from error


def _link(session: Session) -> Link:
    from connectors.sources.postgresql.session import PostgreSQLSession

    assert isinstance(session, PostgreSQLSession)  # noqa: S101 - it is what open_session made
    return session.link


def _has_rules(filtering: Any) -> bool:
    return filtering is not None and filtering.has_advanced_rules()
