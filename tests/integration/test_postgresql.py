"""The PostgreSQL source on a real server: the acceptance kit, every type, and what goes wrong in the middle."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import pytest

from connectors.errors import ConfigurationError, RetryableError
from connectors.source import Checkpoint, DataSourceConfiguration, Skipped
from connectors.sources.postgresql import PostgreSQLDataSource
from connectors.sources.relational import SlowQueryError, TableDeniedError, reader
from connectors.testing.acceptance import SourceAcceptance
from tests.servers.postgres import PostgresServer
from tests.support.postgres import READER, Shop, documents, everything, following, server

pytestmark = pytest.mark.server
__all__ = ["server"]  # the fixture is found by its name here

NOTES = "CREATE TABLE notes (id int PRIMARY KEY, text text, changed timestamptz NOT NULL DEFAULT clock_timestamp())"


@pytest.fixture
def shop(server: PostgresServer) -> Iterator[Shop]:
    shop = Shop(server)
    yield shop
    shop.drop()


class Notes(Shop):
    """A table of notes, as the acceptance kit changes it."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server)
        self.run(NOTES, "INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 40) n")
        self.give("notes")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.drop()

    def add(self) -> str:
        added = self.run("INSERT INTO notes SELECT max(id) + 1, 'added' FROM notes RETURNING id")
        return f"public.notes/{added[0][0]}"

    def change(self) -> str:
        self.run("UPDATE notes SET text = text || ' changed', changed = clock_timestamp() WHERE id = 7")
        return "public.notes/7"

    def delete(self) -> str:
        self.run("DELETE FROM notes WHERE id = 9")
        return "public.notes/9"

    def spoil(self) -> None:
        self.run("CREATE TABLE loose AS SELECT 1 AS n")  # without a key


class TestAcceptance(SourceAcceptance):
    source_class = PostgreSQLDataSource
    incremental_sees_deletes = False
    good_advanced_rules = (
        {"public": {"notes": "SELECT * FROM notes WHERE id < 20"}},
        [{"tables": ["notes"], "query": "SELECT id AS number, text FROM notes;", "id_columns": ["number"]}],
    )
    bad_advanced_rules = (
        {"public": {"nothing": "SELECT 1 AS id"}},
        {"public": {"notes": "SELECT nothing FROM notes"}},
        {"public": {"notes": "DELETE FROM notes"}},
        [{"tables": ["notes"], "query": "SELECT 1; SELECT 2"}],
        ["notes"],
    )

    @pytest.fixture(autouse=True)
    def _server(self, server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PostgreSQLDataSource, "partition_rows", 12)
        self.server = server

    def data(self, folder: Path) -> Notes:
        return Notes(self.server)

    def configuration(self, data: Notes) -> dict[str, Any]:
        return data.settings(batch_size=10, updated_column="changed")

    def wrong_configuration(self, data: Notes) -> list[dict[str, Any]]:
        return [
            data.settings(password="wrong"),
            data.settings(database="nothing"),
            data.settings(schema="nothing"),
            data.settings(user="nobody_at_all"),
        ]


class TestAcceptanceFollowingChanges(TestAcceptance):
    incremental_sees_deletes = True

    def configuration(self, data: Notes) -> dict[str, Any]:
        return data.settings(batch_size=10, change_data_capture=True)


