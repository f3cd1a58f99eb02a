"""Readers that read at once: what comes of them, how many there are, and that none outlives its consumer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.backends.server.interleave import interleaved
from tests.support.clock import run_virtual


class Reader:
    """Reads the numbers below `items`, each in `seconds`; notes how many readers are at it."""

    under_way = 0
    peak = 0

    def __init__(self, name: str, items: int, seconds: float = 1.0, *, fails: bool = False) -> None:
        self.calls = 0
        self._name = name
        self._items = items
        self._seconds = seconds
        self._fails = fails

    async def __call__(self) -> str | None:
        Reader.under_way += 1
        Reader.peak = max(Reader.peak, Reader.under_way)
        try:
            self.calls += 1
            await asyncio.sleep(self._seconds)
        finally:
            Reader.under_way -= 1
        if self.calls <= self._items:
            return f"{self._name}{self.calls}"
        if self._fails:
            raise OSError(self._name)
        return None


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Reader.under_way = Reader.peak = 0


async def _all(items: AsyncGenerator[str, None]) -> list[str]:
    async with aclosing(items):
        return [item async for item in items]


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 1.0, 2.5])), max_size=7), st.integers(1, 4))
def test_everything_is_read_once_and_no_more_at_a_time_than_allowed(
    readers: list[tuple[int, float]], at_once: int
) -> None:
    Reader.peak = 0
    made = [Reader(f"{number}/", items, seconds) for number, (items, seconds) in enumerate(readers)]
    read = run_virtual(_all(interleaved(made, at_once)))
    assert Counter(read) == Counter(f"{n}/{i + 1}" for n, (items, _) in enumerate(readers) for i in range(items))
    assert Reader.peak == min(at_once, len(readers))


def test_readers_take_as_long_as_the_longest_of_them() -> None:
    async def timed() -> float:
        began = asyncio.get_running_loop().time()
        await _all(interleaved([Reader(name, 4) for name in "abc"], 3))
        return asyncio.get_running_loop().time() - began

    assert run_virtual(timed()) == pytest.approx(5)


def test_a_slow_consumer_is_one_step_ahead_of_nobody() -> None:
    async def slowly() -> int:
        reader = Reader("a", 100)
        async with aclosing(interleaved([reader], 1)) as items:
            async for _ in items:
                await asyncio.sleep(60)
                return reader.calls
        raise AssertionError("nothing was read")

    assert run_virtual(slowly()) == 2


async def _stopped_early(items: AsyncGenerator[str, None]) -> None:
    async for _ in items:
        break
    assert Reader.under_way > 0
    await items.aclose()


async def _closed_by_another_task(items: AsyncGenerator[str, None]) -> None:
    async def first() -> str:
        return await anext(items)

    async def close() -> None:
        await items.aclose()

    await asyncio.create_task(first())
    assert Reader.under_way > 0
    await asyncio.create_task(close())


async def _consumer_cancelled(items: AsyncGenerator[str, None]) -> None:
    consumer = asyncio.create_task(_all(items))
    await asyncio.sleep(2.5)
    assert Reader.under_way > 0
    consumer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consumer


async def _consumer_failed(items: AsyncGenerator[str, None]) -> None:
    async def failing() -> None:
        async with aclosing(items):
            async for _ in items:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()


@pytest.mark.parametrize("stop", [_stopped_early, _closed_by_another_task, _consumer_cancelled, _consumer_failed])
def test_no_reader_outlives_its_consumer(stop: Callable[[AsyncGenerator[str, None]], Awaitable[None]]) -> None:
    async def scenario() -> int:
        await stop(interleaved([Reader(name, 10, 1 + at / 10) for at, name in enumerate("abcd")], 3))
        assert Reader.under_way == 0
        return len(asyncio.all_tasks())

    assert run_virtual(scenario()) == 1


def test_an_error_ends_the_others_and_no_second_one_is_left_unseen() -> None:
    unseen: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        readers = [Reader("a", 1, fails=True), Reader("b", 1, fails=True), Reader("c", 10, 7)]
        with pytest.raises(OSError, match=r"^[ab]$"):
            await _all(interleaved(readers, 3))
        assert Reader.under_way == 0

    run_virtual(scenario())
    assert unseen == []
