"""Nothing is deleted beyond what the operator allows, and the error says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import DeletionGuardError
from tests.support.clock import run_virtual
from tests.support.sources import ScriptedSource, documents
from tests.support.world import World


async def refused(world: World, source: ScriptedSource, **metadata: Any) -> DeletionGuardError:
    before = world.indexed
    with pytest.raises(DeletionGuardError) as caught:
        await world.sync(source, **metadata)
    assert world.indexed.keys() >= before.keys()
    return caught.value


def test_the_ratio_counts_from_a_hundred_documents_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path / "99")
        await world.sync(ScriptedSource(documents(range(99))))
        assert (await world.sync(ScriptedSource(documents([1])))).counters.vanished == 98
        world = World(tmp_path / "100")
        await world.sync(ScriptedSource(documents(range(100))))
        assert (await refused(world, ScriptedSource(documents(range(79))))).vanished == 21
        assert (await world.sync(ScriptedSource(documents(range(80))))).counters.vanished == 20

    run_virtual(scenario())


def test_the_message_says_how_to_allow_it_and_that_works(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(200))))
        error = await refused(world, ScriptedSource(documents(range(100))), allow_deletes=99)
        assert str(error) == (
            "this sync would delete 100 of the 200 documents that c has in i; max_delete_ratio is 0.2. Nothing was "
            "deleted. If that is right, run: connectors sync c --allow-deletes 100"
        )
        await world.store.update_job((await world.store.jobs())[0].id, {"status": "error"}, statuses=["pending"])
        result = await world.sync(ScriptedSource(documents(range(100))), allow_deletes=100)
        assert result.counters.vanished == 100
        assert len(world.indexed) == 100

    run_virtual(scenario())


@pytest.mark.parametrize("ratio", [0.2, 1.0])
def test_an_empty_enumeration_deletes_nothing_however_few_there_are(tmp_path: Path, ratio: float) -> None:
    async def scenario() -> None:
        world = World(tmp_path, max_delete_ratio=ratio)
        assert (await world.sync(ScriptedSource([]))).counters.read == 0
        await world.sync(ScriptedSource(documents([1])))
        assert "the source listed no document" in str(await refused(world, ScriptedSource([])))
        assert len(world.indexed) == 1

    run_virtual(scenario())


def test_changed_rules_are_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        world.rules = [{"id": "1", "order": 1, "policy": "exclude", "field": "edition", "rule": "equals", "value": "1"}]
        world.configuration = "configuration-2"
        error = str(await refused(world, ScriptedSource(documents(range(3)))))
        assert "the sync rules keep no document; the configuration or the sync rules changed" in error

    run_virtual(scenario())


def test_what_was_read_before_the_guard_struck_is_not_done_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(200))))
        listing = [*documents(range(100), edition=2), *documents([1000])]
        await refused(world, ScriptedSource(listing))
        assert world.indexed["d0"]["edition"] == 2
        assert await world.ledger() == world.stamps()
        assert (await world.store.jobs())[0].metadata["counters"]["indexed"] == 101

    run_virtual(scenario())
