"""The source that those of relational databases derive from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import cached_property
from typing import Any, ClassVar, TypeVar

from connectors.errors import ConfigurationError, ConnectorsError
from connectors.filtering.validation import AdvancedRulesValidator
from connectors.source import BaseDataSource, Checkpoint, Discovered, IncrementalItem, Skipped, SourceItem
from connectors.sources.relational import statements
from connectors.sources.relational.dialect import Dialect, Session, SlowQueryError, TableGoneError
from connectors.sources.relational.growth import Growth
from connectors.sources.relational.model import Row, Statement, Table, TableName
from connectors.sources.relational.partitions import PARTITION_ROWS, Splitter
from connectors.sources.relational.pool import Pool
from connectors.sources.relational.reader import CHUNK_ROWS, Reader
from connectors.sources.relational.rules import QueryRulesValidator, RulesOnServerValidator, parse_rules
from connectors.sources.relational.selection import Unread, Work, rule_work, table_work
from connectors.sources.relational.settings import parse_id_columns
from connectors.sources.relational.throttle import Throttle
from connectors.sources.relational.values import decode_values, encode_values

__all__ = ["RelationalDataSource"]

T = TypeVar("T")


class RelationalDataSource(BaseDataSource):
    """Rows of tables, or of queries, as documents.

    A product's source has a `dialect`, a configuration with `settings.common_fields(...)`, and the methods of the first
    part below; those of the second part it may override.
    """

    advanced_rules_enabled = True
    incremental_sync_enabled = True
    resumable = True
    partitioned = True

    dialect: ClassVar[Dialect]
    #: Rows of one statement, see `reader`.
    chunk_rows: ClassVar[int] = CHUNK_ROWS
    #: Rows of one partition, at least; a table of fewer is not divided.
    partition_rows: ClassVar[int] = PARTITION_ROWS

    _cursor: Any = None
    _seen: Any = None
    _known: frozenset[str] = frozenset()

    # What a product implements

    def spaces(self) -> list[str]:
        """Returns the configured databases or schemas."""
        raise NotImplementedError

    async def open_session(self) -> Session:
        """Returns a new connection."""
        raise NotImplementedError

    async def read_catalogue(self, session: Session) -> list[Table]:
        """Returns every table and view of the configured spaces that the user may read."""
        raise NotImplementedError

    # What a product may override

    async def log_position(self, session: Session) -> Any:  # noqa: ARG002 - for those that override it
        """Returns the server's position in its log of changes, as JSON; None where it cannot tell cheaply."""
        return None

    async def fix_position(self, session: Session, tables: Sequence[Table]) -> Any:
        """Returns where the next incremental sync starts, as JSON; called before the first read.

        It travels in the checkpoints of a full sync, so that one that is resumed keeps the position that it began
        with, and comes back as the cursor of `get_docs_incrementally`.
        """
        if not self._growth.columns:
            return None
        position: dict[str, Any] = {}
        for table in tables:
            column = self._growth.column(table)
            if column is not None:
                try:
                    rows = await self.ask(session, statements.newest(self.dialect, table, column), f"{table.name}")
                except TableGoneError:
                    continue  # reading it says so
                position[str(table.name)] = self._growth.entry(column, rows[0][0])
        return {"tables": position}

    # Life

    @cached_property
    def pool(self) -> Pool:
        """The connections of this object."""
        settings = self.configuration
        return Pool(self.open_session, size=settings["pool_size"], lifetime=settings["connection_lifetime"])

    async def ask(self, session: Session, statement: Statement, title: str) -> list[Row]:
        """Runs a statement with a small result; raises SlowQueryError as reading does."""
        return await self._within(session.fetch(statement), title)

    async def _within(self, doing: Awaitable[T], title: str) -> T:
        try:
            async with asyncio.timeout(self.configuration["query_timeout"]):
                return await doing
        except TimeoutError:
            raise SlowQueryError(
                f"{title}: {self.dialect.product} did not answer for {self.configuration['query_timeout']} s; see "
                "whether a column lacks an index, or raise query_timeout"
            ) from None

    async def ping(self) -> None:
        """Connects, and looks for what the configuration names; raises ConfigurationError or RetryableError."""
        async with self.pool.lease() as session:
            tables = _tables(self._works(None, await self._within(self.read_catalogue(session), "the catalogue")))
        if tables and self._growth.columns and not any(map(self._growth.column, tables)):
            raise ConfigurationError(
                f"updated_column: none of the {len(tables)} tables has a column "
                f"{' or '.join(map(str, self._growth.columns))} with dates or numbers",
                field="updated_column",
            )

    async def validate_config(self) -> None:
        """Raises ConfigurationError for what is wrong with the fields; `ping` tries the server."""
        self.configuration.check_valid()
        parse_id_columns(self.configuration["id_columns"])
        if not self.spaces():
            word = self.dialect.space_word
            raise ConfigurationError(f"{word}: name the {word} to sync, or several", field=word)

    async def close(self) -> None:
        """Closes the connections."""
        await self.pool.close()

    async def changed(self) -> bool:
        """Compares the position in the server's log with that before this object's last complete full sync.

        An incremental sync does not see deletes, so what it read counts as a change until a full sync ran.
        """
        if self._seen is None:
            return True
        try:
            async with self.pool.lease() as session:
                position = await self._within(self.log_position(session), "the log's position")
        except ConnectorsError:
            return True  # the sync that follows says what is wrong
        return bool(position != self._seen)

    async def discover(self) -> list[Discovered]:
        """Lists the tables and views that the credentials give access to."""
        async with self.pool.lease() as session:
            catalogue = await self._within(self.read_catalogue(session), "the catalogue")
        return [
            Discovered(
                str(table.name),
                f"{'view' if table.is_view else 'table'} of {len(table.columns)} "
                f"column{'s' * (len(table.columns) > 1)}, "
                + (f"key {', '.join(table.keys[0].columns)}" if table.keys else "without a key: needs id_columns"),
                {"tables": [str(table.name)]},
            )
            for table in catalogue
        ]

    # Rules

    def advanced_rules_validators(self) -> Sequence[AdvancedRulesValidator]:
        """Returns the validator of the rules' form, and the one that asks the server."""
        shape = QueryRulesValidator(self.spaces(), backslash_escapes=self.dialect.backslash_escapes)
        return [shape, RulesOnServerValidator(self)]

    async def judge_rules(self, advanced_rules: Any) -> list[str]:
        """Returns what the server has against the rules; raises InvalidFilteringError when their form is wrong."""
        rules = parse_rules(advanced_rules, self.spaces(), backslash_escapes=self.dialect.backslash_escapes)
        problems = []
        async with self.pool.lease() as session:
            catalogue = await self._within(self.read_catalogue(session), "the catalogue")
        for rule in rules:
            try:
                await self._reader.try_query(rule_work(rule, catalogue, self.dialect.space_word))
            except (ConfigurationError, TableGoneError) as error:
                text = str(error)
                problems.append(text if text.startswith(rule.title) else f"{rule.title}: {text}")
        return problems

    # Full syncs

    async def get_docs(
        self,
        filtering: Any = None,  # a connectors.byoc.Filter, which sources do not import
        *,
        checkpoint: Any = None,
        partition: Any = None,
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the rows of one table or query after the other, with a checkpoint after each page.

        A table that has no key, or vanishes while it is read, is yielded as `Skipped`.
        """
        if partition is not None:
            async with self.pool.lease() as session:
                present = self._works(filtering, await self._within(self.read_catalogue(session), "the catalogue"))
            async with aclosing(self._splitter.read(partition, present, checkpoint, self._why_gone)) as items:
                async for item in items:
                    yield item
            return
        self._seen = None
        state, works = await self._begin(filtering, checkpoint)
        start, pending = state["start"], state["pending"]
        complete = True
        for number, label in enumerate(pending):
            work = works.get(label)
            try:
                if isinstance(work, Work):
                    key = list(work.key)
                    # Another key than that of the checkpoint means another order: from the beginning, then.
                    after = decode_values(state["after"]) if number == 0 and state.get("key") == key else None
                    async with aclosing(self._reader.pages(work, after)) as pages:
                        async for page in pages:
                            for document in page.documents:
                                yield document, None
                            if page.after is not None:
                                place = {"pending": pending[number:], "key": key, "after": encode_values(page.after)}
                                yield Checkpoint({"start": start, **place})
                else:
                    complete = False
                    yield Skipped(work.reason if work is not None else await self._why_gone(label))
            except TableGoneError as error:
                complete = False
                yield Skipped(f"{error}; what was read of it stays until the next sync")
            yield Checkpoint({"start": start, "pending": pending[number + 1 :]})
        self._cursor = start["position"]
        self._seen = start["log"] if complete else None

    async def partitions(self, filtering: Any = None) -> list[Any]:
        """Returns ranges of the keys of large tables, and the other tables whole; fixes the position before that."""
        if self.configuration["rows_per_second"] or (filtering is not None and filtering.has_advanced_rules()):
            return []  # the server shall be spared; and only it knows how to divide what a query gives
        async with self.pool.lease() as session:
            works = self._works(None, await self._within(self.read_catalogue(session), "the catalogue"))
        ranges = await self._splitter.ranges(works)
        if not ranges:
            return []
        state, present = await self._begin(filtering, None)
        self._cursor, self._seen = state["start"]["position"], state["start"]["log"]
        return self._splitter.partitions(present.values(), ranges)

    async def _begin(self, filtering: Any, checkpoint: Any) -> tuple[Mapping[str, Any], dict[str, Work | Unread]]:
        """Returns the state to start from, and what there is to read by its label."""
        log = position = None
        async with self.pool.lease() as session:
            if not checkpoint:  # before the catalogue is read, for a table may be born between them
                log = await self._within(self.log_position(session), "the log's position")
            catalogue = await self._within(self.read_catalogue(session), "the catalogue")
            works = {work.label: work for work in self._works(filtering, catalogue)}
            if not checkpoint:
                position = await self.fix_position(session, _tables(works.values()))
        if checkpoint:
            return checkpoint, works
        await self._miss_none(works)
        return {"start": {"position": position, "log": log}, "pending": list(works)}, works

    async def _miss_none(self, works: Mapping[str, Work | Unread]) -> None:
        """Raises TableDeniedError when a table that the sync before read is hidden now: it would look like a dropped
        one, and its documents would be deleted."""
        tables = frozenset(label for label, work in works.items() if isinstance(work, Unread) or work.table is not None)
        if tables or not works:
            for label in sorted(self._known - tables):
                with suppress(TableGoneError):  # dropped, as it should be
                    await self._why_gone(label)
            self._known = tables

    def _works(self, filtering: Any, catalogue: list[Table]) -> list[Work | Unread]:
        if filtering is not None and filtering.has_advanced_rules():
            rules = parse_rules(
                filtering.get_advanced_rules(), self.spaces(), backslash_escapes=self.dialect.backslash_escapes
            )
            return [rule_work(rule, catalogue, self.dialect.space_word) for rule in rules]
        return table_work(
            catalogue,
            patterns=list(map(str, self.configuration["tables"])),
            exclude=list(map(str, self.configuration["exclude_tables"])),
            declared=parse_id_columns(self.configuration["id_columns"]),
            space_word=self.dialect.space_word,
        )

    async def _why_gone(self, label: str) -> str:
        """Says why a table that this sync was to read is not listed now; raises TableDeniedError if it may not be."""
        space, _, name = label.partition(".")
        table = TableName(space, name)
        async with self.pool.lease() as session:
            probe = f"SELECT 1 FROM {statements.qualified(self.dialect, table)} LIMIT 1"  # noqa: S608 - quoted
            await self.ask(session, Statement(probe), f"the table {table}")
        return f"the table {table} belonged to this sync when it began and does not any more; the next sync settles it"

    # Incremental syncs

    async def get_docs_incrementally(
        self,
        sync_cursor: Any,
        filtering: Any = None,  # a connectors.byoc.Filter
    ) -> AsyncGenerator[IncrementalItem, None]:
        """Yields what may have grown since the cursor; deletes are found by the next full sync.

        Queries of advanced rules are run whole, since only the server knows what their results depend on.
        """
        if not self._growth.columns:
            raise ConfigurationError(
                "updated_column: an incremental sync needs a column that grows with each change, such as updated_at; "
                "name it, or remove the schedule of incremental syncs",
                field="updated_column",
            )
        async with self.pool.lease() as session:
            works = self._works(filtering, await self._within(self.read_catalogue(session), "the catalogue"))
            position = await self.fix_position(session, _tables(works))
        known = (sync_cursor or {}).get("tables", {})
        still = []
        for work in works:
            if isinstance(work, Unread):
                continue  # full syncs tell
            if work.table is not None and self._growth.column(work.table) is None:
                still.append(work.prefix)
                continue
            value = None if work.table is None else self._growth.start(work.table, known)
            try:
                async with aclosing(self._pages_since(work, value)) as pages:
                    async for page in pages:
                        for document in page.documents:
                            yield document, None, "index"
            except TableGoneError as error:
                yield Skipped(str(error))
        self._report_still(still, len(works))
        self._cursor = position

    def _pages_since(self, work: Work, value: Any) -> AsyncGenerator[Any, None]:
        column = None if work.table is None else self._growth.column(work.table)
        if work.table is None or column is None or value is None:
            return self._reader.pages(work)
        return self._reader.read(work, statements.newer(self.dialect, work.table, column, value))

    def _report_still(self, still: list[str], of: int) -> None:
        if still:
            self.logger.info(
                "%d of %d tables have no column of updated_column and wait for the next full sync: %s",
                len(still), of, ", ".join(still[:5]) + (", …" if len(still) > 5 else ""),
            )  # fmt: skip

    def sync_cursor(self) -> Any:
        """Returns the position that was fixed before the first read of the last sync."""
        return self._cursor

    # Parts

    @cached_property
    def _growth(self) -> Growth:
        settings = self.configuration
        return Growth(list(settings["updated_column"]), settings["lookback"], settings["lookback_count"])

    @cached_property
    def _splitter(self) -> Splitter:
        return Splitter(self.dialect, self._reader, self.partition_rows)

    @cached_property
    def _reader(self) -> Reader:
        settings = self.configuration
        batch, rate = settings["batch_size"], settings["rows_per_second"]
        return Reader(
            self.dialect,
            self.pool,
            batch=min(batch, rate) if rate else batch,  # a checkpoint follows each page, every second at least
            timeout=settings["query_timeout"],
            throttle=Throttle(rate),
            chunk=self.chunk_rows,
        )


def _tables(works: Any) -> list[Table]:
    return [work.table for work in works if isinstance(work, Work) and work.table is not None]
