# ruff: noqa: S608 - tables and values of the tests' own
"""The MySQL source on a real server: the acceptance kit, every type and key, queries, incremental syncs."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

import asyncmy
import pytest

from connectors.byoc import Filter
from connectors.errors import ConfigurationError
from connectors.source import Checkpoint, Skipped
from connectors.sources.mysql import MySQLDataSource
from connectors.testing.acceptance import SourceAcceptance
from tests.servers.mariadb import MariaDBServer
from tests.support.mysql import (
    READER,
    documents_of,
    fill,
    in_pieces,
    increment,
    opened,
    read_all,
    server,
    settings,
    shop,
)

pytestmark = pytest.mark.server
__all__ = ["server", "shop"]  # the fixtures are found by their names here


class Shop:
    """The data of the acceptance kit: two tables, one of them with a key of two columns."""

    def __init__(self, server: MariaDBServer) -> None:
        self._server = server
        self._next = 1000

    async def __aenter__(self) -> Self:
        await fill(self._server, 12)
        await self._server.aexecute(
            "CREATE TABLE shop.lines (product VARCHAR(20), number INT, updated TIMESTAMP(6) NOT NULL DEFAULT NOW(6), "
            "PRIMARY KEY (product, number))",
            "INSERT INTO shop.lines (product, number) VALUES ('tea', 1), ('tea', 2), ('salt/pepper', 1)",
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.aexecute("DROP TABLE IF EXISTS shop.orders, shop.lines")

    async def add(self) -> str:
        self._next += 1
        await self._server.aexecute(f"INSERT INTO shop.orders (id, name) VALUES ({self._next}, 'new')")
        return f"shop.orders/{self._next}"

    async def change(self) -> str:
        self._next += 1
        await self._server.aexecute(
            f"UPDATE shop.orders SET name = 'changed {self._next}', updated = NOW(6) WHERE id = 5"
        )
        return "shop.orders/5"

    async def delete(self) -> str:
        ((number,),) = await self._server.aexecute("SELECT MAX(id) FROM shop.orders WHERE id <> 5")
        await self._server.aexecute(f"DELETE FROM shop.orders WHERE id = {number}")
        return f"shop.orders/{number}"

    async def spoil(self) -> None:
        """Takes its key from one of the tables."""
        await self._server.aexecute("ALTER TABLE shop.lines DROP PRIMARY KEY")

    async def cut(self) -> None:
        await self._server.cut(READER)

    async def connections(self) -> int:
        return await self._server.connections(READER)


class TestAcceptance(SourceAcceptance):
    source_class = MySQLDataSource

    @pytest.fixture(autouse=True)
    def _server(self, shop: MariaDBServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(MySQLDataSource, "partition_rows", 2)
        shop.execute(f"GRANT {shop.watching} ON *.* TO '{READER}'@'%'")
        self.server = shop

    def data(self, folder: Path) -> Shop:
        return Shop(self.server)

    def configuration(self, data: Shop) -> dict[str, Any]:
        return settings(self.server, updated_column=["updated"], batch_size=3)

    def wrong_configuration(self, data: Shop) -> list[dict[str, Any]]:
        return [{"password": "wrong"}, {"database": ["shp"]}, {"tables": ["order"]}]

    good_advanced_rules = (
        {"shop": {"orders": "SELECT id, name FROM orders WHERE name LIKE '%1%';"}},
        [{"tables": ["orders", "lines"], "query": "SELECT o.id, l.* FROM orders o, `lines` l"}],
    )
    bad_advanced_rules = (
        {"shop": {"orders": "DELETE FROM orders"}},
        {"shop": {"orders": "SELECT name FROM orders"}},
        {"shop": {"order": "SELECT * FROM orders"}},
        {"shop": {"orders": "SELECT * FROM orders WHERE"}},
        [{"tables": ["orders"], "query": "SELECT * FROM orders", "id_columns": ["nr"]}],
        [{"tables": ["orders", "lines"], "query": "SELECT * FROM orders JOIN `lines` ON number = id"}],
    )


# Values and keys


async def test_every_type_becomes_a_value_that_says_what_it_is(shop: MariaDBServer) -> None:
    await shop.aexecute(
        "CREATE TABLE shop.types (id BIGINT UNSIGNED PRIMARY KEY, price DECIMAL(30,10), doc JSON, flag BIT(1), "
        "bits BIT(9), raw BLOB, place POINT, local DATETIME(6) NULL, moment TIMESTAMP NULL, day DATE NULL, span TIME, "
        "year YEAR, tags SET('a','b'), kind ENUM('x','y'), ratio DOUBLE, text TEXT, `odd%s ``name` INT, _id INT, "
        "`table` INT)",
        "SET time_zone = '+02:00', sql_mode = ''",
        "INSERT INTO shop.types VALUES (18446744073709551615, 12345678901234567890.0123456789, "
        "'{\"a\": [1, 2.5, null]}', b'1', b'101010101', x'00ff', ST_PointFromText('POINT(1 2)'), "
        "'2024-02-29 12:00:00.000001', '2024-02-29 12:00:00', '2024-02-29', '-838:59:59', 2024, 'a,b', 'y', 1.5, "
        "'h\u00e9llo \U0001f389', 5, 6, 7)",
        "INSERT INTO shop.types (id, local, moment, day, tags) VALUES (2, 0, 0, '2024-00-00', '')",
        "INSERT INTO shop.types (id) VALUES (3)",
    )
    async with opened(shop, time_zone="Europe/Berlin") as source:
        documents = documents_of(await read_all(source))
    assert documents["shop.types/18446744073709551615"] == {
        "_id": "shop.types/18446744073709551615",
        "id": 2**64 - 1,
        "price": Decimal("12345678901234567890.0123456789"),
        "doc": {"a": [1, 2.5, None]},
        "flag": True,
        "bits": 0b101010101,
        "raw": b"\x00\xff",
        "place": "POINT(1 2)",
        "local": datetime(2024, 2, 29, 12, 0, 0, 1, ZoneInfo("Europe/Berlin")),
        "moment": datetime(2024, 2, 29, 10, 0, 0),  # noqa: DTZ001 - without a zone is UTC
        "day": date(2024, 2, 29),
        "span": "-838:59:59",
        "year": 2024,
        "tags": ["a", "b"],
        "kind": "y",
        "ratio": 1.5,
        "text": "h\u00e9llo \U0001f389",
        "odd%s `name": 5,
        "_id_": 6,
        "table": 7,
        "database": "shop",
    }
    zero = documents["shop.types/2"]
    assert (zero["local"], zero["moment"], zero["day"], zero["tags"]) == (None, None, None, [])
    assert {value for key, value in documents["shop.types/3"].items() if key not in ("_id", "id", "database")} == {None}


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("BINARY(3)", ["x'000001'", "x'00ff27'", "x'5c2700'", "x'ffffff'"]),
        ("VARCHAR(20) COLLATE utf8mb4_general_ci", ["'a'", "'B'", "'c%'", "'d/\\\\'''", "'\u00e9'"]),
        ("VARCHAR(20) CHARACTER SET latin1", ["''", "'\u00fc'", "'z'"]),
        ("DECIMAL(20,5)", ["-1.5", "0", "0.00001", "99999999999.00001"]),
        ("DATETIME(6)", ["'2024-01-01'", "'2024-01-01 00:00:00.000001'", "'2025-01-01'"]),
        ("DATE", ["'1000-01-01'", "'2024-01-01'", "'9999-12-31'"]),
        ("TIME", ["'-10:00:00'", "'00:00:01'", "'100:00:00'"]),
        ("BIGINT UNSIGNED", ["0", "9223372036854775808", "18446744073709551615"]),
    ],
)
async def test_a_table_can_be_read_on_behind_any_key(shop: MariaDBServer, kind: str, values: list[str]) -> None:
    await _read_on_behind_each_key(shop, kind, values)


@pytest.mark.parametrize("server", [MariaDBServer], indirect=True)
async def test_a_type_that_only_mariadb_has_is_a_key_like_others(shop: MariaDBServer) -> None:
    given = ["'00000000-0000-0000-0000-000000000001'", "'ffffffff-ffff-4fff-bfff-ffffffffffff'", "UUID()"]
    await _read_on_behind_each_key(shop, "UUID", given)


async def _read_on_behind_each_key(shop: MariaDBServer, kind: str, values: list[str]) -> None:
    rows = ", ".join(f"({value}, {number})" for value in values for number in range(3))
    await shop.aexecute(
        f"CREATE TABLE shop.keyed (k {kind}, n INT, PRIMARY KEY (k, n))", f"INSERT INTO shop.keyed VALUES {rows}"
    )
    async with in_pieces(shop) as source:
        items = await read_all(source)
        whole = documents_of(items)
        assert len(whole) == 3 * len(values) == sum(isinstance(item, tuple) for item in items)
        for at, item in enumerate(items):
            if isinstance(item, Checkpoint):
                rest = await read_all(source, checkpoint=item.state)
                assert documents_of(items[:at]) | documents_of(rest) == whole
                assert not documents_of(items[:at]).keys() & documents_of(rest).keys()


async def test_keys_views_and_tables_without_a_key(shop: MariaDBServer) -> None:
    await shop.aexecute(
        "CREATE TABLE shop.bare (a INT, b INT)",
        "INSERT INTO shop.bare VALUES (1, 1), (1, 2), (NULL, 3)",
        "CREATE TABLE shop.alike (n INT NOT NULL, u VARCHAR(9) NOT NULL, m INT UNIQUE, UNIQUE (u))",
        "INSERT INTO shop.alike VALUES (1, 'x', NULL), (2, 'y', NULL)",
        "CREATE VIEW shop.seen AS SELECT n, u FROM shop.alike",
    )
    async with opened(shop) as source:
        items = await read_all(source)
        assert [item.reason.split(":")[0] for item in items if isinstance(item, Skipped)] == [
            "the table shop.bare has neither a primary key nor a unique key without NULLs"
        ]
        assert documents_of(items).keys() == {"shop.alike/x", "shop.alike/y"}
        assert await source.changed()
    async with opened(shop, tables=["bare", "seen"], id_columns=["bare(a, b)", "seen(N)"]) as source:
        found = documents_of(await read_all(source))
        assert found.keys() == {"shop.bare/1/1", "shop.bare/1/2", "shop.bare/%N/3", "shop.seen/1", "shop.seen/2"}
    async with opened(shop, id_columns="bare(a, c)") as source:
        with pytest.raises(ConfigurationError, match='bare has no column "c"'):
            await source.ping()


async def test_several_databases_and_what_there_is(shop: MariaDBServer) -> None:
    await fill(shop, 3)
    await shop.aexecute(
        "DROP DATABASE IF EXISTS annex", "CREATE DATABASE annex", f"GRANT SELECT ON annex.* TO {READER}"
    )
    await fill(shop, 2, "annex.orders")
    async with opened(shop, database="shop, annex", tables=["*.orders"]) as source:
        assert len(documents_of(await read_all(source))) == 5
        assert [found.name for found in await source.discover()] == ["annex.orders", "shop.orders"]
        rule = [{"tables": ["annex.orders"], "query": "SELECT id FROM orders"}]
        assert (await source.validate_filtering(Filter.of(advanced=rule))).is_valid
        assert documents_of(await read_all(source, Filter.of(advanced=rule))).keys() == {
            "annex.orders/1",
            "annex.orders/2",
        }
        loose = Filter.of(advanced=[{"tables": ["orders"], "query": "SELECT id FROM orders"}])
        assert "write which one of shop, annex" in str(await source.validate_filtering(loose))
    await shop.aexecute("DROP DATABASE annex")


# Queries


async def test_a_query_cannot_write(shop: MariaDBServer) -> None:
    await fill(shop, 3)
    await shop.aexecute(
        "CREATE FUNCTION shop.sly() RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN DELETE FROM shop.orders; RETURN 1; END",
        f"GRANT ALL ON shop.* TO {READER}",
    )
    async with opened(shop) as source:
        with pytest.raises(ConfigurationError, match="READ ONLY"):
            await read_all(source, Filter.of(advanced={"shop": {"orders": "SELECT id, sly() FROM orders"}}))
        assert len(documents_of(await read_all(source))) == 3
    await shop.aexecute(f"REVOKE ALL ON shop.* FROM {READER}")


async def test_a_query_keeps_its_ids_and_its_percent_signs(shop: MariaDBServer) -> None:
    await fill(shop, 30)
    async with opened(shop) as source:
        table = documents_of(await read_all(source))
        rule = Filter.of(advanced={"shop": {"orders": "SELECT * FROM orders WHERE name LIKE '%er 1%' -- the first"}})
        assert (await source.validate_filtering(rule)).is_valid
        found = documents_of(await read_all(source, rule))
    assert len(found) == 11
    assert found == {key: table[key] for key in found}


async def test_changed_is_false_only_while_nothing_was_written(shop: MariaDBServer) -> None:
    await fill(shop, 3)
    async with opened(shop) as source:
        await read_all(source)
        assert await source.changed(), "the user may not see the position of the log"
    await shop.aexecute(f"GRANT {shop.watching} ON *.* TO '{READER}'@'%'")
    async with opened(shop) as source:
        assert await source.changed(), "nothing was read yet"
        await read_all(source)
        assert not await source.changed()
        assert not await source.changed()
        await shop.aexecute("DELETE FROM shop.orders WHERE id = 3")
        assert await source.changed()
        await read_all(source)
        assert not await source.changed()


# Incremental syncs


async def test_late_commits_and_rows_of_one_second_are_met(shop: MariaDBServer) -> None:
    await shop.aexecute(
        "CREATE TABLE shop.news (id INT PRIMARY KEY, updated TIMESTAMP NOT NULL DEFAULT NOW())",
        "INSERT INTO shop.news VALUES (1, NOW() - INTERVAL 1 HOUR)",
    )
    late = await asyncmy.connect(host=shop.host, port=shop.port, user=shop.user, password=shop.password)
    async with opened(shop, updated_column="changed, updated", lookback=60) as source:
        await late.cursor().execute("INSERT INTO shop.news VALUES (2, NOW() - INTERVAL 30 SECOND)")
        await shop.aexecute("INSERT INTO shop.news VALUES (3, NOW())")
        assert documents_of(await read_all(source)).keys() == {"shop.news/1", "shop.news/3"}
        await late.commit()
        await shop.aexecute("INSERT INTO shop.news SELECT 4, updated FROM shop.news WHERE id = 3")
        found = await increment(source, source.sync_cursor())
        assert found.keys() == {"shop.news/2", "shop.news/3", "shop.news/4"}
    await late.ensure_closed()


async def test_a_date_in_the_far_future_does_not_hide_what_comes(shop: MariaDBServer) -> None:
    await shop.aexecute(
        "CREATE TABLE shop.plans (id INT PRIMARY KEY, updated DATETIME)",
        "INSERT INTO shop.plans VALUES (1, '2099-01-01'), (2, UTC_TIMESTAMP())",
    )
    async with opened(shop, updated_column=["updated"]) as source:
        await read_all(source)
        await shop.aexecute("INSERT INTO shop.plans VALUES (3, UTC_TIMESTAMP())")
        assert "shop.plans/3" in await increment(source, source.sync_cursor())


async def test_numbers_grow_too_and_new_tables_are_read_whole(shop: MariaDBServer) -> None:
    await fill(shop, 100)
    await shop.aexecute("CREATE TABLE shop.still (id INT PRIMARY KEY, a INT)", "INSERT INTO shop.still VALUES (1, 1)")
    async with opened(shop, updated_column=["nr", "id"], lookback_count=10, exclude_tables=["still"]) as source:
        await read_all(source)
        cursor = source.sync_cursor()
        await shop.aexecute("INSERT INTO shop.orders (id) VALUES (101)", "CREATE TABLE shop.born (id INT PRIMARY KEY)")
        await shop.aexecute("INSERT INTO shop.born VALUES (1), (2)")
        found = await increment(source, cursor)
        assert found.keys() == {f"shop.orders/{n}" for n in range(90, 102)} | {"shop.born/1", "shop.born/2"}
    async with opened(shop) as source:
        with pytest.raises(ConfigurationError, match="updated_column"):
            await increment(source, cursor)
