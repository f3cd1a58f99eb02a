"""How stamps are asked for: few requests for few, slices for many, and a point in time that is closed in any case."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

import orjson
import pytest

from connectors.backends.ports import IndexHandle
from connectors.backends.server import ELASTICSEARCH, OPENSEARCH, Client, Product, Response
from connectors.backends.server.pit import PointInTime
from connectors.backends.server.stamps import AT_ONCE, PAGE, read_stamps
from connectors.errors import RetryableError
from tests.support.transport import answer

HANDLE: Final = IndexHandle("things", "uuid", "one", "f")
_HIT: Final = {"fields": {"_sync.id": ["0" * 32], "_sync.hash": ["1" * 16], "_sync.fingerprint": ["f"]}, "sort": [7]}
FULL: Final = answer(200, {"hits": {"hits": [_HIT] * PAGE}})
PART: Final = answer(200, {"hits": {"hits": [_HIT] * 3}})
ES8: Final = {"number": "8.19.0"}
OS2: Final = {"number": "2.19.1", "distribution": "opensearch"}
LOST: Final = answer(404, {"error": {"type": "search_context_missing_exception", "reason": "no context"}})

Answers = Callable[[dict[str, Any]], Awaitable[Response]]


class Index:
    """A server with one index, whose searches a test answers."""

    def __init__(self, answers: Answers, *, version: Mapping[str, str] = ES8, count: int = 0) -> None:
        self.searches: list[dict[str, Any]] = []
        self.closed: list[Any] = []
        self.requests = 0
        self.under_way = 0
        self.peak = 0
        self._answers = answers
        self._fixed = {"": {"version": version}, "_refresh": {}, "_count": {"count": count}}

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        self.requests += 1
        asked = orjson.loads(body or b"null")
        name = target.partition("?")[0].rpartition("/")[2]
        if name == "_search":
            return await self._search(asked)
        if method == "DELETE":
            assert self.under_way == 0, "closed while it is searched in"
            self.closed.append(asked)
            return answer()
        return answer(200, self._fixed.get(name, {"id": "p", "pit_id": "p"}))

    async def _search(self, asked: dict[str, Any]) -> Response:
        self.searches.append(asked)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            return await self._answers(asked)
        finally:
            self.under_way -= 1

    async def close(self) -> None:
        pass


def client_of(index: Index, product: Product = ELASTICSEARCH) -> Client:
    return Client(index, product, url="http://search")


async def read(index: Index, product: Product = ELASTICSEARCH) -> int:
    return sum([len(page.hashes) // 8 async for page in read_stamps(client_of(index, product), HANDLE)])


async def test_one_page_is_read_by_one_search() -> None:
    async def answers(_: dict[str, Any]) -> Response:
        return PART

    index = Index(answers)
    assert await read(index) == 3
    assert "slice" not in index.searches[0]
    assert index.requests == len(["version", "refresh", "open", "search", "close"])


async def test_what_is_left_after_a_page_is_shared_by_slices_at_once() -> None:
    everyone = asyncio.Barrier(AT_ONCE)

    async def answers(asked: dict[str, Any]) -> Response:
        if "slice" in asked:
            await everyone.wait()  # a slice that waits for another to end would wait for ever
            return PART
        return FULL

    index = Index(answers)
    async with asyncio.timeout(30):
        assert await read(index) == PAGE + AT_ONCE * 3
    whole, *slices = index.searches
    assert "search_after" not in whole
    assert [asked["slice"] for asked in slices] == [{"id": number, "max": AT_ONCE} for number in range(AT_ONCE)]
    assert all(asked["search_after"] == [7] for asked in slices)
    assert index.peak == AT_ONCE


async def test_ranges_of_digests_are_read_at_once_too() -> None:
    async def answers(_: dict[str, Any]) -> Response:
        await asyncio.sleep(0)
        return PART

    index = Index(answers, version=OS2, count=10 * PAGE)
    assert await read(index, OPENSEARCH) == 21 * 3
    assert index.peak == AT_ONCE
    assert not any("slice" in asked for asked in index.searches)


async def _hanging(asked: dict[str, Any]) -> Response:
    """Answers the first page and the first slice; the others never."""
    if asked.get("slice", {"id": 0})["id"] == 0:
        return FULL
    await asyncio.Event().wait()
    return FULL


async def test_a_reader_that_stops_ends_all_requests_and_closes_the_point_in_time() -> None:
    index = Index(_hanging)
    pages = read_stamps(client_of(index), HANDLE)
    async with aclosing(pages):
        await anext(pages)
        await anext(pages)
        assert index.under_way == AT_ONCE - 1
    assert index.under_way == 0
    assert index.closed == [{"id": "p"}]


async def test_a_reader_that_is_cancelled_does_so_too() -> None:
    index = Index(_hanging)
    sliced = asyncio.Event()

    async def reading() -> None:
        async with aclosing(read_stamps(client_of(index), HANDLE)) as pages:
            async for _ in pages:
                if index.peak > 1:
                    sliced.set()

    task = asyncio.create_task(reading())
    await sliced.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert index.under_way == 0
    assert index.closed == [{"id": "p"}]


async def test_a_slice_that_fails_ends_the_others() -> None:
    async def answers(asked: dict[str, Any]) -> Response:
        if asked.get("slice", {}).get("id") == 1:
            return LOST
        return await _hanging(asked)

    index = Index(answers)
    with pytest.raises(RetryableError, match="no context"):
        await read(index)
    assert index.under_way == 0
    assert index.closed == [{"id": "p"}]


async def test_a_late_answer_does_not_bring_an_old_name_back() -> None:
    late = asyncio.Event()

    async def answers(asked: dict[str, Any]) -> Response:
        if asked["late"]:
            await late.wait()
            return answer(200, {"pit_id": "p"})
        return answer(200, {"pit_id": "renamed"})

    pit = PointInTime(client_of(Index(answers)), "p", {})
    waiting = asyncio.create_task(pit.search({"late": True}))
    await asyncio.sleep(0)
    await pit.search({"late": False})
    late.set()
    await waiting
    assert pit.id == "renamed"
