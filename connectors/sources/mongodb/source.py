"""The MongoDB source itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from importlib import import_module
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from connectors.filtering.validation import AdvancedRulesValidator
from connectors.source import (
    BaseDataSource,
    Checkpoint,
    ConfigurationError,
    ConnectorsError,
    Discovered,
    IncrementalItem,
    SourceItem,
)
from connectors.sources.mongodb.settings import FIELDS, chosen_collections

if TYPE_CHECKING:  # the driver is loaded when a source is used, not when its class is looked at
    from connectors.sources.mongodb.database import Database, Plan

__all__ = ["MongoDBDataSource"]


class MongoDBDataSource(BaseDataSource):
    """Documents of one, several or all collections of a database."""

    name = "MongoDB"
    service_type = "mongodb"
    advanced_rules_enabled = True
    incremental_sync_enabled = True
    resumable = True
    partitioned = True
    #: Documents of one partition, at least; a collection of fewer is not divided.
    partition_documents: ClassVar[int] = 50_000

    _opened: Database | None = None
    _cursor: Mapping[str, Any] | None = None
    #: After a complete sync: what it read, the cursor that was stored, and a token up to which nothing happened since.
    _quiet: tuple[Plan, Mapping[str, Any], str] | None = None

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields; docs/sources/MONGODB.md explains them."""
        return {name: {**field, "order": order} for order, (name, field) in enumerate(FIELDS.items(), 1)}

    # Configuration

    async def validate_config(self) -> None:
        """Raises ConfigurationError for a missing driver, a malformed address, or a name that cannot be one."""
        self.configuration.check_valid()
        chosen_collections(self.configuration)
        await asyncio.to_thread(_require_driver)
        self._database()

    async def ping(self) -> None:
        """Reaches the server, signs in, and looks for the collections."""
        await self._database().choose(self._plan(None))

    async def close(self) -> None:
        """Ends all connections."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await opened.close()

    def advanced_rules_validators(self) -> Sequence[AdvancedRulesValidator]:
        """Returns the validator of find and aggregate rules."""
        _require_driver()
        from connectors.sources.mongodb.rules import MongoRulesValidator

        return [MongoRulesValidator(chosen_collections(self.configuration))]

    async def discover(self) -> Sequence[Discovered]:
        """Lists the collections of the database."""
        database = self.configuration["database"]
        return [
            Discovered(f"{database}.{info.name}", info.kind, {"database": database, "collection": [info.name]})
            for info in await self._database().collections()
        ]

    def _database(self) -> Database:
        if self._opened is None:
            _require_driver()
            from connectors.sources.mongodb.connection import Connection
            from connectors.sources.mongodb.database import Database

            connection = Connection(self.configuration, self.framework_config.base_dir)
            self._opened = Database(self.configuration, connection, self.logger)
        return self._opened

    def _plan(self, filtering: Any) -> Plan:
        _require_driver()
        from connectors.sources.mongodb.database import Plan

        return Plan(self.configuration, filtering)

    # Reading

    async def get_docs(
        self,
        filtering: Any = None,  # a connectors.byoc.Filter, which sources do not import
        *,
        checkpoint: Any = None,
        partition: Any = None,
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the documents, collection by collection, in the order of `_id`.

        The position in the change stream is fixed before the first read, and travels with the checkpoints.
        """
        if partition is not None:
            async with aclosing(self._database().read_part(self._plan(filtering), partition, checkpoint)) as items:
                async for item in items:
                    yield item
            return
        self._cursor = self._quiet = None
        database, plan = self._database(), self._plan(filtering)
        chosen = await database.choose(plan)
        position = checkpoint["position"] if checkpoint else await database.position(plan, chosen)
        async with aclosing(database.read_all(plan, chosen, position, checkpoint)) as items:
            async for item in items:
                yield item
        self._keep(plan, position)

    async def partitions(self, filtering: Any = None) -> list[Any]:
        """Returns ranges of `_id` of large collections, and the other collections whole; fixes the position before."""
        if filtering is not None and filtering.has_advanced_rules():
            return []  # what a rule selects is not counted along an index
        from connectors.sources.mongodb.values import to_text

        self._cursor = self._quiet = None
        database, plan = self._database(), self._plan(filtering)
        chosen = await database.choose(plan)
        position = await database.position(plan, chosen)
        found: list[Any] = []
        for selection, info in chosen:
            cuts = await database.cuts(selection, self.partition_documents) if info.divisible else []
            for start, end in pairwise([None, *map(to_text, cuts), None]):
                found.append({"collection": info.name, "uuid": info.uuid, "from": start, "to": end})
        if len(found) == len(chosen):
            return []  # none is large
        self._keep(plan, position)
        return found

    async def get_docs_incrementally(
        self,
        sync_cursor: Any,
        filtering: Any = None,  # a connectors.byoc.Filter, which sources do not import
    ) -> AsyncGenerator[IncrementalItem, None]:
        """Yields what the change stream tells since the cursor: documents as they are now, and deletions.

        Raises:
            FullSyncNeededError: the changes cannot be followed from there; the message says why.
            ConfigurationError: the server has no change streams, or a rule cannot be followed.
        """
        plan = self._plan(filtering)
        newer = self._quiet[2] if self._quiet is not None and self._quiet[1] == sync_cursor else None
        position = sync_cursor
        self._cursor, self._quiet = sync_cursor, None
        async with aclosing(self._database().read_changes(plan, sync_cursor, newer)) as items:
            async for item in items:
                if isinstance(item, Checkpoint):
                    position = item.state
                yield item
        self._keep(plan, position)

    def _keep(self, plan: Plan, position: Mapping[str, Any] | None) -> None:
        """Remembers where a complete sync stood in the stream."""
        self._cursor = position
        if position is not None and plan.steady:
            self._quiet = plan, position, position["token"]

    def sync_cursor(self) -> Mapping[str, Any] | None:
        """Returns where the next incremental sync starts; None where the server has no change streams."""
        return self._cursor

    async def changed(self) -> bool:
        """Looks at the change stream since the last sync of this object; True when it cannot be told."""
        if self._quiet is None:
            return True
        plan, cursor, token = self._quiet
        try:
            newer = await self._database().quiet_since(plan, token)
        except ConnectorsError:
            return True  # the sync that follows says what is wrong
        if newer is None:
            return True
        # An incremental sync goes on here, so that the server's log may forget what lies before.
        self._quiet = plan, cursor, newer
        return False


def _require_driver() -> None:
    """Loads the driver, which takes a while; raises ConfigurationError where it is missing."""
    try:
        import_module("connectors.sources.mongodb.database")
    except ModuleNotFoundError as error:
        raise ConfigurationError("the driver of MongoDB is not installed: pip install 'connectors[mongodb]'") from error
