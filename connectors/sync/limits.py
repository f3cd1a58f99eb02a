"""What is under way towards one destination, shared by all syncs of the process: who may send when, and how much."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from connectors.backends.ports import FailureKind, WriteResult
from connectors.errors import RetryableError
from connectors.sync.pace import Pace, Sent
from connectors.utils import format_duration

__all__ = ["Flight", "FlightLimit", "PaceReading"]

#: A destination that names a longer time is asked again before that.
_LONGEST_PAUSE: Final = 600.0


class PaceReading(NamedTuple):
    """What the pace is at this moment.

    Attributes:
        body: how large a body may be, in bytes.
        requests: how many requests may be in flight.
        in_flight: how many are.
        refused: how many were not taken as they were, since the start.
        throttled: seconds since the start in which a batch was ready and had to wait, up to the last request.
    """

    body: int
    requests: int
    in_flight: int
    refused: int
    throttled: float


@dataclass(slots=True)
class Flight:
    """One request that is under way; whoever sends it puts the result here, so that the pace learns from it."""

    result: WriteResult | None = None


class _Waiter(NamedTuple):
    size: int
    arrival: int
    admitted: asyncio.Future[Sent]


class FlightLimit:
    """Bounds the requests and the bytes in flight, in step with what the destination takes (see `pace`).

    Owners, that is syncs, share the bytes evenly, however many requests each of them has waiting (start-time fair
    queueing): of those that wait, the one that was given least goes next. One that pauses saves nothing up.

    Args:
        requests: number of requests in flight, at most.
        size: bytes in flight; one request that is larger than all of it goes alone.
        body: bytes of one body, at most.
        clock: seconds, growing; without it, the running loop's.
    """

    def __init__(
        self, requests: int, size: int, *, body: int = 5_000_000, clock: Callable[[], float] | None = None
    ) -> None:
        self._pace = Pace(requests, body)
        self._size = size
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._in_flight = 0
        self._bytes = 0
        self._waiting: dict[str, deque[_Waiter]] = {}
        self._arrivals = 0
        # Of fair queueing: what the owner admitted last had been given before, and what each has been given since.
        self._virtual = 0
        self._given: dict[str, int] = {}
        self._paused_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._refused = 0
        self._throttled = 0.0
        self._throttled_since: float | None = None

    @property
    def body(self) -> int:
        """How large a body may be now, in bytes."""
        return self._pace.body

    def reading(self) -> PaceReading:
        """Returns what the pace is now; may be called in any thread."""
        return PaceReading(self._pace.body, self._pace.requests, self._in_flight, self._refused, self._throttled)

    def why_waiting(self) -> str:
        """Says what a request waits for that was not admitted yet."""
        left = self._paused_until - self._clock()
        if left > 0:
            return f"paused for {format_duration(left)} more, as the destination asked"
        return f"waiting for its turn while {self._in_flight} of {self._pace.requests} requests are in flight"

    @asynccontextmanager
    async def slot(self, owner: str, size: int) -> AsyncIterator[Flight]:
        """Waits for room for one request of `size` bytes, holds it, and learns from how the request ends.

        An error but RetryableError says nothing about the pace, and neither does a flight without a result.
        """
        sent = await self._admit(owner, size)
        flight, begun = Flight(), self._clock()
        try:
            yield flight
        except RetryableError as error:
            self._learn_refusal(sent, begun, error.retry_after)
            raise
        else:
            if flight.result is not None:
                self._learn(sent, size, begun, flight.result)
        finally:
            self._land(size)

    # What is learnt

    def _learn(self, sent: Sent, size: int, begun: float, result: WriteResult) -> None:
        failures = result.failures.values()
        if result.too_large is not None:
            self._pace.too_large(result.too_large)
        if result.retry_after is not None or any(failure.kind is FailureKind.OVERLOADED for failure in failures):
            self._learn_refusal(sent, begun, result.retry_after)
        elif result.too_large is not None:
            self._refused += 1  # and its time says nothing: it was several requests
        else:
            self._pace.answered(sent, size, self._clock() - begun)

    def _learn_refusal(self, sent: Sent, begun: float, retry_after: float | None) -> None:
        now = self._clock()
        self._refused += 1
        self._pace.refused(sent, now - begun)
        if retry_after is not None:
            self._paused_until = max(self._paused_until, now + min(retry_after, _LONGEST_PAUSE))

    # Who may send

    async def _admit(self, owner: str, size: int) -> Sent:
        self._arrivals += 1
        waiter = _Waiter(size, self._arrivals, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(owner, deque()).append(waiter)
        self._dispatch()
        try:
            return await waiter.admitted
        except asyncio.CancelledError:
            if waiter.admitted.cancelled():
                self._dispatch()  # drops it, and others may have waited behind it
            else:
                self._land(size)
            raise

    def _land(self, size: int) -> None:
        self._in_flight -= 1
        self._bytes -= size
        self._dispatch()

    def _dispatch(self) -> None:
        """Admits all that there is room for, and keeps the time in which somebody had to wait."""
        now = self._clock()
        self._drop_cancelled()
        if self._throttled_since is not None:
            self._throttled += now - self._throttled_since
        if now < self._paused_until:
            self._wake_after(self._paused_until - now)
        else:
            while self._waiting:
                owner = min(self._waiting, key=self._turn_of)
                if not self._fits(self._waiting[owner][0].size):
                    break  # nobody overtakes a large request: it would never fit
                self._go(owner)
        self._throttled_since = now if self._waiting else None

    def _turn_of(self, owner: str) -> tuple[int, int]:
        return self._given.get(owner, self._virtual), self._waiting[owner][0].arrival

    def _fits(self, size: int) -> bool:
        if not self._in_flight:
            return True
        return self._in_flight < self._pace.requests and self._bytes + size <= self._size

    def _go(self, owner: str) -> None:
        waiter = self._waiting[owner].popleft()
        if not self._waiting[owner]:
            del self._waiting[owner]
        self._virtual = self._given.get(owner, self._virtual)
        self._given[owner] = self._virtual + waiter.size
        # Whoever was given no more than that begins there, as a new one does: nothing has to be remembered of it.
        self._given = {name: given for name, given in self._given.items() if given > self._virtual}
        self._in_flight += 1
        self._bytes += waiter.size
        waiter.admitted.set_result(self._pace.sent(busy=self._in_flight >= self._pace.requests))

    def _drop_cancelled(self) -> None:
        for owner, queue in list(self._waiting.items()):
            left = deque(waiter for waiter in queue if not waiter.admitted.cancelled())
            if left:
                self._waiting[owner] = left
            else:
                del self._waiting[owner]

    def _wake_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._dispatch)
