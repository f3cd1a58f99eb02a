"""A preview says beforehand what a sync with the rules then does, and does nothing itself."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import IndexHandle
from connectors.byoc import Filter
from connectors.errors import DeletionGuardError, SyncError
from connectors.source import Checkpoint, Document, Skipped
from connectors.sync.guard import Limits
from connectors.sync.preview import Counting, Impact, Preview, Verdict
from tests.support.clock import InlineRuntime, run_virtual
from tests.support.sources import Download, ScriptedSource, documents
from tests.support.world import CONNECTOR, INDEX, World


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def rule(rule_id: str, policy: str, field: str, value: Any, order: int = 1) -> dict[str, Any]:
    return {"id": rule_id, "order": order, "policy": policy, "field": field, "rule": "equals", "value": str(value)}


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def counting(world: World) -> Counting:
    index = world.destination._indices.get(INDEX)
    handle = IndexHandle(INDEX, index.uuid, CONNECTOR, "") if index is not None else None
    return Counting(world.destination, handle, Limits(world.config.max_delete_ratio, 100))


async def previewed(
    world: World, source: ScriptedSource, *rules: Mapping[str, Any], limit: int = 5, counts: bool = True
) -> Preview:
    chosen = Filter.of(list(map(dict, rules)))
    preview = Preview(source, chosen, limit=limit, runtime=world.runtime, counting=counting(world) if counts else None)
    await preview.run()
    return preview


def test_each_document_with_the_rule_that_decides(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        listing = [
            ({"_id": "1", "team": {"name": ["a", "b"]}}, None),
            ({"_id": "2", "state": "x" * 500}, None),
            Skipped("locked", "3"),
            Checkpoint(3),
            Skipped("a closed folder"),
            ({"_id": "4"}, None),
        ]
        rules = [rule("ours", "include", "team.name", "b"), rule("long", "exclude", "state", "x" * 500, 2)]
        found = await previewed(world, ScriptedSource(listing), *rules, {"id": "DEFAULT", "policy": "exclude"})
        assert [(verdict.id, verdict.kept, verdict.rule and verdict.rule.id) for verdict in found.verdicts] == [
            ("1", True, "ours"),
            ("2", False, "long"),
            ("3", None, None),
            (None, None, None),
            ("4", False, "DEFAULT"),
        ]
        assert [verdict.value for verdict in found.verdicts] == ["['a', 'b']", "x" * 199 + "…", None, None, None]
        assert [verdict.reason for verdict in found.verdicts][2:] == [
            "locked", "a closed folder", "exclude everything else (default rule)",
        ]  # fmt: skip
        assert [(each.rule.id, each.documents) for each in found.by_rule] == [("ours", 1), ("long", 1), ("DEFAULT", 1)]
        assert (found.read, found.kept, found.dropped, found.unreadable) == (5, 1, 2, 2)
        assert found.incomplete == ["a closed folder"]

    run_virtual(scenario())


def test_without_counting_no_more_is_read_than_is_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        source = ScriptedSource(documents(range(100)))
        found = await previewed(World(tmp_path), source, limit=3, counts=False)
        assert [verdict.id for verdict in found.verdicts] == ["d0", "d1", "d2"]
        assert (source.yielded, found.read, found.impact) == (3, 3, None)

    run_virtual(scenario())


@pytest.mark.parametrize("held", [0, 99, 100, 1000])
def test_what_it_counts_is_what_the_sync_does(tmp_path: Path, held: int) -> None:
    """Also of more documents than one page, listed twice, gone, and new."""

    async def scenario() -> None:
        world = World(tmp_path)
        if held:
            await world.sync(ScriptedSource(documents(range(held))))
        listing = [
            *documents(range(held // 2)),
            *documents(range(held // 2, held * 3 // 4), edition=2),
            *documents(range(2000, 2600)),
            *documents(range(2000, 2100)),
            *documents([2000], edition=2),
        ]
        rules = [rule("old", "exclude", "edition", 2)]
        found = await previewed(world, ScriptedSource(listing), *rules)
        assert found.impact is not None
        before = set(world.indexed)
        world.rules = rules
        if found.impact.stopped:
            with pytest.raises(DeletionGuardError) as caught:
                await world.sync(ScriptedSource(listing))
            assert caught.value.vanished == found.impact.deleted
        else:
            await world.sync(ScriptedSource(listing))
            assert len(before - set(world.indexed)) == found.impact.deleted
        assert found.impact.stopped == (held >= 100)
        assert len(set(world.indexed) - before) == found.impact.added == 600
        assert found.impact.held == held
        assert found.impact.dropped == found.by_rule[0].deletes == held * 3 // 4 - held // 2
        assert found.impact.unlisted == held - held * 3 // 4

    run_virtual(scenario())


def test_of_a_source_that_need_not_list_all_only_the_rules_delete(tmp_path: Path) -> None:
    class Series(ScriptedSource):
        lists_all = False

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Series(documents(range(200))))
        found = await previewed(world, Series(documents(range(150, 300))), rule("one", "exclude", "number", 160))
        assert found.impact == Impact(held=200, added=100, dropped=1, unlisted=0, stopped=False)

    run_virtual(scenario())


def test_nothing_is_written_and_nothing_is_left(tmp_path: Path, temporary: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(300))))
        requests, commits = len(world.destination.requests), len(world.store.commits)
        before = files(tmp_path)
        lazy = Download({"body": "x"})
        await previewed(world, ScriptedSource([*documents(range(500)), ({"_id": "f"}, lazy)]))
        assert (lazy.done, lazy.released) == (0, 1)
        assert (len(world.destination.requests), len(world.store.commits)) == (requests, commits)
        assert files(tmp_path) == before

    run_virtual(scenario())
    assert list(temporary.iterdir()) == []


def test_it_ends_when_it_is_cancelled(tmp_path: Path, temporary: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        source = ScriptedSource([*documents(range(3)), 1e6, *documents(range(3, 6))])
        preview = Preview(source, Filter(), limit=2, runtime=world.runtime, counting=counting(world))
        running = asyncio.create_task(preview.run())
        await preview.shown.wait()
        await asyncio.sleep(5)
        assert [verdict.id for verdict in preview.verdicts] == ["d0", "d1"]
        assert (preview.read, preview.impact) == (3, None)
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()
        assert source.closed

    run_virtual(scenario())
    assert list(temporary.iterdir()) == []


def test_other_tasks_run_meanwhile(tmp_path: Path) -> None:
    seconds = count()

    class Hurried(InlineRuntime):
        def monotonic(self) -> float:
            return float(next(seconds))

    async def scenario() -> int:
        world = World(tmp_path)
        world.runtime = Hurried()
        looks = 0

        async def look() -> None:
            nonlocal looks
            while True:
                looks += 1
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await previewed(world, ScriptedSource(documents(range(500))))
        looking.cancel()
        return looks

    assert asyncio.run(scenario()) >= 500


def test_an_unreadable_document_stays_and_an_unreadable_place_deletes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(200))))
        found = await previewed(world, ScriptedSource([Skipped("locked", "d7")]))
        assert found.impact == Impact(held=200, added=0, dropped=0, unlisted=199, stopped=True)
        found = await previewed(world, ScriptedSource([Skipped("a closed folder")]))
        assert found.impact == Impact(held=200, added=0, dropped=0, unlisted=200, stopped=False)
        assert found.incomplete == ["a closed folder"]

    run_virtual(scenario())


def test_ids_are_those_of_the_index(tmp_path: Path) -> None:
    """Numbers, very long ones, and those that `serialize` makes; the rules see the document before it."""

    class Serializing(ScriptedSource):
        def serialize(self, doc: Document) -> Document:
            return {**doc, "_id": f"made-{doc['_id']}", "state": "serialized"}

    async def scenario() -> None:
        world = World(tmp_path)
        listing = [({"_id": given, "state": "raw"}, None) for given in (7, "x" * 600, "é" * 300)]
        await world.sync(Serializing(listing))
        assert {document["state"] for document in world.indexed.values()} == {"serialized"}
        for chosen, dropped in (
            ([rule("1", "exclude", "state", "serialized")], 0),
            ([rule("1", "exclude", "state", "raw")], 3),
        ):
            found = await previewed(world, Serializing(listing), *chosen)
            assert found.impact is not None
            assert (found.impact.held, found.impact.dropped, found.impact.unlisted) == (3, dropped, 0)
            world.rules = list(chosen)
            world.config = world.config.model_copy(update={"max_delete_ratio": 1.0})
            result = await world.sync(Serializing(listing), allow_deletes=3)
            assert (result.counters.filtered, result.counters.vanished) == (dropped, dropped)

    run_virtual(scenario())


@pytest.mark.parametrize("broken", [{}, {"_id": ""}, {"_id": None}])
def test_what_a_sync_could_not_take_is_told(tmp_path: Path, broken: Document) -> None:
    async def scenario() -> None:
        with pytest.raises(SyncError, match="without `_id`"):
            await previewed(World(tmp_path), ScriptedSource([(broken, None)]))
        found = await previewed(
            World(tmp_path), ScriptedSource([(broken, None)]), {"id": "DEFAULT", "policy": "exclude"}
        )
        assert (found.verdicts[0].id, found.dropped) == (None, 1)  # a sync does not mind it either

    run_virtual(scenario())


def test_a_verdict_is_a_value() -> None:
    verdicts: Sequence[Verdict] = [Verdict("1", True, None, "x"), Verdict("1", True, None, "x")]
    assert verdicts[0] == verdicts[1]
