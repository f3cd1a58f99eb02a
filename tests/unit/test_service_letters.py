"""Dead letters are sent again as they were refused, and never over something newer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.backends.ports import DeadLetter, Failure, FailureKind
from connectors.byoc import JobStatus, JobType
from connectors.errors import ConflictError, LeaseLostError, NotFoundError, RetryableError, SuspendSync
from connectors.service.letters import document_text
from connectors.source import Skipped
from tests.support.service import Service, connector, play
from tests.support.sources import Download, documents


def refusing(service: Service, *ids: str) -> None:
    """Lets the destination refuse these documents, until it is called without any."""
    service.destination.verdict = lambda _, operation: (
        Failure(FailureKind.REFUSED, f"no room for {operation.id}") if operation.id in ids else None
    )


async def replayed(service: Service, *ids: str, name: str = "a") -> dict[str, str]:
    outcomes = await service.operations.letters.replay(await service.record(name), list(ids) or None)
    assert len({each.id for each in outcomes}) == len(outcomes)
    return {each.id: each.outcome for each in outcomes}


async def letters(service: Service, name: str = "a") -> dict[str, str]:
    return {each.id: each.reason for each in await service.store.dead_letters(name, limit=10_000)}


def counted(job: Any, *names: str) -> list[int]:
    return [job.metadata["counters"][name] for name in names]


def test_replayed_documents_are_unchanged_for_the_next_sync(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(200))
        refusing(service, *(f"d{n}" for n in range(0, 200, 2)))
        assert counted(await service.sync("a"), "indexed", "dead_lettered") == [100, 100]
        refusing(service)
        assert await replayed(service, "d0", "d2") == {"d0": "indexed", "d2": "indexed"}
        assert len(await letters(service)) == 98
        assert set((await replayed(service)).values()) == {"indexed"}
        assert await letters(service) == {}
        assert service.indexed() == _bodies(range(200))
        assert counted(await service.sync("a"), "unchanged", "indexed", "vanished") == [200, 0, 0]

    play(scenario, tmp_path, connector("a"))


def _bodies(numbers: range) -> dict[str, dict[str, Any]]:
    return {document.pop("_id"): document for document, _ in documents(numbers)}


@pytest.mark.parametrize("number", ["1E+400", "9" * 5000, "-" + "9" * 5000])
def test_a_letter_with_a_number_that_no_server_takes_holds_up_no_other(tmp_path: Path, number: str) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        (letter,) = await service.store.dead_letters("a")
        odd = replace(letter, id="odd", body=f'{{"n":{number},"m":1.5,"k":7}}'.encode())
        await service.store.add_dead_letters([odd])
        refusing(service, "odd")
        assert await replayed(service) == {"d1": "indexed", "odd": "refused"}
        assert document_text(odd.body or b"") == f'{{\n  "n": "{number}",\n  "m": 1.5,\n  "k": 7\n}}'.replace(
            number, f"{number[:999]}… ({len(number):,} characters)" if len(number) > 1000 else number
        )

    play(scenario, tmp_path, connector("a"))


def test_a_replayed_document_that_vanished_is_deleted_by_the_next_sync(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        service.site.scripts["a"] = [*documents([0]), *documents([2])]
        refusing(service)
        assert await replayed(service) == {"d1": "indexed"}
        assert counted(await service.sync("a"), "unchanged", "vanished") == [2, 1]
        assert set(service.indexed()) == {"d0", "d2"}

    play(scenario, tmp_path, connector("a"))


def test_a_replay_never_lands_over_something_newer(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1", "d2")
        await service.sync("a")
        stale = await service.store.dead_letters("a", bodies=True)
        refusing(service)
        service.site.scripts["a"] = [*documents([0, 1], edition=2)]
        await service.sync("a")
        assert await letters(service) == {}, "indexed, and vanished"
        # What a crash between the write and the removal of the letter leaves behind.
        await service.store.add_dead_letters(stale)
        before = service.indexed()
        assert before["d1"]["edition"] == 2
        assert (await replayed(service))["d1"] == "superseded"
        assert service.indexed()["d1"] == before["d1"]
        assert await letters(service) == {}
        await service.sync("a")
        assert service.indexed() == before

    play(scenario, tmp_path, connector("a"))


def test_a_replay_does_not_bring_a_deleted_document_back(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.scripts["a"] = documents(range(3), edition=2)
        refusing(service, "d1")
        await service.sync("a")
        stale = await service.store.dead_letters("a", bodies=True)
        refusing(service)
        service.site.scripts["a+"] = [({"_id": "d1"}, None, "delete")]
        await service.sync("a", JobType.INCREMENTAL)
        await service.store.add_dead_letters(stale)
        assert await replayed(service) == {"d1": "superseded"}
        assert set(service.indexed()) == {"d0", "d2"}

    play(scenario, tmp_path, connector("a"))


def test_a_refused_deletion_is_replayed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        await service.sync("a")
        service.site.scripts["a"] = documents(range(2))
        refusing(service, "d2")
        await service.sync("a")
        assert (await service.store.dead_letter("a", "d2")).operation == "delete"
        refusing(service)
        assert await replayed(service) == {"d2": "deleted"}
        assert set(service.indexed()) == {"d0", "d1"}

    play(scenario, tmp_path, connector("a"))


def test_what_is_refused_again_stays_with_its_new_reason(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d0", "d1")
        await service.sync("a")
        before = await service.store.dead_letter("a", "d1")
        await asyncio.sleep(60)
        service.destination.verdict = lambda _, op: Failure(FailureKind.REFUSED, "still") if op.id == "d1" else None
        assert await replayed(service) == {"d0": "indexed", "d1": "refused"}
        kept = await service.store.dead_letter("a", "d1")
        assert kept == replace(before, reason="still", created_at=kept.created_at)
        assert kept.created_at > before.created_at

    play(scenario, tmp_path, connector("a"))


def test_what_lacks_something_stays(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        broken = Download(error=OSError("is gone"))
        service.site.scripts["a"] = [
            *documents([0]),
            ({"_id": "file", "_timestamp": "2026-01-01"}, broken),
            ({"_id": "odd", "value": object()}, None),
            Skipped("no right to read it", "locked"),
        ]
        await service.sync("a")
        assert (await service.store.dead_letter("a", "file")).body is not None
        assert await replayed(service) == {"file": "kept", "odd": "kept", "locked": "kept"}
        assert set(service.indexed()) == {"d0"}
        assert len(await letters(service)) == 3
        broken.error = None
        await service.sync("a")
        assert set(service.indexed()) == {"d0", "file"}, "a letter that was not replayed hides nothing from the sync"

    play(scenario, tmp_path, connector("a"))


def test_a_document_with_its_file_is_replayed_whole(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        file = Download({"body": "text of the file"})
        service.site.scripts["a"] = [({"_id": "file", "_timestamp": "2026-01-01"}, file)]
        refusing(service, "file")
        await service.sync("a")
        refusing(service)
        assert await replayed(service) == {"file": "indexed"}
        assert service.indexed()["file"]["body"] == "text of the file"
        assert counted(await service.sync("a"), "unchanged") == [1]
        assert file.done == 1

    play(scenario, tmp_path, connector("a"))


def test_after_a_change_of_the_mapping_the_next_sync_writes_it_anew(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        refusing(service)
        letter = await service.store.dead_letter("a", "d1")
        await service.store.add_dead_letters([replace(letter, fingerprint="of before")])
        assert await replayed(service) == {"d1": "indexed"}
        assert counted(await service.sync("a"), "unchanged", "indexed") == [2, 1]

    play(scenario, tmp_path, connector("a"))


def test_the_sync_rules_of_now_decide(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1", "d2")
        await service.sync("a")
        refusing(service)
        active = {"rules": [{"id": "1", "order": 1, **_without("2")}]}
        await service.store.update_connector("a", {"filtering": [{"domain": "DEFAULT", "active": active}]})
        assert await replayed(service) == {"d1": "indexed", "d2": "filtered"}
        assert set(service.indexed()) == {"d0", "d1"}
        assert set(await letters(service)) == {"d2"}

    play(scenario, tmp_path, connector("a"))


def _without(number: str) -> dict[str, Any]:
    return {"policy": "exclude", "field": "number", "rule": "equals", "value": number}


def test_while_a_sync_runs_nothing_is_replayed(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        refusing(service)
        service.site.scripts["a"] = [*documents(range(3)), 60]
        running = asyncio.create_task(service.sync("a"))
        await asyncio.sleep(5)
        with pytest.raises(ConflictError, match="a sync of a is running"):
            await replayed(service)
        await running
        assert await replayed(service) == {}

    play(scenario, tmp_path, connector("a"))


def test_a_suspended_job_goes_on_after_a_replay(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        refusing(service)
        service.site.scripts["a"] = [*documents(range(3)), RetryableError("busy")]
        job = await service.sync("a")
        assert job.status == JobStatus.SUSPENDED
        await service.store.add_dead_letters([replace(await _letter_of(service), id="x9")])
        assert await replayed(service) == {"x9": "indexed"}
        assert (await service.store.job(job.id)).status == JobStatus.SUSPENDED
        service.site.scripts["a"] = documents(range(3))
        assert (await service.sync("a")).status == JobStatus.COMPLETED
        assert set(service.indexed()) == {"d0", "d1", "d2"}

    play(scenario, tmp_path, connector("a"))


async def _letter_of(service: Service) -> DeadLetter:
    return DeadLetter("a", "?", "index", "r", "job", service.runtime.now(), b'{"x":1}', 1 << 40, bytes(8), "f")


def test_unknown_letters_and_indices_are_told_before_anything_is_sent(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        refusing(service)
        sent = len(service.destination.requests)
        with pytest.raises(NotFoundError, match='a has no dead letter "d7"'):
            await replayed(service, "d1", "d7")
        with pytest.raises(NotFoundError, match='a has no dead letter "d7"'):
            await service.operations.letters.drop("a", ["d1", "d7"])
        with pytest.raises(NotFoundError, match="connectors sync b"):
            await replayed(service, name="b")
        assert len(service.destination.requests) == sent
        assert set(await letters(service)) == {"d1"}
        assert await service.operations.letters.drop("a", ["d1"]) == 1
        assert await service.operations.letters.drop("a", None) == 0

    play(scenario, tmp_path, connector("a"), connector("b", index="other"))


def test_an_overloaded_destination_gets_what_it_did_not_take_again(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d0", "d1", "d2")
        await service.sync("a")
        first = len(service.destination.requests)
        service.destination.down = lambda number: number == first
        service.destination.verdict = lambda number, op: (
            FailureKind.OVERLOADED if op.id == "d1" and number < first + 4 else None
        )
        assert set((await replayed(service)).values()) == {"indexed"}
        sent = [[op.id for op in request] for request in service.destination.requests[first:]]
        assert sent == [["d0", "d1", "d2"], ["d0", "d1", "d2"], ["d1"], ["d1"], ["d1"]]

    play(scenario, tmp_path, connector("a"))


def test_patience_ends_and_the_rest_stays(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(120))
        refusing(service, *(f"d{n}" for n in range(120)))
        await service.sync("a")
        refusing(service)
        service.destination.down = lambda number: number > first
        first = len(service.destination.requests)
        with pytest.raises(RetryableError, match="stays a dead letter"):
            await replayed(service)
        assert len(await letters(service)) == 70
        service.destination.down = lambda _: False
        assert len(await replayed(service)) == 70

    play(scenario, tmp_path, connector("a"))


def test_what_only_a_person_can_mend_is_told_at_once(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")

        def blocked(_: int) -> bool:
            raise SuspendSync("the index is read-only")

        service.destination.down = blocked
        with pytest.raises(SuspendSync, match="read-only"):
            await replayed(service)
        assert set(await letters(service)) == {"d1"}
        service.destination.down = lambda _: False
        assert (await service.store.state("a")).worker is None

    play(scenario, tmp_path, connector("a"))


def test_without_the_lease_nothing_more_is_sent(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        service.site.scripts["a"] = documents(range(120))
        refusing(service, *(f"d{n}" for n in range(120)))
        await service.sync("a")
        refusing(service)
        sent = len(service.destination.requests)

        async def lost(name: str) -> None:
            if name == "renew":
                raise LeaseLostError("taken by another worker")

        service.store.before = lambda name: lost(name) if name == "renew" else None
        service.destination.answer_delay = lambda _: 30.0
        with pytest.raises(LeaseLostError, match="nothing more was written"):
            await replayed(service)
        assert len(service.destination.requests) == sent + 1

    play(scenario, tmp_path, connector("a"))


def test_a_document_as_it_was_refused_is_in_the_letter(tmp_path: Path) -> None:
    async def scenario(service: Service) -> None:
        refusing(service, "d1")
        await service.sync("a")
        letter = await service.store.dead_letter("a", "d1")
        assert orjson.loads(letter.body or b"") == {"number": 1, "edition": 1}
        assert letter.reason == "no room for d1"
        sent = next(op for request in service.destination.requests for op in request if op.id == "d1")
        assert (letter.version, letter.content_hash) == (sent.version, sent.content_hash)

    play(scenario, tmp_path, connector("a"))
