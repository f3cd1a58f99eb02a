# ruff: noqa: S608 - tables and values of the test's own
"""A shop in MariaDB or MySQL: four tables with keys of several kinds, and incremental syncs by a time of change."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tests.ftest.harness import Case, Expected
from tests.servers.mariadb import MariaDBServer

__all__ = ["MySQLCase"]

_WORDS: Final = ("harbour", "lantern", "meadow", "copper", "violet", "granite", "willow", "ember", "quartz", "saffron")
_STATES: Final = ("open", "paid", "sent", "sent", "sent", "sent", "sent", "sent", "sent", "void")
_TABLES: Final = """
CREATE TABLE customers (
  id INT PRIMARY KEY, name VARCHAR(80), profile JSON, picture VARBINARY(40), updated {time});
CREATE TABLE orders (
  number BIGINT UNSIGNED PRIMARY KEY, state ENUM('open','paid','sent','void'), total DECIMAL(12,2), note TEXT,
  updated {time});
CREATE TABLE order_lines (
  order_number BIGINT, product VARCHAR(30), pieces INT, updated {time}, PRIMARY KEY (order_number, product));
CREATE TABLE events (
  source VARCHAR(10) NOT NULL, number INT NOT NULL, tags SET('red','green'), updated {time}, UNIQUE (source, number))
