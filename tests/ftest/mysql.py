# ruff: noqa: S608 - tables and values of the test's own
"""A shop in MariaDB or MySQL: four tables with keys of several kinds, and incremental syncs by a time of change."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tests.ftest.harness import WORDS, Expected
from tests.ftest.shop import NEW, STATES, ShopCase
from tests.servers.java import MissingError
from tests.servers.mariadb import MariaDBServer, MySQLServer

__all__ = ["MariaDBCase", "MySQLCase"]

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
    "customers": "'id', id, 'name', name, 'profile', {profile}, 'picture', TO_BASE64(picture)",
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


_COLUMNS: Final = {
    "customers": ("id", "name", "profile", "picture"),
    "orders": ("number", "state", "total", "note"),
    "order_lines": ("order_number", "product", "pieces"),
    "events": ("source", "number", "tags"),
}


class MariaDBCase(ShopCase):
    """One fifth customers, two fifths orders, one fifth each lines and events."""

    name = "mariadb"
    service_type = "mysql"
    kind = MariaDBServer

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
        ((version,),) = self._execute("SELECT VERSION()")
        profile = "JSON_COMPACT(profile)" if "mariadb" in version.lower() else "profile"
        found = {}
        for table, template in _TRUTH.items():
            fields = template.format(profile=profile)
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
        self._execute(f"DELETE FROM customers WHERE id % 40 = 7 AND id < {NEW}")
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

    def advanced(self) -> tuple[Any, Sequence[str]]:
        """Leaves out orders that were paid; the documents of the others stay the same to the byte."""
        whole = {table: f"SELECT * FROM {table}" for table in ("customers", "order_lines")}
        by_table = {"shop": {**whole, "orders": "SELECT * FROM orders WHERE state <> 'paid' OR note LIKE '%never%';"}}
        rules = [
            {"tables": [table], "query": query, "id_columns": list(_KEYS[table])}
            for table, query in by_table["shop"].items()
        ]
        return [*rules, {"tables": ["shop.events"], "query": "SELECT * FROM events"}], self.orders("paid")

    def orders(self, state: str) -> list[str]:
        """Returns the ids of the orders in this state."""
        found = self._execute(f"SELECT number FROM orders WHERE state = '{state}'")
        return [f"shop.orders/{number}" for (number,) in found]

    def _add(self, count: int) -> None:
        numbers = range(self.next, self.next + count)
        self.next += count
        self._insert("customers", map(self._customer, numbers))
        self._insert("order_lines", map(self._line, numbers))

    def _change(self, count: int) -> int:
        """Changes that many orders; returns how many."""
        numbers = [number for (number,) in self._execute("SELECT number FROM orders")]
        for number in self.random.sample(numbers, count):
            self._execute(f"UPDATE orders SET note = '{self.token()}', updated = NOW() WHERE number = {number}")
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
        rows: list[Any] = self.server.execute(*statements, database="shop")
        return rows

    def _customer(self, number: int) -> str:
        profile = json.dumps({"tags": self.random.choices(WORDS, k=2), "age": self.random.randrange(99), "none": None})
        return f"({number}, '{self.words(2)} é🎉', '{profile}', x'{self.random.randbytes(20).hex()}')"

    def _order(self, number: int) -> str:
        total = self.random.randrange(10**7) / 100
        return f"({number}, '{self.random.choice(STATES)}', {total:.2f}, '{self.words(30)}')"

    def _line(self, number: int) -> str:
        return f"({number}, '{self.random.choice(WORDS)}/{number % 7}', {self.random.randrange(100)})"

    def _event(self, number: int) -> str:
        return f"('source-{number % 3}', {number}, '{self.random.choice(('', 'red', 'red,green'))}')"


class MySQLCase(MariaDBCase):
    """The same in MySQL; where that cannot be had, in MariaDB."""

    name = "mysql"
    kind = MySQLServer

    def prepare(self) -> None:
        """Starts the one server or the other."""
        try:
            self.server.start()
        except MissingError as missing:
            print(f"mysql: in MariaDB, for MySQL cannot be had: {missing}")  # noqa: T201 - a command
            self.server = MariaDBServer()
        super().prepare()
