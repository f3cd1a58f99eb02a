"""How much a destination is sent at once: the law by which requests in flight and the size of their bodies adapt.

No clock and no waiting here; `FlightLimit` in `limits.py` asks this object and tells it what became of each request.

Answers are judged by the round: as many as may be in flight, four at least. While a round takes, per byte, at most
half as long again as the server takes by itself, both grow by a step; else one request fewer is sent. A server that
works on k requests at once thus gets k at least, and half of that to wait for it, so that it never waits for us. What
it takes by itself is looked up every 32 rounds, in one round with half the requests: less than k, so that they do not
wait for each other, and the queue that we make does not pass for its speed.

A refusal (429, 503, a broken connection, a single item that was not taken) halves the requests; where only one is left,
the body; a time-out halves both. An answer that was nearly one halves the requests, and the body where few are left.
All that were on their way at that moment say the same, and count once. What was too much is remembered: growth halts a
step below, and goes on 32 times as slowly until it is past that mark; unless half is refused too, as in an outage,
which says nothing about numbers. A body that is refused for its size is no matter of the moment: half of it is the
limit from then on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Pace", "Sent"]

#: What is sent before anything is known.
_FIRST_REQUESTS: Final = 2
_FIRST_BODY: Final = 2_000_000
#: Growth per round.
_STEP_REQUESTS: Final = 1
_STEP_BODY: Final = 1_000_000
#: A smaller body gains nothing, unless the server takes no larger one.
_SMALLEST_BODY: Final = 64_000
#: Answers in a round, at least: one alone says little.
_ROUND: Final = 4
#: Less than the 2 by which the requests are divided when the server is looked at: so the pace settles, from above too.
_TOLERANCE: Final = 1.5
#: Rounds between two looks.
_SPAN: Final = 32
#: How many times as slowly what was refused is approached again.
_CAUTION: Final = 32
#: Seconds that a request should not exceed: a time-out is near, and would cost all of it. A failure that took as long
#: is taken for one.
_SLOW: Final = 15.0
#: Latency alone never goes below this: one request is on the wire while the server works on the other.
_PAIR: Final = 2


class Sent(NamedTuple):
    """What has to be known of a request to judge its answer.

    Attributes:
        turn: the turn in which it was sent; a new one begins with each change of the pace.
        busy: whether no more requests could be in flight; others say nothing about the limits.
    """

    turn: int
    busy: bool


class _Speed(NamedTuple):
    """What a server takes: seconds per byte, at this mean size of bodies."""

    per_byte: float
    size: float


class _Dial:
    """A number between `least` and `most` that grows by steps, is halved, and remembers where that was.

    `least` gives way to a `most` that is lower.
    """

    __slots__ = ("_least", "_safe", "_step", "most", "value")

    def __init__(self, first: int, *, least: int, most: int, step: int) -> None:
        self.most = most
        self.value = float(min(first, most))
        self._least = min(least, most)
        self._step = step
        self._safe = float("inf")

    def grow(self) -> None:
        """One step up, a small one where more was refused."""
        if self.value < self._safe:
            self.value = min(self.value + self._step, self._safe, self.most)
            return
        self.value = min(self.value + self._step / _CAUTION, self.most)
        if self.value >= self._safe + 2 * self._step:
            self._safe = float("inf")

    def shrink(self, least: int) -> None:
        """One step down, but not below `least`."""
        self.value = max(min(self.value, least), self.value - self._step)

    def halve(self, *, remember: bool) -> None:
        """Half of it, and the memory that it was too much; else the memory goes, for it is another trouble."""
        self._safe = max(self._least, self.value / 2, self.value - self._step) if remember else float("inf")
        self.value = max(self._least, self.value / 2)

    def limit(self, most: int) -> None:
        """Lowers `most`, for good."""
        self.most = min(self.most, max(1, most))
        self._least = min(self._least, self.most)
        self.value = min(self.value, self.most)


class Pace:
    """The two limits, and what they learn from.

    Args:
        requests: the most that may be in flight.
        body: the largest body, in bytes.
    """

    def __init__(self, requests: int, body: int) -> None:
        self._requests = _Dial(_FIRST_REQUESTS, least=1, most=requests, step=_STEP_REQUESTS)
        self._body = _Dial(_FIRST_BODY, least=_SMALLEST_BODY, most=body, step=_STEP_BODY)
        self._turn = 0
        self._since = 0  # the turn that began with the last refusal: answers of before are no longer true
        self._good = True  # whether there was a whole round since then
        self._looking = False
        self._rounds = 0
        self._own: _Speed | None = None
        self._count, self._seconds, self._bytes, self._expected = 0, 0.0, 0, 0.0

    @property
    def requests(self) -> int:
        """How many may be in flight now."""
        allowed = int(self._requests.value)
        return max(1, allowed // 2) if self._looking else allowed

    @property
    def body(self) -> int:
        """How large a body may be now, in bytes."""
        return int(self._body.value)

    def sent(self, *, busy: bool) -> Sent:
        """Notes that a request goes out; `busy`: with it, as many are in flight as may be."""
        return Sent(self._turn, busy)

    def answered(self, sent: Sent, size: int, seconds: float) -> None:
        """Learns from an answer to a request of `size` bytes that took `seconds`."""
        if sent.turn < self._since:
            return
        if seconds >= _SLOW:
            # A long queue that we made, perhaps; if not, the body.
            (self._requests if self.requests > _PAIR else self._body).halve(remember=self._good)
            self._begin_anew()
            return
        # With half the requests, only those count that were sent when the others had come back.
        if not sent.busy or (self._looking and sent.turn < self._turn):
            return
        self._count += 1
        self._seconds += seconds
        self._bytes += size
        # The fixed cost of a request weighs more on a small body: it may take as long as those that were looked at.
        own = self._own
        self._expected += max(size, own.size) * own.per_byte if own is not None else seconds
        if self._count >= max(_ROUND, self.requests):
            self._end_round()

    def refused(self, sent: Sent, seconds: float) -> None:
        """Learns that a request, or an item of it, was not taken for now, or that no answer came."""
        if sent.turn < self._since:
            return
        if self.requests == 1 or seconds >= _SLOW:
            self._body.halve(remember=self._good)
        self._requests.halve(remember=self._good)
        self._begin_anew()

    def too_large(self, size: int) -> None:
        """Learns that a body of `size` bytes was refused for its size."""
        self._body.limit(size // 2)

    def _begin_anew(self) -> None:
        self._turn += 1
        self._since = self._turn
        self._good = self._looking = False
        self._clear()

    def _end_round(self) -> None:
        near = self._seconds <= _TOLERANCE * self._expected
        mean = self._bytes / self._count
        # With so few requests this is what the server takes, be it more than before.
        if self._looking or self._own is None or (not near and self.requests <= _PAIR):
            self._learn(_Speed(self._seconds / self._bytes, mean))
        if self._looking:
            self._looking = False
        elif near:
            self._requests.grow()
            if mean >= 0.75 * self._body.value:  # else it is not this limit that keeps bodies small
                self._body.grow()
        else:
            self._requests.shrink(_PAIR)
        self._turn += 1
        self._good = True
        self._rounds += 1
        self._looking = self._rounds % _SPAN == 0 and self.requests > 1
        self._clear()

    def _learn(self, found: _Speed) -> None:
        """Takes the mean of what was known and what was found: one round alone may have been unlucky."""
        own = self._own or found
        self._own = _Speed((own.per_byte + found.per_byte) / 2, (own.size + found.size) / 2)

    def _clear(self) -> None:
        self._count, self._seconds, self._bytes, self._expected = 0, 0.0, 0, 0.0
