"""What relational sources do alike: full syncs, resuming, quick tries, incremental syncs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.byoc import Filter
from connectors.errors import ConfigurationError, RetryableError
from connectors.source import Checkpoint, Skipped
from connectors.sources.relational import SlowQueryError, TableDeniedError, TableGoneError
from tests.support.relational import SqliteDataSource, make_source, table

ORDERS = table("orders", "id name", "id", growth="id")


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
    connection.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO orders VALUES (?, ?)", [(number, f"n{number}") for number in range(1, 11)])
    yield connection
    connection.close()


async def _all(source: SqliteDataSource, filtering: Any = None, checkpoint: Any = None) -> list[Any]:
    return [item async for item in source.get_docs(filtering, checkpoint=checkpoint)]


def _ids(items: list[Any]) -> list[str]:
    return [item[0]["_id"] for item in items if isinstance(item, tuple)]


def _numbers(items: list[Any]) -> list[int]:
    return [item[0]["id"] for item in items if isinstance(item, tuple)]


async def test_a_table_is_read_in_chunks_and_gone_on_with_behind_any_checkpoint(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], batch_size=3)
    items = await _all(source)
    assert _ids(items) == [f"main.orders/{number}" for number in range(1, 11)]
    assert items[0][0] == {"_id": "main.orders/1", "id": 1, "name": "n1", "database": "main", "table": "orders"}
    for at, item in enumerate(items):
        if isinstance(item, Checkpoint):
            assert _numbers(items[:at]) + _numbers(await _all(source, checkpoint=item.state)) == list(range(1, 11))


async def test_a_lost_connection_is_tried_again_behind_the_last_row(database: sqlite3.Connection) -> None:
    lost = RetryableError("lost")
    source = make_source(database, [ORDERS], faults=[None, lost, lost, None, lost], batch_size=2)
    source._reader._sleep = _no_pause
    assert _numbers(await _all(source)) == list(range(1, 11))


async def test_it_is_given_up_after_three_tries_without_a_row(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], faults=[None, *[RetryableError("lost")] * 3])
    source._reader._sleep = _no_pause
    with pytest.raises(RetryableError, match="lost"):
        await _all(source)
    assert not source.faults


@pytest.mark.parametrize("fault", [SlowQueryError("slow"), TableDeniedError("denied"), ConfigurationError("wrong")])
async def test_what_a_second_try_cannot_mend_is_told_at_once(database: sqlite3.Connection, fault: Exception) -> None:
    source = make_source(database, [ORDERS], faults=[None, fault])
    with pytest.raises(type(fault), match=str(fault)):
        await _all(source)


async def test_what_cannot_be_paged_is_not_read_twice(database: sqlite3.Connection) -> None:
    loose = table("orders", "id? name", "id")
    source = make_source(database, [loose], faults=[None, RetryableError("lost")], batch_size=2)
    with pytest.raises(RetryableError):
        await _all(source)
    items = await _all(make_source(database, [loose], batch_size=2))
    assert len(_numbers(items)) == 10
    assert [item.state["pending"] for item in items if isinstance(item, Checkpoint)] == [[]]


async def test_a_query_without_an_answer_is_given_up(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], query_timeout=1)
    source._reader._timeout = 0.0
    with pytest.raises(SlowQueryError, match=r"the table main\.orders: SQLite sent no row"):
        await _all(source)


async def test_a_table_that_vanishes_makes_the_enumeration_incomplete(database: sqlite3.Connection) -> None:
    gone = table("gone", "id", "id")
    source = make_source(database, [gone, ORDERS])
    source.position = 1
    items = await _all(source)
    assert [item.id for item in items if isinstance(item, Skipped)] == [None]
    assert len(_numbers(items)) == 10
    assert await source.changed()


async def test_a_table_that_left_the_catalogue_is_looked_for(database: sqlite3.Connection) -> None:
    more = table("more", "id", "id")
    database.execute("CREATE TABLE more (id INTEGER PRIMARY KEY)")
    source = make_source(database, [more, ORDERS])
    state = (await _all(source))[0].state
    assert state["pending"] == ["main.orders"]
    source.denied = frozenset({"main.orders"})
    for checkpoint in (state, None):
        with pytest.raises(TableDeniedError):
            await _all(source, checkpoint=checkpoint)
    source.denied, source.catalogue = frozenset(), [more]
    assert any(isinstance(item, Skipped) for item in await _all(source, checkpoint=state))
    database.execute("DROP TABLE orders")
    (skipped,) = [item for item in await _all(source, checkpoint=state) if isinstance(item, Skipped)]
    assert "no such table" in skipped.reason
    assert not any(isinstance(item, Skipped) for item in await _all(source))


async def test_a_table_with_another_key_is_read_from_the_beginning(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], batch_size=3)
    state = (await _all(source))[3].state
    source.catalogue = [table("orders", "id name", "name")]
    assert len(_numbers(await _all(source, checkpoint=state))) == 10


async def test_changed_compares_with_the_position_before_the_first_read(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], updated_column="id")
    source.position = ["log", 1]
    assert await source.changed()
    stream = source.get_docs()
    await anext(stream)
    source.position = ["log", 2]
    assert [item async for item in stream]
    assert await source.changed(), "something was written while it read"
    await _all(source)
    assert not await source.changed()
    source.position = ["log", 3]
    assert [item async for item in source.get_docs_incrementally(source.sync_cursor())]
    assert await source.changed(), "deletes are still to be looked for"


async def test_the_position_is_that_of_the_beginning(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], updated_column="id", lookback_count=2, batch_size=3)
    stream = source.get_docs()
    items = [await anext(stream) for _ in range(4)]
    await stream.aclose()
    database.execute("INSERT INTO orders VALUES (11, 'late')")
    assert isinstance(items[3], Checkpoint)
    await _all(source, checkpoint=items[3].state)
    found = [item async for item in source.get_docs_incrementally(source.sync_cursor())]
    assert _numbers(found) == [8, 9, 10, 11]
    assert {item[2] for item in found if isinstance(item, tuple)} == {"index"}
    assert source.sync_cursor() == {"tables": {"main.orders": ["id", 11]}}


async def test_incremental_syncs_leave_out_what_does_not_grow(database: sqlite3.Connection) -> None:
    still, bare, gone = table("still", "a", "a"), table("bare", "a"), table("gone", "id", "id", growth="id")
    database.execute("CREATE TABLE still (a)")
    source = make_source(database, [still, bare, gone, ORDERS], updated_column="id")
    found = [item async for item in source.get_docs_incrementally(None)]
    assert len(_numbers(found)) == 10
    assert [type(item) for item in found if not isinstance(item, tuple)] == [Skipped]


async def test_an_incremental_sync_runs_queries_whole(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS], updated_column="id")
    rule = Filter.of(advanced={"main": {"orders": "SELECT * FROM orders WHERE id > 7"}})
    assert _numbers(await _all(source, rule)) == [8, 9, 10]
    found = [item async for item in source.get_docs_incrementally(source.sync_cursor(), rule)]
    assert _numbers(found) == [8, 9, 10]


async def test_what_the_configuration_names_must_be_there(database: sqlite3.Connection) -> None:
    named: list[tuple[dict[str, Any], str]] = [
        ({"tables": ["order"]}, 'there is no table "order".*did you mean "orders"'),
        ({"id_columns": "order(id)"}, 'there is no table "order"'),
        ({"id_columns": "orders(nr)"}, 'main.orders has no column "nr"'),
        ({"updated_column": "changed"}, "none of the 1 tables has a column changed"),
    ]
    for settings, words in named:
        with pytest.raises(ConfigurationError, match=words):
            await make_source(database, [ORDERS], **settings).ping()
    written: list[tuple[dict[str, Any], str]] = [
        ({"id_columns": "orders"}, "write it like"),
        ({"database": [" "]}, "name the database"),
        ({"batch_size": 0}, "greater than 0"),
    ]
    for settings, words in written:
        with pytest.raises(ConfigurationError, match=words):
            await make_source(database, [ORDERS], **settings).validate_config()
    with pytest.raises(ConfigurationError, match="updated_column"):
        await anext(make_source(database, [ORDERS]).get_docs_incrementally(None))


async def test_rules_are_judged_with_the_server(database: sqlite3.Connection) -> None:
    source = make_source(database, [ORDERS])
    for advanced, words in (
        ({"main": {"order": "SELECT * FROM orders"}}, 'no table "main.order"'),
        ({"main": {"orders": "SELECT name FROM orders"}}, 'the result has no column "id"'),
        ({"main": {"orders": "SELECT * FROM orders WHERE nr = 1"}}, "no such column"),
        ({"main": {"orders": "SELECT * FROM lost"}}, "no such table"),
    ):
        result = await source.validate_filtering(Filter.of(advanced=advanced))
        assert not result.is_valid
        assert words in str(result)
        assert "rule 1 (main.order" in str(result)
    good = Filter.of(advanced={"main": {"orders": "SELECT * FROM orders -- all"}})
    assert (await source.validate_filtering(good)).is_valid


async def test_a_result_with_two_columns_of_one_name_is_refused(database: sqlite3.Connection) -> None:
    rule = Filter.of(advanced={"main": {"orders": "SELECT id, name AS id FROM orders"}})
    with pytest.raises(ConfigurationError, match='two columns of the result are called "id"'):
        await _all(make_source(database, [ORDERS]), rule)


async def test_it_discovers_what_there_is(database: sqlite3.Connection) -> None:
    found = await make_source(database, [ORDERS, table("seen", "a", view=True)]).discover()
    assert [(item.name, item.description) for item in found] == [
        ("main.orders", "table of 2 columns, key id"),
        ("main.seen", "view of 1 column, without a key: needs id_columns"),
    ]


async def test_a_gone_table_has_no_position(database: sqlite3.Connection) -> None:
    source = make_source(database, [table("gone", "id", "id", growth="id")], updated_column="id")
    (skipped, _) = await _all(source)
    assert isinstance(skipped, Skipped)
    assert source.sync_cursor() == {"tables": {}}
    assert issubclass(TableGoneError, Exception)


async def _no_pause(_: float) -> None:
    pass
