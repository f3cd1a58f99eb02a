"""The simulated server of documents: a real destination behind a network and a machine that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectors.backends.ports import (
    Failure,
    FailureKind,
    IndexHandle,
    IndexInfo,
    IndexSpec,
    Operation,
    StampPage,
    WriteResult,
    unguarded,
)
from connectors.errors import RetryableError, SuspendSync
from tests.simulation.kernel import LATEST

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["DestinationClient", "Request", "Server"]

#: Seconds after which a client gives a request up.
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of one request: `before` and `after` are the seconds around its work."""

    kind: str = ""
    before: float = 0.0
    after: float = 0.0


@dataclass(slots=True)
class Request:
    """One bulk request that is under way; `held` are the seconds for which a queue holds it up."""

    process: str
    handle: IndexHandle
    operations: Sequence[Operation]
    held: float = 0.0


class Server:
    """Applies requests in tasks of its own: what was sent is applied, whatever became of its sender.

    Attributes:
        inner: the destination that keeps the documents.
        busy: requests that are under way or will be applied later.
    """

    def __init__(self, world: World, inner: Any) -> None:
        self._world = world
        self.inner = inner
        self.busy: dict[asyncio.Task[Any], Request] = {}
        self.away_until = 0.0
        #: Whether it refuses the documents that its mapping does not fit.
        self.strict = True

    async def write(self, process: str, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        """One bulk request, as its client sees it."""
        fate = self._fate()
        if fate.kind:
            self._world.note(process, f"request is {fate.kind} ({fate.before:.2f} s)")
        request = Request(process, handle, operations)
        work = asyncio.get_running_loop().create_task(self._work(fate, request), context=Context())
        self.busy[work] = request
        work.add_done_callback(self._done)
        done, _ = await asyncio.wait([work], timeout=_TIMEOUT)
        if not done:
            raise RetryableError("no answer in time")
        return work.result()

    def _done(self, work: asyncio.Task[Any]) -> None:
        self.busy.pop(work, None)
        if not work.cancelled():
            work.exception()  # looked at: its client may be gone

    def _fate(self) -> _Fate:
        world = self._world
        random = world.random
        if asyncio.get_running_loop().time() < self.away_until:
            return _Fate(random.choice(("refused", "lost")), 0.01)
        for kind in ("refused", "throttled", "cut", "part", "lost", "late", "items", "blocked"):
            if world.chance(f"request {kind}"):
                late = random.uniform(0, LATEST) if kind in {"late", "part"} else random.random()
                return _Fate(kind, late, random.random())
        slow = 0.0 if world.calm else world.plan.latency
        return _Fate("", random.random() * slow, random.random() * slow)

    async def _work(self, fate: _Fate, request: Request) -> WriteResult:
        random, operations = self._world.random, request.operations
        await asyncio.sleep(fate.before)
        if request.held:
            await asyncio.sleep(min(request.held, LATEST - fate.before))
        if fate.kind == "refused":
            raise RetryableError("connection refused")
        if fate.kind == "blocked":
            raise SuspendSync("index [i] blocked by: [FORBIDDEN/8/index write (api)]")
        if fate.kind == "throttled":
            raise RetryableError("429 Too Many Requests", retry_after=random.choice((None, 0.5, 3.0)))
        if fate.kind == "lost":
            await asyncio.sleep(_TIMEOUT)
            raise RetryableError("no answer")
        part = operations[: random.randrange(len(operations) + 1)] if fate.kind == "part" else operations
        later: set[int] = set()
        if fate.kind == "items":
            later = {at for at in range(len(operations)) if random.random() < 0.5}
        result = await self._apply(request.process, request.handle, part, later)
        await asyncio.sleep(fate.after)
        if fate.kind in {"cut", "part"}:
            raise RetryableError("the answer was cut short")
        return result

    async def _apply(
        self, process: str, handle: IndexHandle, operations: Sequence[Operation], later: set[int]
    ) -> WriteResult:
        failures: dict[int, Failure] = {}
        passed: list[tuple[int, Operation]] = []
        for at, operation in enumerate(operations):
            if at in later:
                failures[at] = Failure(FailureKind.OVERLOADED, "429 queue full")
            elif self.strict and operation.body is not None and b'"refused":true' in operation.body:
                failures[at] = Failure(FailureKind.REFUSED, "400 mapper_parsing_exception")
            else:
                passed.append((at, operation))
        sent = [operation for _, operation in passed]
        if sent:
            result = await self.inner.write(handle, sent)
            self._world.note(process, "landed", handle, sent, result)
            self._world.watch.lands(handle, sent, result)
            failures |= {passed[at][0]: failure for at, failure in result.failures.items()}
        return WriteResult(failures)


class DestinationClient:
    """What one process has of the server."""

    def __init__(self, process: Process, server: Server) -> None:
        self._process = process
        self._world = process.world
        self._server = server
        self._flying: list[int] = []

    async def _call(self, what: str) -> Any:
        """One request that is no bulk write; returns what answers it."""
        await self._process.gate()
        world = self._world
        if self._process.spared:
            return self._server.inner
        await asyncio.sleep(0.0 if world.calm else world.random.random() * world.plan.latency)
        if asyncio.get_running_loop().time() < self._server.away_until or world.chance("request refused"):
            world.note(self._process.name, f"{what} fails")
            raise RetryableError(f"{what}: connection refused")
        await self._process.gate()
        return self._server.inner

    async def write(self, handle: IndexHandle, operations: Sequence[Operation]) -> WriteResult:
        process, config = self._process, self._process.config.sync
        if process.spared:  # an operator sends what was refused long ago, as it was then
            return await self._server.write(process.name, handle, operations)
        self._world.watch.sends(process.name, handle, operations, resumed=process.stood_still())
        self._world.note(process.name, "sends", handle, operations)
        size = sum(200 + len(operation.body or b"") for operation in operations)
        self._flying.append(size)
        if len(self._flying) > config.writes_in_flight or (
            len(self._flying) > 1 and sum(self._flying) > config.bytes_in_flight
        ):
            self._world.fail(f"{len(self._flying)} requests of {sum(self._flying)} bytes are in flight")
        if len(operations) > config.batch_documents:
            self._world.fail(f"a request has {len(operations)} documents")
        try:
            await process.gate()
            result = await self._server.write(process.name, handle, operations)
            await process.gate()
        finally:
            self._flying.remove(size)
        return result

    async def prepare(self, spec: IndexSpec) -> IndexInfo:
        info: IndexInfo = await (await self._call("prepare")).prepare(spec)
        for connector in self._world.databases:
            if self._world.index_of(connector) == spec.name:
                self._world.watch.prepared[self._process.name, connector] = info.uuid
        return info

    async def info(self, index: str, pipeline: Mapping[str, Any] | None = None) -> IndexInfo | None:
        found: IndexInfo | None = await (await self._call("info")).info(index, pipeline)
        return found

    async def stamps(self, handle: IndexHandle) -> AsyncIterator[StampPage]:
        inner = await self._call("stamps")
        self._world.watch.counts(handle)
        async for page in inner.stamps(handle):
            yield page
            await self._process.gate()

    async def find_ids(self, handle: IndexHandle, digests: Sequence[bytes]) -> list[tuple[bytes, str]]:
        found: list[tuple[bytes, str]] = await (await self._call("find_ids")).find_ids(handle, digests)
        return found

    async def fetch(self, index: str, ids: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = await (await self._call("fetch")).fetch(index, ids)
        return found

    async def count(self, index: str, connector_id: str | None = None) -> int:
        number: int = await (await self._call("count")).count(index, connector_id)
        return number

    async def count_each(self, wanted: Sequence[tuple[str, str]]) -> list[int]:
        numbers: list[int] = await (await self._call("count_each")).count_each(wanted)
        return numbers

    async def purge(self, index: str, connector_id: str, *, guard: Callable[[], object] = unguarded) -> int:
        number: int = await (await self._call("purge")).purge(index, connector_id, guard=guard)
        self._world.watch.purged(connector_id)
        return number

    async def maintain(self) -> None:
        await (await self._call("maintain")).maintain()

    async def close(self) -> None: ...
