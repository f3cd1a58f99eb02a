"""Where a process spends its CPU time, by samples of the main thread's stack.

A sample belongs to the innermost frame that is of a known kind, and weighs as much as the main thread has worked since
the one before: the timer goes on while it waits for other threads, whose time is measured by the clocks. Drivers in C
and Cython have no frames: they count as the source that called them.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

__all__ = ["Profile", "sampled", "told"]

_INTERVAL: Final = 0.001
#: Part of a file's path → whose time it is; the first that fits.
_KINDS: Final = (
    ("bench/generated", "making"),
    ("connectors/source", "source"),
    ("/asyncmy/", "source"),
    ("/psycopg/", "source"),
    ("/pymongo/", "source"),
    ("/bson/", "source"),
    ("connectors/extraction/", "extraction"),
    ("connectors/filtering/", "rules"),
    ("connectors/sync/encode", "encoding and hashing"),
    ("connectors/sync/page", "encoding and hashing"),
    ("connectors/sync/ledger", "ledger"),
    ("connectors/sync/mapped", "ledger"),
    ("connectors/sync/writer", "batches"),
    ("connectors/sync/limits", "batches"),
    ("connectors/sync/progress", "batches"),
    ("connectors/sync/", "reading loop"),
    ("connectors/service/", "service"),
    ("connectors/backends/embedded/", "service"),
    ("connectors/backends/server/bulk", "bulk bodies"),
    ("connectors/backends/server/", "HTTP"),
    ("connectors/backends/elasticsearch/", "HTTP"),
    ("/aiohttp/", "HTTP"),
    ("/elastic_transport/", "HTTP"),
)
#: What is neither the source's nor on the way to the server.
_FRAMEWORK: Final = frozenset({"rules", "encoding and hashing", "ledger", "batches", "reading loop", "service"})
_WIRE: Final = frozenset({"bulk bodies", "HTTP"})


@dataclass(slots=True)
class Profile:
    """CPU seconds.

    Attributes:
        samples: of the main thread by kind, as sampled; "loop" is what belongs to nobody else.
        main: of the main thread, as measured.
        threads: of all others.
    """

    samples: dict[str, float] = field(default_factory=dict)
    main: float = 0.0
    threads: float = 0.0
    _sampled: float = field(default_factory=time.thread_time)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each kind; those of other threads by the name of threads."""
        total = sum(self.samples.values()) or 1.0
        return {kind: self.main * number / total for kind, number in self.samples.items()} | {"threads": self.threads}

    def parts(self) -> dict[str, float]:
        """Returns the seconds of source, framework, wire and what is none of them."""
        found: dict[str, float] = {}
        for kind, spent in self.seconds().items():
            part = "framework" if kind in _FRAMEWORK else "wire" if kind in _WIRE else kind
            found[part] = found.get(part, 0.0) + spent
        return found

    def take(self, _: int, frame: FrameType | None) -> None:
        """Takes one sample."""
        now = time.thread_time()
        kind = _kind(frame)
        self.samples[kind] = self.samples.get(kind, 0.0) + now - self._sampled
        self._sampled = now


def _kind(frame: FrameType | None) -> str:
    while frame is not None:
        path = frame.f_code.co_filename
        if (kind := next((kind for part, kind in _KINDS if part in path), None)) is not None:
            return kind
        frame = frame.f_back
    return "loop"


@contextmanager
def sampled() -> Iterator[Profile]:
    """Takes samples while the block runs; in the main thread only."""
    profile = Profile()
    before = signal.signal(signal.SIGPROF, profile.take)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
    whole, main = time.process_time(), time.thread_time()
    try:
        yield profile
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        profile.main = time.thread_time() - main
        profile.threads = max(0.0, time.process_time() - whole - profile.main)


def told(parts: Mapping[str, float], documents: int) -> str:
    """Returns seconds as microseconds per document, largest first."""
    found = sorted(((spent / documents * 1e6, kind) for kind, spent in parts.items()), reverse=True)
    return ", ".join(f"{kind} {spent:.2f}" for spent, kind in found if spent >= 0.01)
