"""What a source listed, in the order in which it did."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.simulation.database import Row

__all__ = ["Item", "Run", "keeps"]


def keeps(rules: Iterable[Mapping[str, Any]], row: Row) -> bool:
    """Whether the rules keep a row; the simulation writes no others than these."""
    return not any(rule["field"] == "kind" and rule["value"] == row.kind for rule in rules)


class Item(NamedTuple):
    """What a source yielded: a document with the `rev` it had, and what has to become of it.

    `wanted` is "there", "gone", "out" where the rules of a full sync leave it out, "any" where the index need not say.
    One with a file, or that the server refuses, is `doubtful`: it may end as a dead letter.
    """

    id: str
    rev: int
    wanted: str
    doubtful: bool = False


@dataclass(slots=True, eq=False)
class Run:
    """One enumeration by one source object.

    Attributes:
        parent: the run whose checkpoint this one was given, and how many of its items that covers.
        base: items of all earlier parts.
        ended: whether the generator came to its end by itself.
        blind: number of items behind which a part could not be read; what a later run reads again does not count.
        held: documents of the connector in the index when the run began.
        deleted: ids of vanished documents whose deletion was sent.
        verified: how many items were found where they belong.
    """

    number: int
    connector: str
    process: str
    full: bool
    rules: Sequence[Mapping[str, Any]]
    uuid: str
    parent: tuple[Run, int] | None = None
    base: int = 0
    items: list[Item] = field(default_factory=list)
    ended: bool = False
    blind: int | None = None
    held: int = 0
    allowed: int = 0
    deleted: set[str] = field(default_factory=set)
    verified: int = 0
    _met: set[str] | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all of it was listed."""
        return self.ended

    @property
    def count(self) -> int:
        """Items of this run and of the parts before it."""
        return self.base + len(self.items)

    def chain(self) -> Iterator[tuple[Run, int]]:
        """Yields this run and those before it, each with the number of its items that count."""
        part: tuple[Run, int] | None = (self, len(self.items))
        while part is not None:
            yield part
            part = part[0].parent

    def met(self) -> set[str]:
        """Returns the ids that were listed and that the rules keep, earlier parts included."""
        if self._met is None:
            parts = self.chain()
            self._met = {item.id for run, number in parts for item in run.items[:number] if item.wanted != "out"}
        return self._met
