"""Follows the change stream of a collection or a database by its resume token.

A token is fixed before the first read of a full sync, so what changes while it reads is met again by the next
incremental one. Of an event only its kind and the document's key are used: the document itself is read anew, as it is
now, so it does not matter how often or in which order a document changed.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from bson.timestamp import Timestamp
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from connectors.errors import ConfigurationError, ConnectorsError, FullSyncNeededError, SyncError
from connectors.sources.mongodb.failures import as_ours, code_of, heed_cancellation, translated
from connectors.sources.mongodb.values import from_text, id_text, to_text

__all__ = ["Changes", "Stream", "StreamUnavailableError"]

#: Keys of documents that one batch gathers, and for which there is one query.
_BATCH: Final = 500
#: Milliseconds for which the server waits for an event before it says that there is none.
_AWAIT: Final = 250
#: Answers without an event after which we stop, though the stream has not reached the time at which we began.
_PATIENCE: Final = 40

_ADVICE: Final = (
    "incremental syncs are not possible: remove scheduling.incremental, or make the server a member of a replica set "
    "(one member is enough)"
)
#: No replica set, no such stage, a command or a read concern that the product lacks, or a view.
_UNSUPPORTED: Final = frozenset({20, 59, 115, 123, 166, 303, 40324, 40573})
_FORBIDDEN: Final = 13
#: The server's log does not reach back to the token, the token is of another cluster, or an event is too large.
_LOST: Final = frozenset({136, 260, 280, 286, 9, 40576, 40585, 40615, 50811, 10334})
_TOUCHING: Final = frozenset({"insert", "update", "replace", "delete"})
_ENDINGS: Final = {
    "drop": "the collection was dropped",
    "rename": "the collection was renamed",
    "dropDatabase": "the database was dropped",
    "invalidate": "the collection or the database was dropped or renamed",
}
#: A resume token of today's servers begins with its time: a mark, the second, the number within it.
_TOKEN_TIME: Final = re.compile(r"82([0-9A-F]{8})([0-9A-F]{8})", re.IGNORECASE)


class StreamUnavailableError(ConfigurationError):
    """The server offers no change streams here, or not to this user."""


@dataclass(slots=True)
class Changes:
    """What one batch of events touched.

    Attributes:
        token: where the stream goes on behind them, as text.
        time: of the last event: whoever reads the documents must not see an older state.
        touched: collection → text of the `_id` → the `_id`, and whether the last event deleted it.
    """

    token: str
    time: Timestamp | None = None
    touched: dict[str, dict[str, tuple[Any, bool]]] = field(default_factory=dict)

    def add(self, event: dict[str, Any]) -> None:
        """Takes one event in; a later one of the same document takes the place of the earlier one."""
        key = event["documentKey"]["_id"]
        documents = self.touched.setdefault(event["ns"]["coll"], {})
        documents[id_text(key)] = key, event["operationType"] == "delete"
        self.time = event.get("clusterTime", self.time)

    def __len__(self) -> int:
        return sum(map(len, self.touched.values()))


class Stream:
    """The changes of some collections of a database.

    Args:
        collections: their names; None for all of the database.
    """

    def __init__(self, database: AsyncDatabase[dict[str, Any]], collections: Sequence[str] | None) -> None:
        self._database = database
        self._collections = collections
        names = ", ".join(collections) if collections is not None else "*"
        self._what = f"{database.name}.{names}: following the changes"

    async def position(self) -> str:
        """Returns the token of this moment.

        Raises:
            StreamUnavailableError: there are no change streams.
        """
        async with await self._open(None) as stream:
            heed_cancellation()
            return _token(stream)

    async def quiet_since(self, token: str) -> str | None:
        """Returns a newer token when nothing has changed since `token`, None when something has."""
        async with aclosing(self.batches(token)) as batches:
            async for changes in batches:
                if changes.touched:
                    return None
                token = changes.token
        return token

    async def batches(self, token: str) -> AsyncGenerator[Changes, None]:
        """Yields what changed from `token` up to now; the last batch may be empty.

        Raises:
            FullSyncNeededError: the token is lost, or a collection was dropped or renamed.
            StreamUnavailableError: there are no change streams.
        """
        now = await self._now()
        silence = 0
        async with await self._open(token) as stream:
            changes = Changes(token)
            while silence < _PATIENCE:
                event = await self._next(stream)
                changes.token = _token(stream)
                if event is None:
                    silence += 1
                    if _reached(changes.token, now):
                        break
                    continue
                silence = 0
                self._take(event, changes)
                if now is not None and event.get("clusterTime", now) > now:
                    break  # what is written from now on is the next sync's: a busy stream has no end
                if len(changes) >= _BATCH:
                    yield changes
                    changes = Changes(changes.token)
            yield changes

    def _take(self, event: dict[str, Any], changes: Changes) -> None:
        kind = event["operationType"]
        if kind in _TOUCHING:
            changes.add(event)
        elif kind in _ENDINGS:
            name = event.get("ns", {}).get("coll", "")
            raise FullSyncNeededError(f"{self._database.name}{'.' if name else ''}{name}: {_ENDINGS[kind]}")

    async def _open(self, token: str | None) -> AsyncChangeStream[dict[str, Any]]:
        options: dict[str, Any] = {"max_await_time_ms": _AWAIT, "batch_size": _BATCH}
        if token is not None:
            options["start_after"] = from_text(token)
        stages = self._stages()
        stream: AsyncChangeStream[dict[str, Any]]
        try:
            if self._collections is not None and len(self._collections) == 1:
                stream = await self._database[self._collections[0]].watch(stages, **options)
            else:
                stream = await self._database.watch(stages, **options)
        except PyMongoError as error:
            raise self._failure(error, resuming=token is not None) from error
        return stream

    def _stages(self) -> list[dict[str, Any]]:
        """Only what is needed comes over the network."""
        wanted = {"_id": 1, "operationType": 1, "ns": 1, "to": 1, "documentKey": 1, "clusterTime": 1}
        stages: list[dict[str, Any]] = [{"$project": wanted}]
        if self._collections is None:
            stages.insert(0, {"$match": {"ns.coll": {"$not": {"$regex": r"^system\."}}}})
        elif len(self._collections) > 1:
            names = {"$in": list(self._collections)}
            others = {"$in": ["dropDatabase", "invalidate"]}
            stages.insert(0, {"$match": {"$or": [{"ns.coll": names}, {"to.coll": names}, {"operationType": others}]}})
        return stages

    async def _next(self, stream: AsyncChangeStream[dict[str, Any]]) -> dict[str, Any] | None:
        try:
            event = await stream.try_next()
        except PyMongoError as error:
            raise self._failure(error, resuming=True) from error
        heed_cancellation()
        return event

    async def _now(self) -> Timestamp | None:
        """Returns the server's present time, None where it has no such thing."""
        with translated(self._what):
            answer = await self._database.client.admin.command("ping")
        return answer.get("operationTime")

    def _failure(self, error: PyMongoError, *, resuming: bool) -> ConnectorsError:
        code = code_of(error)
        if code == _FORBIDDEN:
            return StreamUnavailableError(
                f"{self._what}: the user may not open change streams: grant the role read on the database; without "
                "them incremental syncs are not possible (remove scheduling.incremental)",
                field="user",
            )
        lost = isinstance(error, OperationFailure) and error.has_error_label("NonResumableChangeStreamError")
        if resuming and (code in _LOST or (lost and code not in _UNSUPPORTED)):
            return FullSyncNeededError(
                f"{self._what}: the server no longer knows where the last sync ended ({_reason(error)})"
            )
        if code in _UNSUPPORTED:
            return StreamUnavailableError(f"{self._what}: the server has no change streams here: {_ADVICE}")
        ours = as_ours(error, self._what)
        # Products that speak MongoDB's protocol refuse the stage, each by an error of its own; documents can be read.
        return ours if resuming or type(ours) is not SyncError else StreamUnavailableError(f"{ours}: {_ADVICE}")


def _reason(error: PyMongoError) -> str:
    details = getattr(error, "details", None) or {}
    return str(details.get("codeName") or details.get("errmsg") or error)


def _token(stream: AsyncChangeStream[dict[str, Any]]) -> str:
    """Returns where the stream stands. Every server that the driver talks to tells it, from the first answer on."""
    if stream.resume_token is None:
        raise StreamUnavailableError(f"the server tells no position in its change stream: {_ADVICE}")
    return to_text(stream.resume_token)


def _reached(token: str, now: Timestamp | None) -> bool:
    """Whether a stream without further events has come up to a time; True where that cannot be told.

    A busy server may answer "no event" while it still looks through what does not concern us.
    """
    data = from_text(token).get("_data")
    found = _TOKEN_TIME.match(data) if isinstance(data, str) else None
    return now is None or found is None or (int(found[1], 16), int(found[2], 16)) >= (now.time, now.inc)
