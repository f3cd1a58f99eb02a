"""A shop in MongoDB: three collections with keys of several kinds, followed by its change stream."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from bson import Decimal128, ObjectId

from tests.ftest.harness import WORDS, Expected
from tests.ftest.shop import NEW, STATES, ShopCase
from tests.servers.mongo import MongoServer

__all__ = ["MongoDBCase"]

_DAWN: Final = datetime(2026, 1, 1, tzinfo=UTC)
_DATABASE: Final = "connectors_ftest"


class MongoDBCase(ShopCase):
    """Two fifths orders with numbers as keys, two fifths customers with object ids, one fifth events with texts."""

    service_type = "mongodb"
    kind = MongoServer

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        super().__init__(folder, size=size, seed=seed)
        self.changed: list[int] = []

    def close(self) -> None:
        """Ends the server."""
        if self.server.url:
            self.server.client.drop_database(_DATABASE)
        super().close()

    def prepare(self) -> None:
        """Starts the server and fills the collections."""
        self.server.start()
        self.server.client.drop_database(_DATABASE)
        fifth = self.size // 5
        self._insert("orders", self._order, range(2 * fifth))
        self._insert("customers", self._customer, range(2 * fifth))
        self._insert("events", self._event, range(self.size - 4 * fifth))

    def configuration(self) -> dict[str, Any]:
        """Returns the way to the server."""
        return {"host": self.server.url, "database": _DATABASE}

    def expected(self) -> dict[str, Expected]:
        """Reads each document with the driver's ordinary client, and writes its values by hand."""
        found = {}
        for name in ("orders", "customers", "events"):
            for document in self._collection(name).find():
                key = str(document.pop("_id"))
                fields = {field: _written(value) for field, value in document.items()}
                found[f"{name}/{key}"] = Expected({**fields, "_collection": name})
        return found

    def mutate(self) -> dict[str, int]:
        """Adds, changes and deletes some hundred documents."""
        return self._mutate(added=150, changed=200, deleted=100)

    def mutate_incrementally(self) -> Mapping[str, int]:
        """Adds, changes (some twice), replaces and deletes."""
        changes = self._mutate(added=120, changed=150, deleted=80)
        for key in self.changed[:20]:  # for a second time, which makes no second document
            note = f"{self.token()} again"
            self._collection("orders").update_one({"_id": key}, {"$set": {"note": note}})
        return {**changes, "read": sum(changes.values())}

    def advanced(self) -> tuple[Any, Sequence[str]]:
        """Leaves out orders that were paid, by a find, and reads the others by an aggregation and whole."""
        rules = [
            {"collection": "orders", "find": {"filter": {"state": {"$ne": "paid"}}}},
            {"collection": "customers", "aggregate": {"pipeline": [{"$match": {"name": {"$exists": True}}}]}},
            {"collection": "events", "find": {}},
        ]
        return rules, self.orders("paid")

    def _mutate(self, *, added: int, changed: int, deleted: int) -> dict[str, int]:
        orders, customers = self._collection("orders"), self._collection("customers")
        self._insert("orders", self._order, range(self.next, self.next + added // 2))
        self._insert("events", self._event, range(self.next, self.next + added - added // 2))
        self.next += added
        keys = sorted(order["_id"] for order in orders.find({"_id": {"$lt": NEW}}))
        chosen = self.changed = self.random.sample(keys, changed)
        for key in chosen[::2]:
            orders.update_one({"_id": key}, {"$set": {"note": self.token()}, "$unset": {"lines": ""}})
        for key in chosen[1::2]:
            orders.replace_one({"_id": key}, {**self._order(key), "note": self.token()})
        known = sorted(customer["_id"] for customer in customers.find())
        customers.delete_many({"_id": {"$in": self.random.sample(known, deleted)}})
        return {"added": added, "changed": changed, "deleted": deleted}

    def _collection(self, name: str) -> Any:
        return self.server.client[_DATABASE][name]

    def orders(self, state: str) -> list[str]:
        """Returns the ids of the orders in this state."""
        return [f"orders/{order['_id']}" for order in self._collection("orders").find({"state": state})]

    def _insert(self, name: str, make: Callable[[int], dict[str, Any]], numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), 1000):
            self._collection(name).insert_many([make(number) for number in numbers[start : start + 1000]])

    def _order(self, number: int) -> dict[str, Any]:
        return {
            "_id": number,
            "state": STATES[number % len(STATES)],
            "total": Decimal128(f"{number % 1000}.{number % 100:02}"),
            "placed": _DAWN + timedelta(minutes=number % 500_000, milliseconds=number % 1000),
            "lines": [{"product": self.random.choice(WORDS), "pieces": 1 + number % 9}],
            "note": self.words(30),
        }

    def _customer(self, number: int) -> dict[str, Any]:
        key = ObjectId(self.random.randbytes(12))
        name = f"{self.random.choice(WORDS)} {number}"
        return {"_id": key, "name": name, "friend": key, "picture": self.random.randbytes(20), "score": number / 7}

    def _event(self, number: int) -> dict[str, Any]:
        return {"_id": f"event {number:06}", "tags": self.random.sample(WORDS, 2), "seen": number % 2 == 0}


def _written(value: Any) -> Any:
    """Returns a value as the index must hold it."""
    match value:
        case ObjectId():
            return str(value)
        case Decimal128():
            return float(str(value))
        case bytes():
            return base64.b64encode(value).decode()
        case datetime():
            text = value.isoformat(timespec="microseconds") if value.microsecond else value.isoformat()
            return f"{text}Z"
        case _:
            return value
