"""The pace against simulated servers: within its limits, near their capacity, back after an outage, fair."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.backends.ports import WriteResult
from connectors.errors import RetryableError
from connectors.sync.limits import FlightLimit
from connectors.sync.pace import Pace, Sent
from connectors.utils import Backoff
from tests.support.clock import run_virtual

BODY = 5_000_000
MOST = 8


@dataclass
class Server:
    """Works on some requests at once, lets some more wait, and refuses the rest.

    Attributes:
        workers: requests that it works on at once.
        queue: requests that may wait.
        overhead, per_byte: seconds that a request takes.
        noise: sigma of the logarithm of how much longer or shorter it takes.
        room: bytes that may be there at once; one request alone may always come.
    """

    workers: int
    queue: int
    overhead: float = 0.01
    per_byte: float = 1e-7
    noise: float = 0.0
    room: float = math.inf
    down: bool = False
    random: Random = field(default_factory=lambda: Random(0))
    inside: int = 0
    bytes: int = 0
    taken: int = 0
    refused: int = 0
    done: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.workers)
        self.reached = asyncio.Event()
        self.wanted = 0

    async def write(self, owner: str, size: int) -> WriteResult:
        full = self.inside >= self.workers + self.queue or (self.inside and self.bytes + size > self.room)
        if self.down or full:
            self.refused += 1
            await asyncio.sleep(0.002)
            raise RetryableError("429")
        self.inside += 1
        self.bytes += size
        try:
            async with self.free:
                seconds = self.overhead + size * self.per_byte
                await asyncio.sleep(seconds * self.random.lognormvariate(-(self.noise**2) / 2, self.noise))
        finally:
            self.inside -= 1
            self.bytes -= size
        self.taken += 1
        self.done[owner] += size
        if self.taken >= self.wanted:
            self.reached.set()
        return WriteResult()

    async def takes(self, number: int) -> None:
        """Waits until it has taken so many more requests."""
        self.wanted = self.taken + number
        self.reached.clear()
        await self.reached.wait()

    @property
    def capacity(self) -> float:
        """Bytes a second, with as many and as large requests as we may send."""
        return min(self.workers, MOST) * BODY / (self.overhead + BODY * self.per_byte)


async def write_for_ever(limit: FlightLimit, server: Server, owner: str, size: Callable[[], int]) -> None:
    """One of the writers of a sync whose source is never short of documents."""
    while True:
        backoff = Backoff(initial=0.2, maximum=30.0, random=server.random)
        while True:
            body = size()
            try:
                async with limit.slot(owner, body) as flight:
                    flight.result = await server.write(owner, body)
                break
            except RetryableError:
                await asyncio.sleep(backoff.next())


@asynccontextmanager
async def writers(
    limit: FlightLimit, server: Server, owner: str = "a", number: int = MOST, size: Callable[[], int] | None = None
) -> AsyncIterator[None]:
    """Has so many writers of one sync send all the time."""
    tasks = [
        asyncio.create_task(write_for_ever(limit, server, owner, size or (lambda: limit.body))) for _ in range(number)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


servers = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 12),
        "queue": st.sampled_from([0, 1, 3, 100]),
        "overhead": st.sampled_from([0.001, 0.01, 0.1]),
        "per_byte": st.sampled_from([2e-8, 1e-7, 4e-7]),
        "noise": st.sampled_from([0.0, 0.1, 0.3]),
        "random": st.integers(0, 1 << 16).map(Random),
    }
)


@settings(max_examples=40)
@given(servers)
def test_it_finds_the_capacity_of_a_server_within_60_requests_and_stays_there(options: dict[str, object]) -> None:
    async def scenario() -> None:
        server, limit = Server(**options), FlightLimit(MOST, 64_000_000, body=BODY)  # type: ignore[arg-type] # Hypothesis
        loop = asyncio.get_running_loop()
        async with writers(limit, server):
            await server.takes(60)
            begun, done, refused = loop.time(), server.done.total(), server.refused
            await server.takes(400)
        assert (server.done.total() - done) / (loop.time() - begun) >= 0.85 * server.capacity
        assert server.refused - refused <= 0.03 * 400

    run_virtual(scenario())


@settings(max_examples=30)
@given(workers=st.integers(1, 12), room=st.integers(1_000_000, 30_000_000), seed=st.integers(0, 1 << 16).map(Random))
def test_a_server_that_counts_bytes_refuses_few_too(workers: int, room: int, seed: Random) -> None:
    async def scenario() -> None:
        server, limit = Server(workers, 100, room=room, random=seed), FlightLimit(MOST, 64_000_000, body=BODY)
        async with writers(limit, server):
            await server.takes(60)
            refused = server.refused
            await server.takes(400)
        assert server.refused - refused <= 0.03 * 400

    run_virtual(scenario())


@settings(max_examples=30)
@given(options=servers, outage=st.sampled_from([1.0, 60.0, 3600.0]))
def test_it_is_back_after_an_outage_when_the_last_writer_tries_again(options: dict[str, object], outage: float) -> None:
    async def scenario() -> None:
        server, limit = Server(**options), FlightLimit(MOST, 64_000_000, body=BODY)  # type: ignore[arg-type] # Hypothesis
        loop = asyncio.get_running_loop()
        async with writers(limit, server):
            await server.takes(100)
            server.down = True
            await asyncio.sleep(outage)
            server.down = False
            await asyncio.sleep(30)  # the longest back-off of a writer
            await server.takes(60)
            begun, done = loop.time(), server.done.total()
            await server.takes(400)
        assert (server.done.total() - done) / (loop.time() - begun) >= 0.85 * server.capacity

    run_virtual(scenario())


@settings(max_examples=30)
@given(
    syncs=st.lists(st.tuples(st.integers(1, MOST), st.integers(1_000, BODY)), min_size=2, max_size=6),
    workers=st.integers(1, MOST),
)
def test_syncs_that_always_have_something_share_the_bytes_evenly(syncs: list[tuple[int, int]], workers: int) -> None:
    # Each sync has more writers than there are requests in flight, so that one of them always waits.
    async def scenario() -> None:
        server, limit = Server(workers, 100, overhead=1e-4), FlightLimit(2, 64_000_000, body=BODY)
        running = [
            writers(limit, server, str(number), 2 + count, lambda size=size: size)  # type: ignore[misc] # inference
            for number, (count, size) in enumerate(syncs)
        ]
        for context in running:
            await context.__aenter__()
        await server.takes(50 * len(syncs))
        for context in running:
            await context.__aexit__(None, None, None)
        largest = max(size for _, size in syncs)
        shares = [server.done[str(number)] for number in range(len(syncs))]
        assert max(shares) - min(shares) <= 2 * (2 + 1) * largest  # of two in flight

    run_virtual(scenario())


@dataclass(frozen=True)
class Event:
    """Something that happens to a request: which of those that are open, and what."""

    which: int
    kind: str
    size: int
    seconds: float


events = st.builds(
    Event,
    which=st.integers(0, 100),
    kind=st.sampled_from(["sent", "sent", "idle", "answered", "answered", "answered", "refused", "too large"]),
    size=st.integers(1, 100_000_000),
    seconds=st.one_of(st.floats(0, 1000), st.floats(0, 0.1)),
)


@settings(max_examples=200)
@given(most=st.integers(1, 100), body=st.integers(1, 100_000_000), history=st.lists(events, max_size=300))
def test_whatever_happens_it_stays_within_its_limits(most: int, body: int, history: list[Event]) -> None:
    pace, flights, largest = Pace(most, body), list[Sent](), body
    for event in history:
        if event.kind in {"sent", "idle"}:
            flights.append(pace.sent(busy=event.kind == "sent"))
        elif event.kind == "too large":
            pace.too_large(event.size)
            largest = min(largest, max(1, event.size // 2))
        elif flights:
            sent = flights.pop(event.which % len(flights))
            if event.kind == "answered":
                pace.answered(sent, event.size, event.seconds)
            else:
                pace.refused(sent, event.seconds)
        assert 1 <= pace.requests <= most
        assert min(64_000, largest) <= pace.body <= largest
