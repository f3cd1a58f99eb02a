"""A full sync that several readers read, as the watch knows it: which enumeration of each part counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.sync.split import _KEY
from tests.simulation.runs import Run

__all__ = ["SplitRun", "StoredSplit", "split_in"]


def split_in(checkpoint: Any) -> Mapping[str, Any] | None:
    """Returns what a checkpoint says of the parts, None when it is one of a source."""
    found: Mapping[str, Any] | None = checkpoint.get(_KEY)
    return found


@dataclass(slots=True)
class StoredSplit:
    """What was stored last of one split: the runs of the parts that were read to their ends, and how many documents
    were counted beyond those that it covers, since readers were lost."""

    finished: dict[int, Run] = field(default_factory=dict)
    again: int = 0


@dataclass(slots=True, eq=False)
class SplitRun(Run):
    """One process's part in such a sync.

    Attributes:
        split: its number.
        of: how many parts there are.
        parts: by the number of the part, the enumeration that was begun last.
        again: items that may be counted twice, of readers that were lost; `before` of them were counted when it began.
    """

    split: int = 0
    of: int = 0
    parts: dict[int, Run] = field(default_factory=dict)
    before: int = 0
    again: int = 0

    def begin(self, number: int, part: int, state: Any, runs: Sequence[Run]) -> Run:
        """A reader begins to list a part, perhaps behind a checkpoint of it."""
        run = Run(number, self.connector, self.process, True, self.rules, self.uuid)
        if state is not None:
            run.parent = runs[state["run"]], state["at"]
            run.base = state["count"]
        if part in self.parts:
            self.again += self.parts[part].count - run.base
        self.parts[part] = run
        return run

    @property
    def count(self) -> int:
        return sum(run.count for run in self.parts.values())

    @property
    def is_complete(self) -> bool:
        return len(self.parts) == self.of and all(run.is_complete for run in self.parts.values())

    def chain(self) -> Iterator[tuple[Run, int]]:
        for run in self.parts.values():
            yield from run.chain()
