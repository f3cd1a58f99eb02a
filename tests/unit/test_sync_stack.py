"""Where a coroutine waits is found through generators, tasks, iterators of one's own and code in C."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import pytest

from connectors.sync import stack


async def deepest() -> None:
    await asyncio.sleep(100)


async def in_a_task() -> None:
    await asyncio.create_task(deepest())


async def generator() -> AsyncIterator[int]:
    yield 1
    await in_a_task()
    yield 2


async def outer_generator() -> AsyncIterator[int]:
    async for item in generator():
        yield item


class OwnIterator:
    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> int:
        await deepest()
        return 1


async def read(stream: Callable[[], Any]) -> None:
    async for _ in stream():
        pass


async def settled() -> None:
    """Lets all tasks run until they wait for something else than each other."""
    for _ in range(20):
        await asyncio.sleep(0)


async def names_of(awaitable: Awaitable[None]) -> list[str]:
    task = asyncio.ensure_future(awaitable)
    assert isinstance(task, asyncio.Task)
    await settled()
    frames = stack.waiting_frames(task)
    task.cancel()
    await asyncio.wait([task])
    return [frame.f_code.co_name for frame in frames]


@pytest.mark.parametrize(
    ("stream", "names"),
    [
        (outer_generator, ["read", "outer_generator", "generator", "in_a_task", "deepest", "sleep"]),
        (OwnIterator, ["read", "__anext__", "deepest", "sleep"]),
    ],
)
async def test_the_way_down_to_where_a_reader_waits(stream: Callable[[], Any], names: list[str]) -> None:
    assert await names_of(read(stream)) == names


async def test_two_tasks_that_wait_for_each_other_are_no_endless_way() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def wait_for(number: int) -> None:
        await asyncio.sleep(0)
        await asyncio.shield(tasks[number]) if number else await tasks[1]

    tasks += [asyncio.create_task(wait_for(1)), asyncio.create_task(wait_for(0))]
    await settled()
    assert len(stack.waiting_frames(tasks[0])) <= 200
    tasks[1].cancel()
    await asyncio.wait(tasks)


async def test_a_line_says_file_line_and_function() -> None:
    task = asyncio.create_task(read(outer_generator))
    await settled()
    told = stack.told(stack.frames_below(stack.waiting_frames(task), "read"), limit=2)
    task.cancel()
    await asyncio.wait([task])
    innermost, above = told.split(" < ")
    assert innermost.endswith("in sleep")
    assert above.startswith("tests/unit/test_sync_stack.py:")
    assert above.endswith(" in deepest")
