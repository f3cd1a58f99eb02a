"""Where a process spends its CPU time, by samples of the main thread's stack: cheap, and blind to nothing but C.

A sample belongs to the innermost frame that is of a known kind. Drivers in C and Cython have no frames: they count as
the source that called them. What other threads use is measured by the clocks, not by samples.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

__all__ = ["Profile", "sampled"]

_INTERVAL: Final = 0.001
#: Part of a file's path → whose time it is; the first that fits.
_KINDS: Final = (
    ("connectors/sources/", "source"),
    ("connectors/source", "source"),
    ("connectors/extraction/", "extraction"),
    ("connectors/backends/server/", "wire"),
    ("connectors/backends/elasticsearch/", "wire"),
    ("connectors/backends/embedded/", "records"),
    ("connectors/filtering/", "framework"),
    ("connectors/sync/", "framework"),
    ("connectors/service/", "framework"),
    ("/aiohttp/", "wire"),
    ("/elastic_transport/", "wire"),
    ("/asyncmy/", "source"),
    ("/psycopg/", "source"),
    ("/pymongo/", "source"),
    ("/bson/", "source"),
)


@dataclass(slots=True)
class Profile:
    """CPU seconds.

    Attributes:
        samples: number of samples of each kind; "loop" is what belongs to nobody else.
        main: of the main thread.
        threads: of all others.
    """

    samples: Counter[str] = field(default_factory=Counter)
    main: float = 0.0
    threads: float = 0.0

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of each kind; those of other threads by the name of threads."""
        total = sum(self.samples.values()) or 1
        return {kind: self.main * number / total for kind, number in self.samples.most_common()} | {
            "threads": self.threads
        }

    def take(self, _: int, frame: FrameType | None) -> None:
        """Counts one sample."""
        while frame is not None:
            path = frame.f_code.co_filename
            if (kind := next((kind for part, kind in _KINDS if part in path), None)) is not None:
                self.samples[kind] += 1
                return
            frame = frame.f_back
        self.samples["loop"] += 1


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
