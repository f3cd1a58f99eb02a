"""How far a full sync is that several processes read: which partitions there are, and the state of each.

The partitions are those that the source named before the first read. They travel in the checkpoints, so that a sync
that goes on later reads the very same parts, whatever the source would name by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

__all__ = ["Split"]

#: The only key of such a checkpoint, so that it cannot be taken for one of a source.
_KEY: Final = "connectors.partitions"


class Split:
    """The partitions of one sync.

    Args:
        partitions: as the source named them.
        cursor: where the next incremental sync starts, fixed before the first read.

    Attributes:
        open: numbers of those that are not read to their end, in order.
    """

    def __init__(self, partitions: Sequence[Any], cursor: Any) -> None:
        self.cursor = cursor
        self._partitions = dict(enumerate(partitions))
        self._reached: dict[int, Any] = {}
        self._number = len(partitions)

    @classmethod
    def of(cls, checkpoint: Any) -> Split | None:
        """Takes up what a checkpoint says; None when it is one of a source."""
        if not isinstance(checkpoint, dict) or checkpoint.keys() != {_KEY}:
            return None
        found: Mapping[str, Any] = checkpoint[_KEY]
        split = cls((), found["cursor"])
        split._number = int(found["number"])
        split._partitions = {int(number): partition for number, partition in found["open"].items()}
        split._reached = {int(number): state for number, state in found["reached"].items()}
        return split

    def to_checkpoint(self) -> dict[str, Any]:
        """Returns all of it as JSON."""
        return {
            _KEY: {
                "cursor": self.cursor,
                "number": self._number,
                "open": {str(number): partition for number, partition in self._partitions.items()},
                "reached": {str(number): state for number, state in self._reached.items()},
            }
        }

    @property
    def open(self) -> list[int]:
        """Numbers of the partitions that are not read to their end."""
        return sorted(self._partitions)

    def __len__(self) -> int:
        return self._number

    def assignment(self, number: int) -> tuple[Any, Any]:
        """Returns a partition, and the checkpoint to go on behind, None at its beginning."""
        return self._partitions[number], self._reached.get(number)

    def reach(self, number: int, state: Any) -> None:
        """Takes a checkpoint of a partition: everything of it up to there was taken."""
        self._reached[number] = state

    def finish(self, number: int) -> None:
        """Takes the end of a partition."""
        del self._partitions[number]
        self._reached.pop(number, None)
