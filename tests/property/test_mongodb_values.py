"""Rules that hold for all BSON."""

from __future__ import annotations

import math
from datetime import datetime
from decimal import Decimal
from typing import Any

import bson
import orjson
from bson import Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import Binary
from bson.datetime_ms import DatetimeMS
from hypothesis import assume, given
from hypothesis import strategies as st

from connectors.sources.mongodb.reading import decode
from connectors.sources.mongodb.rules import problems_of
from connectors.sources.mongodb.values import CODEC, from_text, id_text, split_batch, to_json_values, to_text
from connectors.sync.encode import encode

_INT64 = st.integers(-(2**63), 2**63 - 1)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_NAME = _TEXT.filter(lambda name: "\0" not in name)
_DATES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - as the driver gives dates
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)
_SCALARS = (
    st.none()
    | st.booleans()
    | _INT64
    | st.floats(allow_nan=False)
    | st.just(math.nan)  # of which BSON knows several, and JSON one
    | _TEXT
    | st.binary(max_size=20)
    | st.builds(Binary, st.binary(max_size=20), st.sampled_from([0, 2, 5, 6, 9, 128]))
    | st.binary(min_size=12, max_size=12).map(ObjectId)
    | st.uuids()
    | _DATES
    | _INT64.map(DatetimeMS)
    | _DECIMALS.map(Decimal128)
    | st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
    | st.builds(Regex, _NAME, st.integers(0, 0))
    | st.sampled_from([MinKey(), MaxKey(), Decimal128("NaN"), Decimal128("Infinity")])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(_NAME.filter(lambda n: n[:1] != "$"), inner, max_size=4)
    ),
    max_leaves=12,
)


def sent(value: Any) -> Any:
    """Returns a value as it comes from a server."""
    return decode(bson.encode({"": value}, codec_options=CODEC))[""]


@given(st.dictionaries(_NAME, _VALUES, max_size=5))
def test_every_document_has_one_json_form(document: dict[str, Any]) -> None:
    raw = bson.encode(document, codec_options=CODEC)
    first, second = (encode(to_json_values(decode(raw))) for _ in range(2))
    assert first == second
    assert orjson.loads(first).keys() == document.keys()


@given(_VALUES)
def test_extended_json_brings_the_same_value_back(value: Any) -> None:
    value = sent(value)
    found = from_text(to_text(value))
    assert bson.encode({"": found}, codec_options=CODEC) == bson.encode({"": value}, codec_options=CODEC)


@given(_SCALARS, _SCALARS)
def test_different_ids_have_different_texts(one: Any, other: Any) -> None:
    one, other = sent(one), sent(other)
    assume(bson.encode({"": one}, codec_options=CODEC) != bson.encode({"": other}, codec_options=CODEC))
    assume(not _same_number(one, other))
    assert id_text(one) != id_text(other)


def _same_number(one: Any, other: Any) -> bool:
    """Numbers of any type that are equal are one `_id` to the server, and so are all NaN."""
    numbers = [_number(value) for value in (one, other)]
    if any(number is None for number in numbers):
        return False
    return numbers[0] == numbers[1] or all(math.isnan(number) for number in numbers if number is not None)


def _number(value: Any) -> Decimal | None:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    return Decimal(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_texts_stay_different(one: str, other: str) -> None:
    assume(one != other)
    assert id_text(one) != id_text(other)


@given(st.lists(st.dictionaries(_NAME, _SCALARS, max_size=4), max_size=6))
def test_a_batch_is_split_into_what_it_was_made_of(documents: list[dict[str, Any]]) -> None:
    raws = [bson.encode(document, codec_options=CODEC) for document in documents]
    assert list(split_batch(b"".join(raws))) == raws


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["find", "aggregate", "collection", "filter", "pipeline", "sort", "$oid", "$date", "limit", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(_JSON)
def test_any_rule_is_judged(rule: Any) -> None:
    assert all(isinstance(problem, str) for problem in problems_of(rule, None))
