# ruff: noqa: S608 - tables and values of the test's own
"""A shop in PostgreSQL: four tables with keys of several kinds, whose changes are followed in the server's log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.ftest.harness import Expected
from tests.ftest.shop import NEW, ShopCase
from tests.servers.postgres import PostgresServer

__all__ = ["PostgreSQLCase"]

_DATABASE: Final = "shop"
_TABLES: Final = """
CREATE TYPE state AS ENUM ('open', 'paid', 'sent', 'void');
CREATE SCHEMA stock;
CREATE TABLE customers (id int PRIMARY KEY, name text, profile jsonb, picture bytea, tags text[], since date);
CREATE TABLE orders (
  number bigint PRIMARY KEY, state state, total numeric(12, 2), note text, changed timestamptz, valid int4range,
  doubled numeric GENERATED ALWAYS AS (total * 2) STORED);
ALTER TABLE orders ALTER note SET STORAGE EXTERNAL; -- long notes stand outside of their rows
CREATE TABLE order_lines (
  order_number bigint, product text, pieces int, PRIMARY KEY (order_number, product)) PARTITION BY HASH (order_number);
CREATE TABLE order_lines_0 PARTITION OF order_lines FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE order_lines_1 PARTITION OF order_lines FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE stock.items (code uuid NOT NULL UNIQUE, description text, span interval);
ALTER TABLE stock.items REPLICA IDENTITY USING INDEX items_code_key;
"""
_FILL: Final = {
    "customers": "n, 'Customer ' || n || ' é🎉', jsonb_build_object('age', n % 99, 'none', NULL, 'words', '{words}'), "
    "decode(md5(n::text), 'hex'), ARRAY['a,b', 'tag ' || n % 10, NULL], date '2026-01-01' + n % 365",
    "orders": "n, (ARRAY['open','paid','sent','sent','sent','sent','sent','sent','sent','void'])[1 + n % 10]::state, "
    "(n::bigint * 7919 % 10000000) / 100.0, repeat('{words} ' || n, CASE WHEN n % 50 = 0 THEN 200 ELSE 1 END), "
    "timestamptz '2026-01-01 12:00+01' + n * interval '1 second', int4range(n % 1000, n % 1000 + 10)",
    "order_lines": "n, '{words}/' || n % 7, n % 100",
    "stock.items": "md5(n::text)::uuid, '{words}', n * interval '1 minute'",
}
#: The server itself says what each document must be, as JSON.
_TRUTH: Final = {
    "customers": "SELECT id::text, jsonb_build_object('id', id, 'name', name, 'profile', profile, 'picture', "
    "encode(picture, 'base64'), 'tags', tags, 'since', since) FROM customers",
    "orders": "SELECT number::text, jsonb_build_object('number', number, 'state', state, 'total', total, 'note', note, "
    "'changed', to_char(changed AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), 'valid', "
    "jsonb_build_object('gte', lower(valid), 'lt', upper(valid)), 'doubled', doubled) FROM orders",
    "order_lines": "SELECT order_number || '/' || replace(product, '/', '%2F'), "
    "jsonb_build_object('order_number', order_number, 'product', product, 'pieces', pieces) FROM order_lines",
    "stock.items": "SELECT code::text, jsonb_build_object('code', code, 'description', description) FROM stock.items",
}


class PostgreSQLCase(ShopCase):
    """One fifth customers, two fifths orders, one fifth each lines and items."""

    service_type = "postgresql"
    kind = PostgresServer

    def prepare(self) -> None:
        """Starts the server and fills the tables."""
        self.server.start()
        self.server.create_database(_DATABASE)
        self._execute(_TABLES)
        fifth = self.size // 5
        for table in _FILL:
            self._insert(table, 1, self.size - 3 * fifth if table == "orders" else fifth)

    def configuration(self) -> dict[str, Any]:
        """Returns the way to the server."""
        return {
            "host": self.server.host,
            "port": self.server.port,
            "user": self.server.user,
            "password": self.server.password,
            "database": _DATABASE,
            "schema": ["public", "stock"],
            "change_data_capture": True,
        }

    def expected(self) -> dict[str, Expected]:
        """Has the server tell each row as JSON."""
        found = {}
        for name, truth in _TRUTH.items():
            schema, _, table = name.rpartition(".")
            schema = schema or "public"
            for key, values in self._execute(truth):
                found[f"{schema}.{table}/{key}"] = Expected({**values, "schema": schema, "table": table})
        return found

    def mutate(self) -> dict[str, int]:
        """Adds, changes and deletes some hundred rows."""
        self._add(50)
        changed = self._change(120)
        return {"added": 200, "changed": changed, "deleted": self._delete("id % 40 = 7")}

    def mutate_incrementally(self) -> Mapping[str, int]:
        """The same again, as the log tells it: deletes are seen, and so is a row that got another key."""
        self._add(300)
        changed = self._change(130)
        deleted = self._delete("id % 40 = 9")
        self._execute("UPDATE order_lines SET product = 'moved' WHERE order_number = 11")
        return {"added": 1200, "changed": changed + 1, "deleted": deleted + 1}

    def advanced(self) -> tuple[Any, Sequence[str]]:
        """Leaves out orders that were paid; the documents of the others stay the same to the byte."""
        queries: list[dict[str, Any]] = [
            {"tables": [f"public.{table}"], "query": f"SELECT * FROM {table}"} for table in ("customers", "order_lines")
        ]
        queries.append(
            {
                "tables": ["public.orders"],
                "query": "SELECT * FROM orders WHERE state <> 'paid';",
                "id_columns": ["number"],
            }
        )
        queries.append({"tables": ["stock.items"], "query": "WITH i AS (SELECT * FROM items) SELECT * FROM i"})
        return queries, self.orders("paid")

    def orders(self, state: str) -> list[str]:
        """Returns the ids of the orders in this state."""
        return [
            f"public.orders/{row[0]}" for row in self._execute(f"SELECT number FROM orders WHERE state = '{state}'")
        ]

    def _add(self, count: int) -> None:
        for table in _FILL:
            self._insert(table, self.next, self.next + count - 1)
        self.next += count

    def _insert(self, table: str, first: int, last: int) -> None:
        words = self.words(20)
        columns = "(number, state, total, note, changed, valid)" if table == "orders" else ""
        values = _FILL[table].format(words=words)
        self._execute(f"INSERT INTO {table} {columns} SELECT {values} FROM generate_series({first}, {last}) n")

    def _change(self, count: int) -> int:
        """Changes that many orders, some of them twice, some without their long notes; returns how many."""
        numbers = [row[0] for row in self._execute(f"SELECT number FROM orders WHERE number < {NEW}")]
        chosen = self.random.sample(numbers, count)
        for number in chosen:
            token = self.random.randrange(10**6)
            self._execute(
                f"UPDATE orders SET total = {token} / 100.0 WHERE number = {number}",
                f"UPDATE orders SET changed = changed + interval '1 hour' WHERE number = {number} AND number % 3 = 0",
            )
        return len(chosen)

    def _delete(self, condition: str) -> int:
        return len(self._execute(f"DELETE FROM customers WHERE {condition} AND id < {NEW} RETURNING id"))

    def _execute(self, *statements: str) -> list[Any]:
        rows: list[Any] = self.server.execute(*statements, database=_DATABASE)
        return rows