TYPES = r"""
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE place AS (x int, name text);
CREATE TABLE every (
  id uuid PRIMARY KEY, small smallint, large bigint, exact numeric, nan numeric, real float8, yes bool, bytes bytea,
  details jsonb, huge json, list int[], grid text[], r int4range, open tstzrange, nothing int4range,
  many int4multirange, span interval, words tsvector, at timestamptz, local timestamp, day date, never timestamptz,
  bc date, mood mood,
  moods mood[], positive positive, place place, boxes box[], bits bit(3), address inet, markup xml, clock time,
  code char(4), empty text, none text, odd text, doubled int GENERATED ALWAYS AS (small * 2) STORED);
INSERT INTO every VALUES (
  '0191d6a2-0000-7000-8000-000000000001', 7, 9007199254740993, 1.10, 'NaN', 'Infinity', true, '\xdeadbeef',
  '{"a": [1, null], "q": "x\"y"}', '{"n": 1e400}', '{1,NULL,3}', '{{"a,b","c\"d"},{"","NULL"}}', '[1,10)',
  '["2026-01-01 00:00+02",)', 'empty', '{[1,3),[5,6)}', '1 year 2 days 3.5 seconds', to_tsvector('simple', 'fat cats'),
  '2026-01-01 00:00:00.123456+02', '2026-01-01 08:00', '2026-02-03', 'infinity', '0044-03-15 BC', 'glad',
  '{sad,NULL}', 4, '(1,"a b")', '{(1,1),(0,0);(2,2),(1,1)}', B'101', '10.0.0.1/8', '<a/>', '12:30', 'ab', '', NULL,
  E'tab\t line\n back\\ \\N ümlaut 😀', DEFAULT);
"""
EXPECTED = {
    "small": 7,
    "large": 9007199254740993,
    "exact": Decimal("1.10"),
    "real": float("inf"),
    "yes": True,
    "bytes": b"\xde\xad\xbe\xef",
    "details": {"a": [1, None], "q": 'x"y'},
    "huge": {"n": Decimal("1e400")},
    "list": [1, None, 3],
    "grid": [["a,b", 'c"d'], ["", "NULL"]],
    "r": {"gte": 1, "lt": 10},
    "open": {"gte": datetime(2025, 12, 31, 22, tzinfo=UTC)},
    "nothing": None,
    "many": [{"gte": 1, "lt": 3}, {"gte": 5, "lt": 6}],
    "span": "P1Y2DT3.5S",
    "words": "'cats':2 'fat':1",
    "at": datetime(2025, 12, 31, 22, 0, 0, 123456, tzinfo=UTC),
    "local": datetime(2026, 1, 1, 8),  # noqa: DTZ001 - the column has no zone
    "day": date(2026, 2, 3),
    "never": None,
    "bc": None,
    "mood": "glad",
    "moods": ["sad", None],
    "positive": 4,
    "place": '(1,"a b")',
    "boxes": ["(1,1),(0,0)", "(2,2),(1,1)"],
    "bits": "101",
    "address": "10.0.0.1/8",
    "markup": "<a/>",
    "clock": "12:30:00",
    "code": "ab  ",
    "empty": "",
    "none": None,
    "odd": "tab\t line\n back\\ \\N ümlaut 😀",
    "doubled": 14,
    "schema": "public",
    "table": "every",
}


async def test_every_type(shop: Shop) -> None:
    shop.run(*TYPES.strip().split(";\n"))
    async with shop.source() as source:
        found, skipped = await everything(source)
    (document,) = found.values()
    assert document.pop("_id") == "public.every/0191d6a2-0000-7000-8000-000000000001"
    assert document.pop("nan").is_nan()
    assert str(document.pop("id")) == "0191d6a2-0000-7000-8000-000000000001"
    assert document == EXPECTED
    assert not skipped


async def test_tables_keys_and_views(shop: Shop) -> None:
    shop.run(
        'CREATE TABLE "Odd ""name""" ("Key/1" text, b int, PRIMARY KEY ("Key/1", b))',
        'INSERT INTO "Odd ""name""" VALUES (\'a/b%\', 1), (\'a\', 2)',
        "CREATE TABLE uniq (a int NOT NULL UNIQUE, b int UNIQUE); INSERT INTO uniq VALUES (1, NULL)",
        "CREATE TABLE loose (a int, b int); INSERT INTO loose VALUES (1, 2)",
        "CREATE TABLE parted (d date, n int, PRIMARY KEY (d, n)) PARTITION BY RANGE (d)",
        "CREATE TABLE parted_26 PARTITION OF parted FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
        "INSERT INTO parted VALUES ('2026-05-01', 1)",
        "CREATE VIEW seen AS SELECT a FROM uniq; CREATE MATERIALIZED VIEW kept AS SELECT a FROM uniq",
        "CREATE SCHEMA other; CREATE TABLE other.things (id int PRIMARY KEY); INSERT INTO other.things VALUES (5)",
        f"GRANT USAGE ON SCHEMA other TO {READER}; GRANT SELECT ON other.things TO {READER}",
    )
    async with shop.source(schema=["public", "other"]) as source:
        found, skipped = await everything(source)
        assert set(found) == {
            'public.Odd "name"/a%2Fb%25/1',
            'public.Odd "name"/a/2',
            "public.uniq/1",
            "public.parted/2026-05-01/1",
            "other.things/5",
        }
        assert "loose" in skipped[0]
    named = {"tables": ["loose", "seen", "kept"], "id_columns": "loose(a, b), seen(a), kept(a)"}
    async with shop.source(**named) as source:
        found, skipped = await everything(source)
        assert set(found) == {"public.loose/1/2", "public.seen/1", "public.kept/1"}
        assert not skipped


