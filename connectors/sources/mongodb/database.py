"""Reads a database: everything, or what changed since a position."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pymongo.asynchronous.client_session import AsyncClientSession

from connectors.errors import ConfigurationError, FullSyncNeededError, SyncError
from connectors.source import Checkpoint, DataSourceConfiguration, IncrementalItem, Skipped, SourceItem
from connectors.sources.mongodb.connection import CollectionInfo, Connection
from connectors.sources.mongodb.documents import DocumentMaker
from connectors.sources.mongodb.failures import heed_cancellation, translated
from connectors.sources.mongodb.reading import NOTHING, Reader, after, can_limit, id_of
from connectors.sources.mongodb.rules import Selection, selections_of
from connectors.sources.mongodb.settings import ALL, chosen_collections
from connectors.sources.mongodb.stream import Changes, Stream, StreamUnavailableError
from connectors.sources.mongodb.values import from_text, split_batch, to_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Chosen", "Database", "Plan"]

#: Of what checkpoints and cursors hold.
_VERSION: Final = 1
#: Parts of one collection, at most: a larger one has longer parts.
_MOST_CUTS: Final = 64

Chosen = tuple[Selection, CollectionInfo]


class Plan:
    """What a configuration and its rules select.

    Attributes:
        selections: by collection; None for every collection, whole.
        many: whether several collections may go to the index.
    """

    def __init__(self, configuration: DataSourceConfiguration, filtering: Any) -> None:
        names = chosen_collections(configuration)
        self.many: Final = names is None or len(names) > 1
        chosen = None if names is None else [Selection(name) for name in names]
        if filtering is not None and filtering.has_advanced_rules():
            chosen = selections_of(filtering.get_advanced_rules(), names)
        self.selections: Final = chosen
        # A position is of one such plan: other collections or rules need a full sync first.
        text = repr((configuration["database"], self.many, ALL if self.selections is None else self.selections))
        self.fingerprint: Final = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def names(self) -> list[str] | None:
        """The collections that are read; None for all."""
        return None if self.selections is None else [selection.collection for selection in self.selections]

    @property
    def steady(self) -> bool:
        """Whether the documents stay the same while the collections do."""
        return all(selection.steady for selection in self.selections or ())

    def of(self, collection: str) -> Selection:
        """Returns what is selected of one collection."""
        found = [selection for selection in self.selections or () if selection.collection == collection]
        return found[0] if found else Selection(collection)


class Database:
    """One database; made without I/O. Raises ConfigurationError for a malformed address."""

    def __init__(
        self, configuration: DataSourceConfiguration, connection: Connection, logger: logging.LoggerAdapter[Any] | Any
    ) -> None:
        self._configuration = configuration
        self._connection = connection
        self._logger = logger

    async def close(self) -> None:
        """Ends all connections."""
        await self._connection.close()

    async def collections(self) -> Sequence[CollectionInfo]:
        """Returns what there is, in the order of the names."""
        return list((await self._connection.inventory()).values())

    async def choose(self, plan: Plan) -> list[Chosen]:
        """Looks for what is planned; raises ConfigurationError where it is not there."""
        known = await self._connection.inventory()
        if plan.selections is None:
            chosen = [(Selection(info.name), info) for info in known.values() if info.kind == "collection"]
            self._report_left(known)
        else:
            chosen = [(one, self._connection.expect(one.collection, known)) for one in plan.selections]
        if not chosen:
            raise ConfigurationError(
                f'the database "{self._connection.name}" has no collection that this user may read: check its name, '
                "upper and lower case too",
                field="database",
            )
        for selection, info in chosen:
            if info.kind == "timeseries" and selection.pipeline is None:
                raise ConfigurationError(
                    f'"{info.name}" is a time series, whose documents have no unique _id: write an aggregation that '
                    "gives them one",
                    field="collection",
                )
        return chosen

    def _report_left(self, known: Mapping[str, CollectionInfo]) -> None:
        left = [info.name for info in known.values() if info.kind != "collection"]
        if left:
            self._logger.info("left alone, since * means collections, not views or time series: %s", ", ".join(left))

    # Full syncs

    async def position(self, plan: Plan, chosen: Sequence[Chosen]) -> Mapping[str, Any] | None:
        """Returns where the incremental sync after this moment starts; None, and says why, where there can be none."""
        try:
            _refuse_views(chosen)
            return _position(plan, await self._stream(plan).position())
        except StreamUnavailableError as unavailable:
            self._logger.info("%s", unavailable)
            return None

    async def read_all(
        self, plan: Plan, chosen: Sequence[Chosen], position: Mapping[str, Any] | None, saved: Mapping[str, Any] | None
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the documents, collection by collection, in the order of `_id`, with a checkpoint after each batch.

        Args:
            position: was fixed before, and goes into the checkpoints.
            saved: the state of a checkpoint to go on behind.

        Raises:
            SyncError: a collection was dropped, renamed or replaced meanwhile: nothing is taken for deleted.
        """
        async with self._session() as session:
            for selection, info in chosen:
                if saved is not None and info.name < saved["collection"]:
                    continue
                resumed = saved if saved is not None and info.name == saved["collection"] else {}
                if resumed and resumed["uuid"] != info.uuid:
                    raise SyncError(_replaced(info.name))
                if resumed.get("done"):
                    continue
                last = from_text(resumed["last"]) if resumed else NOTHING
                state = {"version": _VERSION, "position": position, "collection": info.name, "uuid": info.uuid}
                reader = self._reader(selection, session)
                async with aclosing(self._collection(plan, selection, reader, state, last)) as items:
                    async for item in items:
                        yield item
                if (await self._connection.inventory()).get(info.name) != info:
                    raise SyncError(_replaced(info.name))
                yield Checkpoint({**state, "done": True})

    async def cuts(self, selection: Selection, documents: int) -> list[Any]:
        """Returns the `_id` of each so many-th document of a collection, but not the first, found along the index."""
        collection = self._connection.database[selection.collection]
        found: list[Any] = []
        while True:
            behind = after(found[-1]) if found else {}
            query = collection.find_raw_batches(
                behind, projection={"_id": 1}, sort=[("_id", 1)], skip=documents - bool(found), limit=1,
                max_time_ms=self._configuration["query_timeout"] * 1000,
            )  # fmt: skip
            with translated(f"{collection.full_name}: counting along the index"):
                batches: list[Any] = [batch async for batch in query]
            heed_cancellation()
            cut = next((id_of(raw) for batch in batches for raw in split_batch(batch)), NOTHING)
            if cut is NOTHING:
                return [cut for cut in found if can_limit(cut)]
            found.append(cut)
            if len(found) == _MOST_CUTS:
                found, documents = found[1::2], 2 * documents

    async def read_part(
        self, plan: Plan, part: Mapping[str, Any], saved: Mapping[str, Any] | None
    ) -> AsyncGenerator[SourceItem, None]:
        """Yields the documents of a part of a collection; see `read_all`."""
        chosen = {info.name: (selection, info) for selection, info in await self.choose(plan)}
        selection, info = chosen.get(part["collection"], (None, None))
        if selection is None or info is None or info.uuid != part["uuid"]:
            raise SyncError(_replaced(part["collection"]))
        start, end = (NOTHING if part[name] is None else from_text(part[name]) for name in ("from", "to"))
        last = NOTHING if saved is None else from_text(saved["last"])
        async with self._session() as session:
            reader = self._reader(selection, session, start=start, end=end)
            async with aclosing(self._collection(plan, selection, reader, {}, last)) as items:
                async for item in items:
                    yield item
        if (await self._connection.inventory()).get(info.name) != info:
            raise SyncError(_replaced(info.name))

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncClientSession]:
        """Gives a session in which every server that is read from has come at least as far as the primary is now.

        Without it, a secondary server that lags behind could show a state older than the position in the stream.
        """
        async with self._connection.client.start_session(causal_consistency=True) as session:
            with translated(f"{self._connection.name}: asking the server's time"):
                await self._connection.client.admin.command("ping", session=session)
            yield session

    async def _collection(
        self, plan: Plan, selection: Selection, reader: Reader, state: Mapping[str, Any], last: Any
    ) -> AsyncGenerator[SourceItem, None]:
        make = DocumentMaker(selection.collection, many=plan.many).make
        async with aclosing(reader.batches(last)) as batches:
            async for batch in batches:
                for raw in batch:
                    made = make(raw)
                    yield made if isinstance(made, Skipped) else (made, None)
                if selection.one_by_one and (last := id_of(batch[-1])) is not NOTHING:
                    yield Checkpoint({**state, "last": to_text(last)})

    def _reader(self, selection: Selection, session: AsyncClientSession, **limits: Any) -> Reader:
        return Reader(
            self._connection.database[selection.collection],
            selection,
            session,
            batch_size=self._configuration["batch_size"],
            timeout=self._configuration["query_timeout"],
            **limits,
        )

    # Changes

    async def quiet_since(self, plan: Plan, token: str) -> str | None:
        """Returns a newer token when nothing has changed since `token`, None when something has."""
        return await self._stream(plan).quiet_since(token)

    async def read_changes(
        self, plan: Plan, cursor: Mapping[str, Any] | None, newer: str | None
    ) -> AsyncGenerator[IncrementalItem, None]:
        """Yields what changed since the cursor, as it is now, with a checkpoint after each batch of events.

        Args:
            newer: a later token up to which nothing has happened.

        Raises:
            FullSyncNeededError: the changes cannot be followed from there; the message says why.
            ConfigurationError: the server has no change streams, or a rule cannot be followed.
        """
        _refuse_views(await self.choose(plan))
        for selection in plan.selections or ():
            if not selection.one_by_one:
                raise ConfigurationError(
                    f"the rule for {selection.collection} cannot be followed document by document (it has a limit, a "
                    "group, a look-up or the like): remove scheduling.incremental, or the rule"
                )
        if cursor is None:
            await self._stream(plan).position()  # says why there is none
        if cursor is None or cursor.get("version") != _VERSION:
            raise FullSyncNeededError(f"{self._connection.name}: no full sync fixed a position in the change stream")
        if cursor["of"] != plan.fingerprint:
            raise FullSyncNeededError(f"{self._connection.name}: other collections or rules than before")
        async with self._session() as session, aclosing(self._stream(plan).batches(newer or cursor["token"])) as stream:
            async for changes in stream:
                if changes.time is not None:
                    session.advance_operation_time(changes.time)
                for collection in changes.touched:
                    async with aclosing(self._touched(plan, collection, changes, session)) as items:
                        async for item in items:
                            yield item
                yield Checkpoint(_position(plan, changes.token))

    async def _touched(
        self, plan: Plan, collection: str, changes: Changes, session: AsyncClientSession
    ) -> AsyncGenerator[IncrementalItem, None]:
        """Reads the documents that events speak of; what is not found is deleted, or no longer selected."""
        maker = DocumentMaker(collection, many=plan.many)
        touched = changes.touched[collection].values()
        alive = {maker.id(key): key for key, deleted in touched if not deleted}
        missing = set(alive)
        if alive:
            async with aclosing(self._reader(plan.of(collection), session).by_ids(list(alive.values()))) as found:
                async for raw in found:
                    made = maker.make(raw)
                    if isinstance(made, Skipped):
                        missing = missing - {made.id} if made.id is not None else set()
                        yield made
                    else:
                        missing.discard(made["_id"])
                        yield made, None, "index"
        for document_id in sorted(missing.union(maker.id(key) for key, deleted in touched if deleted)):
            yield {"_id": document_id}, None, "delete"

    def _stream(self, plan: Plan) -> Stream:
        return Stream(self._connection.database, plan.names)


def _position(plan: Plan, token: str) -> dict[str, Any]:
    return {"version": _VERSION, "of": plan.fingerprint, "token": token}


def _refuse_views(chosen: Sequence[Chosen]) -> None:
    views = [info.name for _, info in chosen if info.kind != "collection"]
    if views:
        raise StreamUnavailableError(
            f"{', '.join(views)}: there are no change streams of views and time series, so incremental syncs are not "
            "possible: remove scheduling.incremental, or give the collections behind them a connector",
            field="collection",
        )


def _replaced(name: str) -> str:
    return (
        f'the collection "{name}" was dropped, renamed or replaced while it was read: nothing was deleted; the next '
        "full sync reads what is there then"
    )
