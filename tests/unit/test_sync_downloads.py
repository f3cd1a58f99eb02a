"""Downloads: a few tasks run them all, and what goes wrong in one costs its document alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import IndexChangedError, SyncError
from connectors.sync.watch import Watch
from tests.support.clock import run_virtual
from tests.support.sources import Download, ScriptedSource, documents
from tests.support.world import World, counted


def test_a_few_tasks_run_all_downloads_and_end_with_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=3)
        tasks: set[Any] = set()

        async def lazy(*, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any]:
            tasks.add(asyncio.current_task())
            for _ in range(world.runtime.random.randrange(4)):
                await asyncio.sleep(0)
            return {"body": "text"}

        await world.sync(ScriptedSource([*documents(range(1), lazy=lambda _: lazy), 5]))
        assert len(tasks) == 1
        result = await world.sync(ScriptedSource(documents(range(1, 1001), lazy=lambda _: lazy)))
        assert counted(result)["indexed"] == 1000
        assert len(tasks) == 1 + 3
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


@pytest.mark.parametrize("concurrent", [1, 4])
def test_one_that_hangs_costs_its_document_and_its_time_alone(tmp_path: Path, concurrent: int) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=concurrent, download_timeout=60.0)
        lazies = {n: Download({"body": "text"}, seconds=1000 if n % 10 == 3 else 1) for n in range(40)}
        result = await world.sync(ScriptedSource(documents(range(40), lazy=lazies.get)))
        assert counted(result) == {"read": 40, "indexed": 36, "dead_lettered": 4}
        hung = 4 * 60 if concurrent == 1 else 60  # one after the other, or all at once
        assert asyncio.get_running_loop().time() < hung + 40 + 3
        assert set((await world.letters()).values()) == {"the download took longer than 1m"}

    run_virtual(scenario())


async def _cancelled_future() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


async def _raise() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("cancelled", [_cancelled_future, _raise])
def test_one_that_a_library_cancels_is_a_dead_letter_and_the_sync_goes_on(
    tmp_path: Path, cancelled: Callable[[], Any]
) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=2)

        async def lazy(*, doit: bool = True, timestamp: Any = None) -> None:
            await cancelled()

        good = Download({"body": "text"})
        result = await world.sync(ScriptedSource(documents(range(9), lazy=lambda n: lazy if n % 3 == 0 else good)))
        assert counted(result) == {"read": 9, "indexed": 6, "dead_lettered": 3}
        assert set((await world.letters()).values()) == {"the download was cancelled, and nobody asked for it"}

    run_virtual(scenario())


@pytest.mark.parametrize("before", [0, 1, 5])
def test_none_begins_when_the_sync_ends_and_its_source_hears_nothing(tmp_path: Path, before: int) -> None:
    """A library of the source swallows the cancellation, and goes on with documents whose files are to be fetched."""

    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=3)
        late, cancelled = list[Download](), list[float]()

        def lazy(_: int) -> Download:
            late.append(Download({"body": "text"}))
            return late[-1]

        async def fail() -> None:
            await asyncio.sleep(2)
            await world.destination.delete_index("i")

        async def hear_nothing() -> None:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            cancelled.append(asyncio.get_running_loop().time())

        first = documents(range(before), lazy=lambda _: Download({"body": "text"}))
        script = [*first, fail, *documents([500]), hear_nothing, *documents(range(10, 600), lazy=lazy), 1000]
        with pytest.raises(IndexChangedError):
            await world.sync(ScriptedSource(script))
        assert not any(download.done for download in late)
        assert asyncio.get_running_loop().time() < cancelled[0] + 0.1, "it ends at once"
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


def test_one_whose_library_swallows_the_cancellation_does_not_hold_up_the_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=2)

        async def hear_nothing(*, doit: bool = True, timestamp: Any = None) -> Mapping[str, Any]:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            return {"body": "text"}

        broken = Download(error=SyncError("the disk is gone"), seconds=1)
        with pytest.raises(SyncError, match="the disk is gone"):
            await world.sync(ScriptedSource(documents(range(2), lazy=lambda n: broken if n else hear_nothing)))
        assert asyncio.get_running_loop().time() < 1.1
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


def test_an_error_that_is_not_the_documents_ends_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=2)
        broken = Download(error=SyncError("the disk is gone"), seconds=1)
        good = Download({"body": "text"}, seconds=0.1)
        script = documents(range(50), lazy=lambda n: broken if n == 20 else good)
        with pytest.raises(SyncError, match="the disk is gone"):
            await world.sync(ScriptedSource(script))
        assert len(asyncio.all_tasks()) == 1

    run_virtual(scenario())


def test_a_watch_tells_the_oldest_first_and_nothing_of_who_has_nothing_to_do() -> None:
    async def scenario() -> None:
        watch = Watch()
        with watch.doing("") as first, watch.doing("downloading a") as second:
            assert watch.where() == "downloading a, for 0s"
            await asyncio.sleep(5)
            first.change("downloading b")
            await asyncio.sleep(5)
            assert watch.where() == "downloading a, for 10s; downloading b, for 5s"
            second.change("downloading c")
            assert watch.where() == "downloading b, for 5s; downloading c, for 0s"
            second.change("")
            assert watch.where() == "downloading b, for 5s"

    run_virtual(scenario())
