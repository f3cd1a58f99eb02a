"""What the shops in databases share: a server, a seeded choice of words, and orders of which some are void."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.ftest.harness import WORDS, Case
from tests.servers.database import DatabaseServer

__all__ = ["NEW", "STATES", "ShopCase"]

#: Of ten orders in a row.
STATES: Final = ("open", "paid", "sent", "sent", "sent", "sent", "sent", "sent", "sent", "void")
#: Numbers from here on are those of rows that were added later.
NEW: Final = 10_000_000


class ShopCase(Case):
    """A shop in a database.

    Attributes:
        kind: of the server.
        next: the number of the next row that is added.
    """

    kind: ClassVar[type[DatabaseServer]]

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        super().__init__(folder, size=size, seed=seed)
        self.random = random.Random(seed)
        self.server: Any = self.kind()
        self.next = NEW

    def close(self) -> None:
        """Ends the server."""
        self.server.stop()

    @abstractmethod
    def orders(self, state: str) -> list[str]:
        """Returns the ids of the orders in this state."""

    def rules(self) -> tuple[list[dict[str, Any]], Sequence[str]]:
        """Drops the orders that are void."""
        rule = {"policy": "exclude", "field": "state", "rule": "equals", "value": "void"}
        return [rule], self.orders("void")

    def words(self, count: int) -> str:
        """Returns that many words."""
        return " ".join(self.random.choices(WORDS, k=count))

    def token(self) -> str:
        """Returns a text that no document had before."""
        return f"token {self.random.randrange(10**12)}"
