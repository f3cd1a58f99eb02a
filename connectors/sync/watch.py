"""What a sync is doing at this moment, and since when: for whoever asks why it does not get on.

Parts of a sync note what they wait for, a request or a download at a time; nothing is noted per document. Whether there
is progress is seen by comparing marks, which are read when somebody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from connectors.sync import stack
from connectors.utils import format_duration

__all__ = ["Doing", "Watch"]

#: What is told of things that are under way, at most.
_TOLD: Final = 3
#: Code of ours, but for the readers: they wait for a source that other processes read.
_OURS: Final = "connectors.sync."
_READERS: Final = "connectors.sync.readers"


@dataclass(slots=True, eq=False)
class Doing:
    """One thing that is under way.

    Attributes:
        what: it, as a part of a sentence; empty while there is nothing.
        task: that waits for it.
        since: the loop's clock when it began, in seconds.
        below: qualified name of the function that calls code of a source; None: this is no source's.
        refused: how often it was tried in vain.
        note: returns what has to be known besides.
    """

    what: str
    task: asyncio.Task[Any] | None
    since: float
    below: str | None = None
    refused: int = 0
    note: Callable[[], str] = str

    def change(self, what: str) -> None:
        """Notes that it is another thing from now on, for what goes from one to the next."""
        self.what = what
        self.since = asyncio.get_running_loop().time()

    def told(self, now: float) -> str | None:
        """Returns it for people; None for nothing, and where a caller of a source waits for code of ours."""
        if not self.what:
            return None
        if self.below is None or self.task is None:
            refused = f"refused {self.refused} {'time' if self.refused == 1 else 'times'}" if self.refused else ""
            return ", ".join(
                filter(None, (self.what, f"for {format_duration(now - self.since)}", refused, self.note()))
            )
        frames = stack.frames_below(stack.waiting_frames(self.task), self.below)
        module = str(frames[0].f_globals.get("__name__")) if frames else _OURS
        if module.startswith(_OURS) and module != _READERS:
            return None
        return f"{self.what}, at {stack.told(frames)}"


class Watch:
    """Belongs to one job.

    Attributes:
        marks: read when somebody looks whether there is progress; the same again means that there was none.
    """

    def __init__(self) -> None:
        self._doing: list[Doing] = []
        self._moves = 0
        self.marks: Callable[[], object] = lambda: None

    def move(self) -> None:
        """Notes progress that no mark shows."""
        self._moves += 1

    @contextmanager
    def doing(self, what: str, *, below: str | None = None) -> Iterator[Doing]:
        """Notes something that is under way while the context lasts.

        Args:
            below: for code of a source: the qualified name of the function that calls it.
        """
        item = Doing(what, asyncio.current_task(), asyncio.get_running_loop().time(), below)
        self._doing.append(item)
        try:
            yield item
        finally:
            self._doing.remove(item)

    def mark(self) -> object:
        """Returns what is another value as soon as the sync has got on."""
        return self._moves, self.marks()

    def where(self) -> str:
        """Says what the sync waits for, the oldest first."""
        now = asyncio.get_running_loop().time()
        oldest_first = sorted(self._doing, key=lambda item: item.since)
        told = [text for item in oldest_first if (text := item.told(now)) is not None]
        more = f"; and {len(told) - _TOLD} more of the kind" if len(told) > _TOLD else ""
        return "; ".join(told[:_TOLD]) + more or "nothing that is known: the machine itself may be busy"
