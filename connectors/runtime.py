"""Clock, randomness and threads, injected so that tests and simulations can own them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ParamSpec, TypeVar

__all__ = ["Runtime"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the framework asks of the machine. Sleeping and monotonic time are the event loop's own.

    Attributes:
        wall: seconds since the Unix epoch.
        random: source of jitter.
    """

    wall: Callable[[], float] = time.time
    random: random.Random = field(default_factory=random.Random)

    def time(self) -> float:
        """Seconds since the Unix epoch, as leases use them."""
        return self.wall()

    def now(self) -> datetime:
        """The wall clock as an aware datetime in UTC."""
        return datetime.fromtimestamp(self.wall(), UTC)

    def monotonic(self) -> float:
        """Seconds of the running event loop's clock."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleeps on the event loop's clock."""
        await asyncio.sleep(seconds)

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking function in a thread."""
        return await asyncio.to_thread(function, *args, **kwargs)
