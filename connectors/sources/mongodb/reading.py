"""Reads what a selection selects, batch by batch, in the order of `_id` where it can be resumed."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import bson
from bson.errors import BSONError
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import PyMongoError

from connectors.sources.mongodb.failures import CURSOR_LOST, as_ours, code_of, heed_cancellation, translated
from connectors.sources.mongodb.rules import Selection
from connectors.sources.mongodb.values import CODEC, split_batch

__all__ = ["NOTHING", "Reader", "after", "between", "can_limit", "decode", "id_of"]

#: In place of an `_id`: nothing was read yet. None is an `_id`.
NOTHING: Final = object()
#: The server's order of the types that an `_id` can have, as its `$type` names them.
_TYPES: Final = (
    "minKey", "null", "number", "string", "object", "array", "binData", "objectId", "bool", "date", "timestamp",
    "maxKey",
)  # fmt: skip


def decode(raw: bytes) -> dict[str, Any]:
    """Returns one document. Raises BSONError when the server's bytes are broken."""
    return bson.decode(raw, CODEC)


def id_of(raw: bytes) -> Any:
    """Returns the `_id` of a document that is not decoded otherwise, `NOTHING` where it has none that can be read."""
    try:
        found = RawBSONDocument(raw, CODEC.with_options(document_class=RawBSONDocument)).get("_id", NOTHING)
        return decode(bytes(found.raw)) if isinstance(found, RawBSONDocument) else found
    except BSONError:
        return NOTHING


def after(last: Any) -> dict[str, Any]:
    """Returns a filter for what comes behind an `_id` in the server's order.

    `$gt` alone compares within one type, and would lose the ids of all others.
    """
    kind = _type_of(last)
    later = list(_TYPES[_TYPES.index(kind) + 1 :])
    behind: list[Mapping[str, Any]] = [{"_id": {"$type": later}}] if later else []
    if isinstance(last, float) and math.isnan(last):  # the first of the numbers, and neither less nor greater
        behind.append({"_id": {"$type": "number", "$ne": last}})
    elif kind not in {"minKey", "null", "maxKey"}:
        behind.append({"_id": {"$gt": last}})
    return {"$or": behind} if behind else {"_id": {"$in": []}}


def between(start: Any, end: Any, last: Any = NOTHING) -> dict[str, Any]:
    """Returns a filter for the `_id`s from `start` on, this one included, that come before `end` and behind `last`.

    Each may be `NOTHING`. Two limits of one type are one range of the index.
    """
    if last is not NOTHING:
        lower, operator = last, "$gt"
    else:
        lower, operator = start, "$gte"
    if lower is NOTHING and end is NOTHING:
        return {}
    if end is NOTHING:
        return after(lower) if operator == "$gt" else _from(lower)
    if lower is NOTHING:
        return _before(end)
    if can_limit(lower) and _type_of(lower) == _type_of(end):
        return {"_id": {operator: lower, "$lt": end}}
    return {"$and": [after(lower) if operator == "$gt" else _from(lower), _before(end)]}


def can_limit(value: Any) -> bool:
    """Whether a part of a collection can begin or end with this `_id`: whether it compares with others of its type."""
    return _type_of(value) not in {"minKey", "null", "maxKey"} and not (isinstance(value, float) and math.isnan(value))


def _from(start: Any) -> dict[str, Any]:
    later = list(_TYPES[_TYPES.index(_type_of(start)) + 1 :])
    return {"$or": [{"_id": {"$type": later}}, {"_id": {"$gte": start}}]}


def _before(end: Any) -> dict[str, Any]:
    earlier = list(_TYPES[: _TYPES.index(_type_of(end))])
    not_a_number = [{"_id": {"$type": "number", "$eq": math.nan}}] if _type_of(end) == "number" else []
    return {"$or": [{"_id": {"$type": earlier}}, {"_id": {"$lt": end}}, *not_a_number]}


def _type_of(value: Any) -> str:
    if isinstance(value, ObjectId):
        return "objectId"
    if isinstance(value, str) and type(value) is str:
        return "string"
    if value is None:
        return "null"
    if isinstance(value, MinKey):
        return "minKey"
    code = bson.encode({"": value}, codec_options=CODEC)[4]
    return _BY_CODE[code]


