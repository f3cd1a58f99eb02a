"""BSON values as JSON and ids as text, one by one."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary, BinaryVectorDtype
from bson.code import Code
from bson.int64 import Int64

from connectors.sources.mongodb.reading import NOTHING, after, between, can_limit, decode, id_of
from connectors.sources.mongodb.values import CODEC, id_text, split_batch, to_json_values
from connectors.sync.encode import encode

KEY = ObjectId("65a000000000000000000001")
NOON = datetime(2026, 1, 1, 12)  # noqa: DTZ001 - as the driver gives dates


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (KEY, "65a000000000000000000001"),
        (Decimal128("12.50"), Decimal("12.50")),
        (Decimal128("NaN"), None),
        (Decimal128("-Infinity"), None),
        (NOON, NOON),
        (b"ab", b"ab"),
        (Binary(b"ab", 5), b"ab"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Binary.from_vector([1.5, 2.5], BinaryVectorDtype.FLOAT32), [1.5, 2.5]),
        (Regex("^a", "im"), "/^a/im"),
        (Timestamp(1_767_268_800, 7), NOON),
        (MinKey(), "MinKey"),
        (MaxKey(), "MaxKey"),
        (Code("f()"), "f()"),
        (Code("f()", {"x": KEY}), {"code": "f()", "scope": {"x": str(KEY)}}),
        (DBRef("orders", KEY, "shop"), {"collection": "orders", "id": str(KEY), "database": "shop"}),
        ({"a": [KEY, {"b": [Decimal128("1")]}]}, {"a": [str(KEY), {"b": [Decimal(1)]}]}),
        (Int64(2**40), 2**40),
        (1.5, 1.5),
        (None, None),
        (True, True),
        ("text", "text"),
    ],
)
def test_values(value: Any, written: Any) -> None:
    document = decode(bson.encode({"_id": 1, "value": value}, codec_options=CODEC))
    assert to_json_values(document)["value"] == written
    encode(document)


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (253_402_300_800_000, "+10000-01-01T00:00:00.000Z"),
        (-62_135_596_800_001, "0000-12-31T23:59:59.999Z"),
        (-62_167_219_200_001, "-0001-12-31T23:59:59.999Z"),
        (2**63 - 1, "+292278994-08-17T07:12:55.807Z"),
    ],
)
def test_dates_beyond_the_calendar(milliseconds: int, text: str) -> None:
    raw = bson.encode({"when": bson.datetime_ms.DatetimeMS(milliseconds)})
    assert to_json_values(decode(raw))["when"] == text


def test_broken_text_costs_a_character() -> None:
    raw = bson.encode({"_id": 1, "text": "abc"}).replace(b"abc", b"a\xffc")
    assert decode(raw)["text"] == "a\ufffdc"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (KEY, "65a000000000000000000001"),
        ("65a000000000000000000001", "string:65a000000000000000000001"),
        ("order 7", "order 7"),
        ("", "string:"),
        ("string:x", "string:string:x"),
        ("bson:x", "string:bson:x"),
        (7, "7"),
        ("7", "string:7"),
        (Int64(-7), "-7"),
        (7.5, "7.5"),
        ("1e+22", "string:1e+22"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (None, "bson:null"),
        (True, "bson:true"),
        ({"country": "FR", "year": 2026}, 'bson:{"country":"FR","year":2026}'),
        (NOON, 'bson:{"$date":"2026-01-01T12:00:00Z"}'),
        (Decimal128("1.1"), 'bson:{"$numberDecimal":"1.1"}'),
        ("é", "é"),
    ],
)
def test_ids(key: Any, text: str) -> None:
    assert id_text(key) == text


def test_batches_are_split_where_documents_end() -> None:
    documents = [bson.encode({"_id": number, "text": "x" * number}) for number in range(20)]
    assert list(split_batch(b"".join(documents))) == documents
    assert list(split_batch(b"")) == []


def test_the_id_is_read_without_the_rest() -> None:
    assert id_of(bson.encode({"_id": {"a": KEY}, "x": 1})) == {"a": KEY}
    assert id_of(bson.encode({"x": 1})) is NOTHING
    assert id_of(bson.encode({"_id": None})) is None


@pytest.mark.parametrize(
    ("last", "own", "later"),
    [
        (None, None, "number"),
        (MinKey(), None, "null"),
        (5, 5, "string"),
        (Decimal128("5"), Decimal128("5"), "string"),
        ("a", "a", "object"),
        (True, True, "date"),
        (Timestamp(1, 1), Timestamp(1, 1), "maxKey"),
    ],
)
def test_what_comes_behind_an_id(last: Any, own: Any, later: str) -> None:
    alternatives = after(last)["$or"]
    assert alternatives[0]["_id"]["$type"][0] == later
    assert alternatives[1:] == ([] if own is None else [{"_id": {"$gt": own}}])


def test_nothing_comes_behind_the_last_id() -> None:
    assert after(MaxKey()) == {"_id": {"$in": []}}
    assert after(float("nan"))["$or"][1]["_id"]["$type"] == "number"


def test_two_limits_of_one_type_are_one_range_of_the_index() -> None:
    start, end, last = ObjectId(b"a" * 12), ObjectId(b"c" * 12), ObjectId(b"b" * 12)
    assert between(start, end) == {"_id": {"$gte": start, "$lt": end}}
    assert between(start, end, last) == {"_id": {"$gt": last, "$lt": end}}
    assert between(NOTHING, NOTHING) == {}
    assert between(start, NOTHING, last) == after(last)
    assert between("a", 1)["$and"]


@pytest.mark.parametrize("limit", [None, MinKey(), MaxKey(), math.nan])
def test_what_does_not_compare_with_its_like_is_no_limit(limit: Any) -> None:
    assert not can_limit(limit)
