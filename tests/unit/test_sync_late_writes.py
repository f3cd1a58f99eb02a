"""A request that is still under way when its sender is gone: it lands after its successor read what the index holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from connectors.backends.ports import Operation
from connectors.sync.encode import content_hash, id_digest
from tests.support.clock import run_virtual
from tests.support.service import Service, connector, play
from tests.support.sources import ScriptedSource, documents
from tests.support.world import World


async def land_late(world: Any, handle: Any, epoch: int) -> None:
    """Lets a document land that the worker with this epoch sent."""
    body = b'{"number":9}'
    await world.destination.write(
        handle, [Operation("late", id_digest("late"), content_hash(body), (epoch << 40) + 99, body)]
    )


def test_what_lands_after_the_stamps_were_read_is_seen_by_a_later_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        listing = documents(range(3))
        await world.sync(ScriptedSource(listing))
        assert await world.kill(ScriptedSource([*listing, 100]), after=5)
        assert (await world.sync(ScriptedSource(listing))).provisional
        await land_late(world, world.handle, 2)
        assert (await world.sync(ScriptedSource(listing))).provisional
        assert "late" in world.indexed
        await asyncio.sleep(600)
        result = await world.sync(ScriptedSource(listing))
        assert not result.provisional
        assert (result.counters.unchanged, result.counters.vanished) == (3, 1)
        assert "late" not in world.indexed
        world.destination.stamps = None  # type: ignore[method-assign,assignment]  # once more is enough
        assert (await world.sync(ScriptedSource(listing))).counters.unchanged == 3

    run_virtual(scenario())


def test_a_delete_that_lands_after_the_stamps_were_read_is_undone_by_a_later_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        listing = documents(range(3))
        await world.sync(ScriptedSource(listing))
        assert await world.kill(ScriptedSource([*listing, 100]), after=5)
        await world.sync(ScriptedSource(listing))
        await world.destination.write(
            world.handle, [Operation("d1", id_digest("d1"), content_hash(b""), (2 << 40) + 99, None)]
        )
        assert "d1" not in world.indexed
        await asyncio.sleep(600)
        result = await world.sync(ScriptedSource(listing))
        assert (result.counters.unchanged, result.counters.indexed) == (2, 1)
        assert "d1" in world.indexed

    run_virtual(scenario())


def test_while_something_may_land_late_the_word_of_the_source_is_not_enough(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.unchanged.add("a")
        await service.run(100, service.worker("disk-1"))
        other = service.worker("other")
        await service.run(650, other)  # it knows nothing of the one before: it might have died
        await land_late(service, (await handle(service)), 1)
        assert service.site.asked == []
        await service.run(1300, other)
        assert "late" not in service.indexed()
        assert service.site.asked == ["a"]

    play(scenario, tmp_path, connector("a"))


async def handle(service: Service) -> Any:
    return service.destination._indices["shelf"].documents["d0"][0]
