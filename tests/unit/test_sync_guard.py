"""Nothing is deleted beyond what the operator allows, and the error says what to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import JobStatus, JobType
from connectors.errors import DeletionGuardError
from connectors.source import Document, Skipped
from tests.support.clock import run_virtual
from tests.support.service import Service, connector, play
from tests.support.sources import ResumableSource, ScriptedSource, checkpointed, documents
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


def in_state(state: str, numbers: Iterable[int]) -> list[Any]:
    return [({"_id": f"d{number}", "state": state}, None) for number in numbers]


class CountingSource(ScriptedSource):
    serialized = 0

    def serialize(self, doc: Document) -> Document:
        self.serialized += 1
        return doc


def excluding(rule_id: str, field: str, value: str) -> dict[str, Any]:
    return {"id": rule_id, "order": 1, "policy": "exclude", "field": field, "rule": "equals", "value": value}


def test_changed_rules_are_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        world.rules = [excluding("old", "edition", "1")]
        error = str(await refused(world, ScriptedSource(documents(range(3)))))
        assert "(the sync rules keep no document; 3 of them because the sync rules changed: rule old drops 3);" in error

    run_virtual(scenario())


def test_what_rules_drop_is_told_from_what_is_gone(tmp_path: Path) -> None:
    """Also of a document that is listed twice, and once is kept; and of one that was never in the index."""

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(200))))
        world.rules = [
            excluding("drafts", "state", "draft"),
            {**excluding("old", "edition", "0"), "order": 2},
            {**excluding("live", "state", "live"), "order": 3, "policy": "include"},
            {"id": "DEFAULT", "policy": "exclude"},
        ]
        listing = [
            *in_state("draft", range(60)),
            *documents(range(60, 70), edition=0),
            *in_state("odd", range(70, 80)),
            *in_state("live", range(80, 150)),
            *in_state("draft", [80]),
            *in_state("draft", range(300, 320)),
        ]
        error = await refused(world, ScriptedSource(listing))
        assert error.vanished == 130
        assert (
            "(80 of them because the sync rules changed: rule drafts drops 60, rule old drops 10, the default rule "
            "drops 10; 50 of them are not listed by the source); max_delete_ratio is 0.2. Nothing was deleted. "
            "If that is right, run: connectors sync c --allow-deletes 130"
        ) in str(error)
        await world.store.update_job((await world.store.jobs())[0].id, {"status": "error"}, statuses=["pending"])
        assert (await world.sync(ScriptedSource(listing), allow_deletes=130)).counters.vanished == 130
        # From now on these rules are the old ones: they are no cause.
        error = await refused(world, ScriptedSource(in_state("draft", range(150))))
        assert "rule" not in str(error).replace("the sync rules keep no document", "")

    run_virtual(scenario())


def test_dropped_documents_are_known_by_the_ids_that_serialize_makes(tmp_path: Path) -> None:
    class Renaming(ScriptedSource):
        def serialize(self, doc: Document) -> Document:
            return {**doc, "_id": f"made-{doc['_id']}"}

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Renaming(documents(range(200))))
        world.rules = [excluding("old", "edition", "1")]
        error = await refused(world, Renaming([*documents(range(200)), *documents([500], edition=2)]))
        assert "200 of them because the sync rules changed: rule old drops 200" in str(error)

    run_virtual(scenario())


def test_other_changes_are_named_as_what_they_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.made_with = {"settings": "1", "basic_rules": "1", "advanced_rules": "1"}
        await world.sync(ScriptedSource(documents(range(200))))
        for part, words in {
            "settings": "the configuration",
            "basic_rules": "the sync rules",
            "advanced_rules": "the advanced sync rules",
        }.items():
            world.made_with = {"settings": "1", "basic_rules": "1", "advanced_rules": "1", part: "2"}
            error = str(await refused(world, ScriptedSource(documents(range(100)))))
            assert f"has in i ({words} changed since the last completed sync);" in error

    run_virtual(scenario())


def test_a_job_that_goes_on_says_at_least(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(200))))
        world.rules = [excluding("old", "edition", "1")]
        source = ResumableSource(checkpointed(documents(range(200)), 10, pause=0.1))
        job = await world.job()
        assert (await world.sync(source, stop_after=10.0, job=job)).suspended
        with pytest.raises(
            DeletionGuardError, match=r"at least 1\d\d of them because the sync rules changed: rule old"
        ):
            await world.sync(source, job=job)

    run_virtual(scenario())


def test_rules_that_did_not_change_cost_nothing_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.rules = [excluding("old", "edition", "1")]
        source = CountingSource([*documents(range(200)), *documents(range(200, 500), edition=2)])
        await world.sync(source)
        assert source.serialized == 300
        await world.sync(source)
        assert source.serialized == 600

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


def test_the_leave_to_delete_is_for_one_run(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(200))
        await service.sync("a")
        service.site.scripts["a"] = documents(range(100))
        refused = await service.sync("a")
        assert (refused.status, len(service.indexed())) == (JobStatus.ERROR, 200)
        assert "--allow-deletes 100" in (refused.error or "")
        allowed = await service.sync("a", allow_deletes=100)
        assert (allowed.status, len(service.indexed())) == (JobStatus.COMPLETED, 100)
        service.site.scripts["a"] = documents(range(50))
        for _ in range(2):
            assert (await service.sync("a")).status == JobStatus.ERROR
        assert len(service.indexed()) == 100

    play(scenario, tmp_path, connector("a"))


def test_explicit_deletes_are_exempt(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(200))
        await service.sync("a")
        service.site.scripts["a+"] = [({"_id": f"d{number}"}, None, "delete") for number in range(200)]
        job = await service.sync("a", JobType.INCREMENTAL)
        assert (job.status, job.deleted_document_count) == (JobStatus.COMPLETED, 200)
        assert service.indexed() == {}

    play(scenario, tmp_path, connector("a"))


@pytest.mark.parametrize(
    "ending", [OSError("the disk is gone"), Skipped("a folder cannot be read")], ids=["raises", "skips"]
)
def test_a_source_that_does_not_come_to_its_end_deletes_nothing(tmp_path: Path, ending: Any) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.scripts["a"] = [*documents(range(2)), ending]
        for allow_deletes in (None, 1000):
            await service.sync("a", allow_deletes=allow_deletes)
            assert set(service.indexed()) == {"d0", "d1", "d2"}, "no leave makes a half list a whole one"
        service.site.scripts["a"] = documents(range(2))
        await service.sync("a")
        assert set(service.indexed()) == {"d0", "d1"}

    play(scenario, tmp_path, connector("a"))


def test_a_source_that_lists_a_little_less_each_time_is_not_held_up(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        for number in (200, 160, 128, 103, 83, 1):
            service.site.scripts["a"] = documents(range(number))
            assert (await service.sync("a")).status == JobStatus.COMPLETED, number
            assert len(service.indexed()) == number
        service.site.scripts["a"] = []
        assert (await service.sync("a")).status == JobStatus.ERROR
        assert len(service.indexed()) == 1

    play(scenario, tmp_path, connector("a"))