_BY_CODE: Final[Mapping[int, str]] = {
    0x01: "number", 0x02: "string", 0x03: "object", 0x04: "array", 0x05: "binData", 0x07: "objectId", 0x08: "bool",
    0x09: "date", 0x0A: "null", 0x10: "number", 0x11: "timestamp", 0x12: "number", 0x13: "number", 0x7F: "maxKey",
    0xFF: "minKey",
}  # fmt: skip


class Reader:
    """Reads one collection.

    Args:
        session: causally consistent, so that a secondary server that lags behind is waited for.
        timeout: seconds that one query may take.
        start, end: of the part of the collection that is read, in the server's order of `_id`: the first one of it,
            and the first one behind it; `NOTHING`: no limit. Only for whole documents of a collection.
    """

    def __init__(
        self,
        collection: AsyncCollection[dict[str, Any]],
        selection: Selection,
        session: AsyncClientSession,
        *,
        batch_size: int,
        timeout: int,
        start: Any = NOTHING,
        end: Any = NOTHING,
    ) -> None:
        self._collection = collection
        self._selection = selection
        self._session = session
        self._batch_size = batch_size
        self._timeout = timeout * 1000
        self._start = start
        self._end = end
        self._what = f"{collection.full_name}: reading"

    async def batches(self, last: Any = NOTHING) -> AsyncGenerator[list[bytes], None]:
        """Yields what is selected, behind `last` if that is given, as the server sent it.

        A cursor that the server gave up is opened anew behind the last document, as often as there was one.
        """
        while True:
            began = last
            cursor = await self._open(between(self._start, self._end, last))
            try:
                while batch := await self._next(cursor):
                    if documents := list(split_batch(batch)):
                        last = id_of(documents[-1]) if self._selection.one_by_one else NOTHING
                        yield documents
                return  # noqa: TRY300 - the only end of the loop
            except PyMongoError as error:
                if last is NOTHING or last is began or code_of(error) not in CURSOR_LOST:
                    raise as_ours(error, self._what) from error
            finally:
                await _let_go(cursor)

    async def by_ids(self, ids: Sequence[Any]) -> AsyncGenerator[bytes, None]:
        """Yields what is selected of the documents with these ids. Only for selections that are one by one."""
        cursor = await self._open({"_id": {"$in": list(ids)}})
        try:
            while True:
                with translated(self._what):
                    batch = await self._next(cursor)
                if not batch:
                    break
                for raw in split_batch(batch):
                    yield raw
        finally:
            await _let_go(cursor)

    async def _open(self, wanted: Mapping[str, Any]) -> Any:
        selection = self._selection
        common = {"session": self._session, "batch_size": self._batch_size, **_driver_options(selection)}
        with translated(self._what):
            if selection.pipeline is not None:
                stages: list[Mapping[str, Any]] = [{"$sort": {"_id": 1}}] if selection.one_by_one else []
                if wanted:
                    stages.insert(0, {"$match": wanted})
                return await self._collection.aggregate_raw_batches(
                    [*stages, *selection.pipeline], maxTimeMS=self._timeout, **_batch_option(common)
                )
            return self._collection.find_raw_batches(
                _both(selection.filter, wanted),
                projection=selection.projection,
                max_time_ms=self._timeout,
                **(selection.window or ({"sort": [("_id", 1)]} if selection.one_by_one else {})),
                **common,
            )

    @staticmethod
    async def _next(cursor: Any) -> bytes:
        """Returns the next batch, no bytes at the end."""
        try:
            batch: bytes = await cursor.next()
        except StopAsyncIteration:
            return b""
        heed_cancellation()
        return batch


async def _let_go(cursor: Any) -> None:
    """Closes a cursor; the server forgets by itself one that we can no longer tell it about."""
    with suppress(PyMongoError):
        await cursor.close()


def _batch_option(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options in the names that the driver has for them in aggregations."""
    return {("batchSize" if key == "batch_size" else key): value for key, value in options.items()}


def _driver_options(selection: Selection) -> dict[str, Any]:
    options = dict(selection.options)
    if selection.pipeline is None and isinstance(options.get("hint"), Mapping):
        options["hint"] = list(options["hint"].items())
    return options


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    if not first or not second:
        return first or second
    return {"$and": [first, second]}
