# ruff: noqa: S608 - the test's own table
"""Properties of relational sources: pages in the order of any key miss nothing, ids and checkpoints tell rows apart."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from connectors.sources.relational import statements
from connectors.sources.relational.rules import QueryRulesValidator
from connectors.sources.relational.values import decode_values, encode_values, id_maker
from tests.support.relational import SqliteDialect, table

_NUMBERS = st.integers(-3, 3)
_TEXTS = st.text("ab/%N", max_size=2)
_KEYS = st.integers(1, 3).flatmap(lambda width: st.lists(st.tuples(*[_NUMBERS] * width), max_size=30, unique=True))
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
)


@given(_KEYS, st.booleans(), st.integers(1, 7))
def test_pages_in_the_order_of_a_key_miss_nothing_and_repeat_nothing(
    rows: list[tuple[int, ...]], compares_rows: bool, limit: int
) -> None:
    width = len(rows[0]) if rows else 1
    names = [f"k{number}" for number in range(width)]
    described = table("t", " ".join(names), " ".join(names))
    dialect = SqliteDialect(compares_rows=compares_rows)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE t ({', '.join(names)}, PRIMARY KEY ({', '.join(names)}))")
        database.executemany(f"INSERT INTO t VALUES ({', '.join('?' * width)})", rows)
        found: list[tuple[int, ...]] = []
        while True:
            after = found[-1] if found else None
            statement = statements.page(dialect, described, names, after, strict=True, limit=limit)
            page = database.execute(statement.sql, statement.parameters).fetchall()
            found += page
            if len(page) < limit:
                break
        assert found == sorted(rows)
        if rows:
            again = statements.page(dialect, described, names, found[0], strict=False, limit=None)
            assert database.execute(again.sql, again.parameters).fetchall() == found


@given(st.lists(_VALUES))
def test_values_of_keys_survive_json(values: list[Any]) -> None:
    read = decode_values(json.loads(json.dumps(encode_values(values))))
    assert read == values
    assert [type(value) for value in read] == [type(value) for value in values]


@given(st.tuples(_TEXTS | st.none(), _TEXTS | st.none()), st.tuples(_TEXTS | st.none(), _TEXTS | st.none()))
def test_two_keys_have_two_ids(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    make = id_maker("shop.t", [0, 1])
    assert (make(one) == make(other)) == (one == other)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["tables", "query", "id_columns", "shop"]) | st.text(max_size=3), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(_JSON.filter(bool))
def test_the_validator_bears_anything(advanced: Any) -> None:
    results = QueryRulesValidator(["shop"], backslash_escapes=True).validate(advanced)
    assert all(not result.is_valid and result.validation_message for result in results)