async def test_rules_read_in_their_schema_and_only_read(shop: Shop) -> None:
    shop.run("CREATE SCHEMA other; CREATE TABLE other.t (id int PRIMARY KEY, n int); INSERT INTO other.t VALUES (1, 5)")
    shop.run(f"GRANT USAGE ON SCHEMA other TO {READER}; GRANT ALL ON other.t TO {READER}")
    async with shop.source(schema=["public", "other"]) as source:
        query = "SELECT id, n, '50%' AS share FROM t WHERE '$1' <> '%s' -- ;"
        found, _ = await everything(source, {"other": {"t": query}})
        assert found["other.t/1"]["share"] == "50%"
        writing = "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone"
        with pytest.raises(ConfigurationError, match="read-only transaction"):
            await everything(source, {"other": {"t": writing}})
    assert shop.run("SELECT count(*) FROM other.t") == [(1,)]


async def test_a_cut_connection_goes_on_behind_the_last_row(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_PAUSE", 0.01)
    shop.run(NOTES, "INSERT INTO notes SELECT n, repeat('words ', 2000) FROM generate_series(1, 2000) n")
    async with shop.source(batch_size=50) as source:
        items: list[Any] = []
        async for item in source.get_docs():
            items.append(item)
            if len(items) in {100, 800}:
                await asyncio.to_thread(shop.cut)
    assert len(documents(items)) == 2000
    assert len([item for item in items if isinstance(item, tuple)]) == 2000  # none twice


async def test_a_crashed_server_suspends_and_the_rest_is_read_afterwards(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shop.server.is_ours:
        pytest.skip("the server's processes are not ours to kill")
    monkeypatch.setattr(reader, "_PAUSE", 0.01)
    shop.run(NOTES, "INSERT INTO notes SELECT n, repeat('words ', 2000) FROM generate_series(1, 2000) n", "CHECKPOINT")
    items: list[Any] = []
    async with shop.source(batch_size=50) as source:

        async def read() -> None:
            async for item in source.get_docs():
                items.append(item)
                if len(items) == 300:
                    pid = shop.run("SELECT pid FROM pg_stat_activity WHERE usename = 'reader'")[0][0]
                    os.kill(pid, signal.SIGKILL)  # one process that dies makes the server restart all of them
                    monkeypatch.setattr(source.pool, "_open", _refuse)

        with pytest.raises(RetryableError):
            await read()
        checkpoint = [item.state for item in items if isinstance(item, Checkpoint)][-1]
        monkeypatch.undo()
        await asyncio.to_thread(shop.server.wait)
        found, _ = await everything(source, checkpoint=checkpoint)
    assert set(documents(items)) | set(found) == {f"public.notes/{n}" for n in range(1, 2001)}
    assert len(found) < 2000


async def _refuse() -> Any:
    raise RetryableError("the server is down")


async def test_a_dropped_table_deletes_nothing(shop: Shop) -> None:
    shop.run(NOTES, "INSERT INTO notes SELECT n FROM generate_series(1, 500) n", "CREATE TABLE z AS SELECT 1 AS id")
    shop.run("ALTER TABLE z ADD PRIMARY KEY (id)")
    async with shop.source(batch_size=50) as source:
        items: list[Any] = []
        async for item in source.get_docs():
            items.append(item)
            if len(items) == 60:
                shop.run("DROP TABLE z")
    assert len(documents(items)) == 500
    assert any(isinstance(item, Skipped) and "public.z" in item.reason for item in items)


async def test_a_revoked_grant_is_an_error_and_no_empty_table(shop: Shop) -> None:
    shop.run(NOTES, "INSERT INTO notes VALUES (1)", f"REVOKE ALL ON notes FROM {READER}")
    async with shop.source() as source:
        with pytest.raises(TableDeniedError, match="permission denied for table notes"):
            await everything(source)


async def test_a_slow_query_is_ended_on_the_server_too(shop: Shop) -> None:
    shop.run(NOTES)
    async with shop.source(query_timeout=1) as source:
        with pytest.raises(SlowQueryError):
            await everything(source, {"public": {"notes": "SELECT 1 AS id, pg_sleep(60)"}})
        await source.ping()
        running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'COPY%'"
        assert shop.run(running) == [(0,)]


async def test_changed_is_false_only_while_nothing_was_written(shop: Shop) -> None:
    shop.run(NOTES, "INSERT INTO notes VALUES (1)", "CREATE VIEW now AS SELECT 1 AS id, clock_timestamp()")
    async with shop.source() as source:
        assert await source.changed()
        await everything(source)
        assert not await source.changed()
        with shop.server.connect("shop") as other, other.transaction():
            other.execute("INSERT INTO notes VALUES (2)")
            assert not await source.changed()  # it is not to be seen yet
        assert await source.changed()
        await everything(source)
        assert not await source.changed()
    async with shop.source(tables=["*", "now"], id_columns="now(id)") as source:
        await everything(source)
        assert await source.changed()  # a view may change by itself


async def test_incremental_by_column_meets_a_transaction_that_was_committed_late(shop: Shop) -> None:
    shop.run(NOTES, "INSERT INTO notes VALUES (1), (2)")
    async with shop.source(updated_column="changed") as source:
        with shop.server.connect("shop") as late, late.transaction():
            late.execute("INSERT INTO notes VALUES (3)")
            shop.run("INSERT INTO notes VALUES (4)")
            found, _ = await everything(source)
            assert "public.notes/3" not in found
        found, _ = await following(source, source.sync_cursor())
        assert "public.notes/3" in found


async def test_wide_rows_come_in_small_batches(shop: Shop) -> None:
    shop.run("CREATE TABLE wide (id int PRIMARY KEY, text text)")
    shop.run("INSERT INTO wide SELECT n, repeat(md5(n::text), 32768) FROM generate_series(1, 40) n")  # 1 MiB each
    async with shop.source(batch_size=1000) as source, aclosing(source.get_docs()) as items:
        checkpoints = [item async for item in items if isinstance(item, Checkpoint)]
    assert len(checkpoints) >= 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password": "wrong"}, "password"),
        ({"database": "nothing"}, "nothing"),
        ({"ssl_enabled": True, "ssl_verify": False}, "ssl_"),
        ({"ssl_enabled": True, "ssl_ca": "nowhere.pem"}, "nowhere.pem"),
        ({"schema": ["nothing"]}, "nothing"),
    ],
)
async def test_what_is_wrong_is_said(shop: Shop, settings: dict[str, Any], words: str) -> None:
    defaults = PostgreSQLDataSource.get_default_configuration()
    source = PostgreSQLDataSource(DataSourceConfiguration.merge(defaults, shop.settings(**settings)))
    with pytest.raises(ConfigurationError, match=words):
        await source.ping()
    await source.close()


async def test_a_server_that_is_not_there_is_tried_again(shop: Shop) -> None:
    defaults = PostgreSQLDataSource.get_default_configuration()
    source = PostgreSQLDataSource(DataSourceConfiguration.merge(defaults, shop.settings(port=1)))
    with pytest.raises(RetryableError, match="refused"):
        await source.ping()
    await source.close()