"""
_TIME: Final = "TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
#: The server itself says what each document must be, as JSON.
_TRUTH: Final = {
    "customers": "'id', id, 'name', name, 'profile', JSON_COMPACT(profile), 'picture', TO_BASE64(picture)",
    "orders": "'number', number, 'state', state, 'total', total, 'note', note",
    "order_lines": "'order_number', order_number, 'product', product, 'pieces', pieces",
    "events": "'source', source, 'number', number, 'tags', CAST(tags AS CHAR)",
}
_KEYS: Final = {
    "customers": ("id",),
    "orders": ("number",),
    "order_lines": ("order_number", "product"),
    "events": ("source", "number"),
}


class MySQLCase(Case):
    """One fifth customers, two fifths orders, one fifth each lines and events."""

    service_type = "mysql"

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        super().__init__(folder, size=size, seed=seed)
        self.random = random.Random(seed)
        self.server = MariaDBServer()
        self.next = 10_000_000

    @classmethod
    def obstacle(cls) -> str | None:
        """Says why there can be no server."""
        return MariaDBServer.obstacle()

    def close(self) -> None:
        """Ends the server."""
        self.server.stop()

    def prepare(self) -> None:
        """Starts the server and fills the tables."""
        self.server.start()
        for _ in self.server.execute("SHOW DATABASES LIKE 'shop'"):
            self.server.execute("DROP DATABASE shop")
        self.server.execute("CREATE DATABASE shop")
        self._execute(*_TABLES.format(time=_TIME).split(";"))
        fifth = self.size // 5
        self._insert("customers", (self._customer(number) for number in range(1, fifth + 1)))
        self._insert("orders", (self._order(2**63 + number) for number in range(self.size - 3 * fifth)))
        self._insert("order_lines", (self._line(number) for number in range(fifth)))
        self._insert("events", (self._event(number) for number in range(fifth)))
        for table, keys in _KEYS.items():
            number = next(key for key in keys if key != "source")
            self._execute(f"UPDATE {table} SET updated = NOW() - INTERVAL 100000 + {number} % 90000 SECOND")

    def configuration(self) -> dict[str, Any]:
        """Returns the way to the server."""
        return {
            "host": self.server.host,
            "port": self.server.port,
            "user": self.server.user,
            "password": self.server.password,
            "database": "shop",
            "updated_column": "updated",
        }

    def expected(self) -> dict[str, Expected]:
        """Has the server tell each row as JSON."""
        found = {}
        for table, fields in _TRUTH.items():
            keys = ", '/', ".join(f"REPLACE({key}, '/', '%2F')" for key in _KEYS[table])
            time = "DATE_FORMAT(updated, '%Y-%m-%dT%H:%i:%sZ')"
            truth = f"SELECT CONCAT({keys}), JSON_OBJECT({fields}, 'updated', {time}) FROM {table}"
            for key, text in self._execute("SET time_zone = '+00:00'", truth):
                values = json.loads(text)
                if table == "events":
                    values["tags"] = values["tags"].split(",") if values["tags"] else []
                found[f"shop.{table}/{key}"] = Expected({**values, "database": "shop", "table": table})
        return found

    def mutate(self) -> dict[str, int]:
        """Adds, changes and deletes some hundred rows."""
        self._add(50)
        changed = self._change(120)
        self._execute("DELETE FROM customers WHERE id % 40 = 7 AND id < 1000000")
        ((left,),) = self._execute("SELECT COUNT(*) FROM customers")
        return {"added": 100, "changed": changed, "deleted": self.size // 5 + 50 - left}

    def mutate_incrementally(self) -> Mapping[str, int]:
        """Adds and changes rows; deletes are for the next full sync."""
        lookback = "SELECT MAX(updated) - INTERVAL 300 SECOND FROM {}"
        since = {table: self._execute(lookback.format(table))[0][0] for table in _KEYS}
        self._add(40)
        changed = self._change(70)
        met = [f"SELECT COUNT(*) FROM {table} WHERE updated >= '{start}'" for table, start in since.items()]
        read = sum(self._execute(query)[0][0] for query in met)
        assert read < self.size / 5, "an incremental sync that reads everything proves little"
        return {"added": 80, "changed": changed, "deleted": 0, "read": read}

    def rules(self) -> tuple[list[dict[str, Any]], Sequence[str]]:
        """Drops the orders that are void."""
        rule = {"policy": "exclude", "field": "state", "rule": "equals", "value": "void"}
        return [rule], self._orders("state = 'void'")

    def advanced(self) -> tuple[Any, Sequence[str]]:
        """Leaves out orders that were paid; the documents of the others stay the same to the byte."""
        whole = {table: f"SELECT * FROM {table}" for table in ("customers", "order_lines")}
        by_table = {"shop": {**whole, "orders": "SELECT * FROM orders WHERE state <> 'paid' OR note LIKE '%never%';"}}
        rules = [
            {"tables": [table], "query": query, "id_columns": list(_KEYS[table])}
            for table, query in by_table["shop"].items()
        ]
        return [*rules, {"tables": ["shop.events"], "query": "SELECT * FROM events"}], self._orders("state = 'paid'")

    def _orders(self, condition: str) -> list[str]:
        return [f"shop.orders/{number}" for (number,) in self._execute(f"SELECT number FROM orders WHERE {condition}")]

    def _add(self, count: int) -> None:
        numbers = range(self.next, self.next + count)
        self.next += count
        self._insert("customers", map(self._customer, numbers))
        self._insert("order_lines", map(self._line, numbers))

    def _change(self, count: int) -> int:
        """Changes that many orders; returns how many."""
        numbers = [number for (number,) in self._execute("SELECT number FROM orders")]
        for number in self.random.sample(numbers, count):
            note = f"token {self.random.randrange(10**12)}"
            self._execute(f"UPDATE orders SET note = '{note}', updated = NOW() WHERE number = {number}")
        return count

    def _insert(self, table: str, rows: Iterable[str]) -> None:
        listed = list(rows)
        columns = ", ".join(_COLUMNS[table])
        self._execute(
            *(
                f"INSERT INTO {table} ({columns}) VALUES {', '.join(listed[at : at + 1000])}"
                for at in range(0, len(listed), 1000)
            )
        )

    def _execute(self, *statements: str) -> list[Any]:
        return self.server.execute(*statements, database="shop")

    def _words(self, count: int) -> str:
        return " ".join(self.random.choices(_WORDS, k=count))

    def _customer(self, number: int) -> str:
        profile = json.dumps({"tags": self.random.choices(_WORDS, k=2), "age": self.random.randrange(99), "none": None})
        return f"({number}, '{self._words(2)} é🎉', '{profile}', x'{self.random.randbytes(20).hex()}')"

    def _order(self, number: int) -> str:
        total = self.random.randrange(10**7) / 100
        return f"({number}, '{self.random.choice(_STATES)}', {total:.2f}, '{self._words(30)}')"

    def _line(self, number: int) -> str:
        return f"({number}, '{self.random.choice(_WORDS)}/{number % 7}', {self.random.randrange(100)})"

    def _event(self, number: int) -> str:
        return f"('source-{number % 3}', {number}, '{self.random.choice(('', 'red', 'red,green'))}')"


_COLUMNS: Final = {
    "customers": ("id", "name", "profile", "picture"),
    "orders": ("number", "state", "total", "note"),
    "order_lines": ("order_number", "product", "pieces"),
    "events": ("source", "number", "tags"),
}
