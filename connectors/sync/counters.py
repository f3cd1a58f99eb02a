"""What became of the documents of one sync job; the counters add up exactly, over resumes too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

__all__ = ["OUTCOMES", "Counters"]

#: Each document that was read ends as exactly one of these.
OUTCOMES: Final = (
    "indexed", "unchanged", "filtered", "duplicate", "superseded", "dead_lettered", "deleted",
)  # fmt: skip


@dataclass(slots=True)
class Counters:
    """Numbers of documents by outcome.

    Attributes:
        read: documents that the source yielded, explicit deletes and skipped ones included.
        deleted: explicit deletes of an incremental sync.
        vanished: removed since a complete enumeration did not list them; these were never read.
        bytes: JSON bytes that were acknowledged.
    """

    read: int = 0
    indexed: int = 0
    unchanged: int = 0
    filtered: int = 0
    duplicate: int = 0
    superseded: int = 0
    dead_lettered: int = 0
    deleted: int = 0
    vanished: int = 0
    bytes: int = 0

    def count(self, outcome: str, number: int = 1) -> None:
        """Adds to one counter by name."""
        setattr(self, outcome, getattr(self, outcome) + number)

    def add(self, other: Counters) -> None:
        """Adds all counters of another."""
        self.read += other.read
        self.indexed += other.indexed
        self.unchanged += other.unchanged
        self.filtered += other.filtered
        self.duplicate += other.duplicate
        self.superseded += other.superseded
        self.dead_lettered += other.dead_lettered
        self.deleted += other.deleted
        self.vanished += other.vanished
        self.bytes += other.bytes

    @property
    def settled(self) -> int:
        """Documents that have their outcome."""
        return sum(getattr(self, name) for name in OUTCOMES)

    @property
    def balanced(self) -> bool:
        """Whether every document that was read has exactly one outcome."""
        return self.read == self.settled

    def to_dict(self) -> dict[str, int]:
        """Returns name → number."""
        return {name: getattr(self, name) for name in _NAMES}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any] | None) -> Counters:
        """Reads what `to_dict` wrote; missing names are zero."""
        return cls(**{name: int(value) for name, value in (record or {}).items() if name in _NAMES})


_NAMES: Final = tuple(item.name for item in fields(Counters))
