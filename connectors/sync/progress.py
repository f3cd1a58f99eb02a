"""Acknowledged progress: what may be stored, and when.

The stream of documents is cut into segments at the source's checkpoints. A segment keeps the counters of its documents
and the number of those whose outcome is still open. A checkpoint is due only when its segment and all before it are
complete, whatever the order in which writes and downloads end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from connectors.sync.counters import Counters

__all__ = ["Checkpointed", "Progress", "Segment"]


class Segment:
    """Documents between two checkpoints."""

    __slots__ = ("checkpoint", "closed", "counters", "pending", "seen")

    def __init__(self) -> None:
        self.counters = Counters()
        self.pending = 0
        self.closed = False
        self.checkpoint: Any = None
        self.seen = 0


class Checkpointed:
    """A checkpoint that may be stored: `seen` is the length of the seen log that it covers."""

    __slots__ = ("seen", "state")

    def __init__(self, state: Any, seen: int) -> None:
        self.state = state
        self.seen = seen


class Progress:
    """All segments of one job, oldest first; the last one is open.

    Attributes:
        committed: counters of the segments that are complete, those of earlier runs of the same job included.
    """

    def __init__(self, committed: Counters | None = None) -> None:
        self.committed = committed or Counters()
        self.current = Segment()
        #: What vanished was never read: it belongs to no segment, and no checkpoint waits for it.
        self._deletions = Segment()
        self._deletions.counters = self.committed
        self._segments: deque[Segment] = deque([self.current])
        self._pending = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self, number: int = 1) -> Segment:
        """Counts documents of the current segment as being under way, and returns the segment."""
        self.current.pending += number
        self._pending += number
        if self._pending:
            self._idle.clear()
        return self.current

    def begin_deletions(self, number: int) -> Segment:
        """Counts deletions of vanished documents as being under way, and returns a segment for them."""
        self._deletions.pending += number
        self._pending += number
        if self._pending:
            self._idle.clear()
        return self._deletions

    def settle(self, segment: Segment, outcome: str, number: int = 1) -> None:
        """Gives documents of a segment that were under way their outcome."""
        segment.counters.count(outcome, number)
        segment.pending -= number
        self._pending -= number
        if not self._pending:
            self._idle.set()

    def close_segment(self, checkpoint: Any, seen: int) -> None:
        """Ends the current segment with a checkpoint."""
        self.current.checkpoint = checkpoint
        self.current.seen = seen
        self.current.closed = True
        self.current = Segment()
        self._segments.append(self.current)

    def advance(self) -> Checkpointed | None:
        """Moves complete segments into `committed`; returns the last checkpoint among them."""
        due: Checkpointed | None = None
        while self._segments[0].closed and not self._segments[0].pending:
            segment = self._segments.popleft()
            self.committed.add(segment.counters)
            due = Checkpointed(segment.checkpoint, segment.seen)
        return due

    def finish(self) -> None:
        """Moves everything into `committed` at the end of the enumeration, when all have their outcome."""
        self.close_segment(None, 0)
        self.advance()

    def abandon(self) -> None:
        """Takes back what was read and has no outcome: it is read again when the job goes on."""
        for segment in self._segments:
            segment.counters.read = segment.counters.settled

    def total(self) -> Counters:
        """Returns the counters of all segments, for display."""
        total = Counters()
        total.add(self.committed)
        for segment in self._segments:
            total.add(segment.counters)
        return total

    @property
    def in_flight(self) -> int:
        """Documents under way."""
        return self._pending

    async def idle(self) -> None:
        """Waits until no document is under way."""
        await self._idle.wait()
