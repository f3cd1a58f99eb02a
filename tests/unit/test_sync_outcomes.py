"""Each document that was read ends as exactly one thing, and the counters add up."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from connectors.backends.ports import FailureKind, Operation
from connectors.errors import SkippableError, SyncError
from connectors.extraction import Extracted
from connectors.source import Document, Skipped
from tests.support.clock import run_virtual
from tests.support.sources import Download, ScriptedSource, documents
from tests.support.world import World, counted

DRAFTS = [{"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}]


def test_new_changed_unchanged_and_vanished(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        first = await world.sync(ScriptedSource(documents(range(5))))
        assert counted(first) == {"read": 5, "indexed": 5}
        assert first.counters.bytes == sum(len(operation.body or b"") for operation in world.destination.requests[0])
        again = await world.sync(ScriptedSource(documents(range(5))))
        assert counted(again) == {"read": 5, "unchanged": 5}
        assert len(world.destination.requests) == 1
        third = await world.sync(ScriptedSource([*documents(range(2)), *documents([2], edition=2), *documents([9])]))
        assert counted(third) == {"read": 4, "unchanged": 2, "indexed": 2, "vanished": 2}
        assert {id_: document["edition"] for id_, document in world.indexed.items()} == {
            "d0": 1, "d1": 1, "d2": 2, "d9": 1,
        }  # fmt: skip
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())


def test_filtered_documents_are_counted_and_leave_the_index(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.rules = DRAFTS
        items: list[Any] = [({"_id": f"d{n}", "draft": n % 2 == 0}, None) for n in range(6)]
        assert counted(await world.sync(ScriptedSource(items))) == {"read": 6, "filtered": 3, "indexed": 3}
        items[1] = ({"_id": "d1", "draft": True}, None)
        result = await world.sync(ScriptedSource(items))
        assert counted(result) == {"read": 6, "filtered": 4, "unchanged": 2, "vanished": 1}
        assert sorted(world.indexed) == ["d3", "d5"]

    run_virtual(scenario())


@pytest.mark.parametrize("apart", [1, 600])
@pytest.mark.parametrize("known", [False, True])
def test_of_documents_that_are_listed_twice_the_last_wins(tmp_path: Path, apart: int, known: bool) -> None:
    async def scenario() -> None:
        world = World(tmp_path, batch_documents=50, writes_in_flight=3)
        if known:
            await world.sync(ScriptedSource(documents(range(apart))))
        # The answers come in the reverse order of the requests.
        world.destination.answer_delay = lambda number: 60.0 / (number + 1)
        script = [*documents(range(apart), edition=2), *documents(range(apart), edition=3)]
        result = await world.sync(ScriptedSource(script))
        assert counted(result) == {"read": 2 * apart, "indexed": apart, "duplicate": apart}
        assert {document["edition"] for document in world.indexed.values()} == {3}
        assert await world.ledger() == world.stamps()
        assert counted(await world.sync(ScriptedSource(documents(range(apart), edition=3)))) == {
            "read": apart, "unchanged": apart,
        }  # fmt: skip

    run_virtual(scenario())


def test_the_last_wins_even_when_its_download_is_quicker(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        slow, quick = Download({"body": "first"}, seconds=50), Download({"body": "last"})
        result = await world.sync(ScriptedSource([({"_id": "a", "n": 1}, slow), ({"_id": "a", "n": 2}, quick)]))
        assert world.indexed == {"a": {"n": 2, "body": "last"}}
        assert counted(result) == {"read": 2, "indexed": 1, "superseded": 1}
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())


def test_unchanged_documents_are_not_downloaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)

        def listing(edition: int, lazy: Download) -> ScriptedSource:
            return ScriptedSource([({"_id": "a", "_timestamp": edition}, lazy)])

        first, second, third = (Download({"body": "text"}) for _ in range(3))
        await world.sync(listing(1, first))
        await world.sync(listing(1, second))
        assert (first.done, first.released, second.done, second.released) == (1, 0, 0, 1)
        assert counted(await world.sync(listing(2, third))) == {"read": 1, "indexed": 1}
        assert third.done == 1
        assert world.indexed == {"a": {"_timestamp": 2, "body": "text"}}

    run_virtual(scenario())


def test_without_a_timestamp_a_document_is_always_downloaded(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        for _ in range(2):
            lazy = Download({"body": "text"})
            assert counted(await world.sync(ScriptedSource([({"_id": "a"}, lazy)]))) == {"read": 1, "indexed": 1}
            assert lazy.done == 1

    run_virtual(scenario())


def test_a_download_may_look_into_its_document(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        document: Document = {"_id": "a", "name": "x"}

        async def lazy(*, doit: bool = True, timestamp: Any = None) -> dict[str, Any]:
            return {"_id": document["_id"], "body": f"of {document['_id']}"}

        class Source(ScriptedSource):
            async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> Any:
                yield document, lazy

        await world.sync(Source([]))
        assert world.indexed == {"a": {"name": "x", "body": "of a"}}
        assert document == {"_id": "a", "name": "x"}  # a source may keep its dicts

    run_virtual(scenario())


def test_superseded_documents_are_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        world.destination.verdict = lambda _, op: FailureKind.SUPERSEDED if op.id == "d1" else None
        assert counted(await world.sync(ScriptedSource(documents(range(3))))) == {
            "read": 3, "indexed": 2, "superseded": 1,
        }  # fmt: skip

    run_virtual(scenario())


def test_a_refused_delete_of_a_vanished_document_is_counted(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        world.destination.verdict = lambda _, op: FailureKind.REFUSED if op.id == "d1" else None
        result = await world.sync(ScriptedSource(documents([0])))
        assert counted(result) == {"read": 2, "unchanged": 1, "dead_lettered": 1, "vanished": 1}
        assert sorted(world.indexed) == ["d0", "d1"]
        world.destination.verdict = lambda *_: None
        assert counted(await world.sync(ScriptedSource(documents([0])))) == {"read": 1, "unchanged": 1, "vanished": 1}

    run_virtual(scenario())


@pytest.mark.parametrize("long", ["a", "é" * 400, "broken \udcff name"])
def test_skipped_with_an_id_counts_as_seen(tmp_path: Path, long: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource([({"_id": long, "x": 1}, None), *documents([1, 2])]))
        result = await world.sync(ScriptedSource([Skipped("no right to read it", long), *documents([1])]))
        assert counted(result) == {"read": 2, "dead_lettered": 1, "unchanged": 1, "vanished": 1}
        assert len(world.indexed) == 2
        assert list((await world.letters()).values()) == ["no right to read it"]
        assert not result.incomplete

    run_virtual(scenario())


def test_skipped_without_an_id_deletes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        bad = Download(error=SkippableError("broken"))
        await world.sync(ScriptedSource([*documents(range(3)), ({"_id": "bad"}, bad)]))
        result = await world.sync(ScriptedSource([*documents([0]), Skipped("the folder b cannot be read")]))
        assert counted(result) == {"read": 1, "unchanged": 1}
        assert result.incomplete == ["the folder b cannot be read"]
        assert not result.suspended
        assert len(world.indexed) == 3
        assert sorted(await world.letters()) == ["bad"]
        assert counted(await world.sync(ScriptedSource(documents([0])))) == {"read": 1, "unchanged": 1, "vanished": 2}

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (({"x": 1}, None), "without `_id`"),
        (({"_id": ""}, None), "empty `_id`"),
        (({"_id": None}, None), "empty `_id`"),
        (({"_id": "a"}, None, "upsert"), "the operation 'upsert'"),
        (({"_id": "a"}, None, "dead_lettered"), "the operation 'dead_lettered'"),
    ],
)
def test_a_source_that_breaks_its_contract_fails_the_sync(tmp_path: Path, item: Any, message: str) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        with pytest.raises(SyncError, match=message):
            await world.sync(ScriptedSource([*documents(range(3)), item]))
        assert len(world.indexed) == 3

    run_virtual(scenario())


def test_ids_are_made_fit(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        ids: list[Any] = [7, "x" * 512, "x" * 513, "é" * 300, "\udcff"]
        script = [({"_id": id_}, None) for id_ in ids]
        assert counted(await world.sync(ScriptedSource(script))) == {"read": 5, "indexed": 5}
        assert {"7", "x" * 512} < world.indexed.keys()
        assert max(len(id_.encode()) for id_ in world.indexed) == 512
        assert counted(await world.sync(ScriptedSource(script))) == {"read": 5, "unchanged": 5}

    run_virtual(scenario())


def test_text_is_taken_out_of_attachments(tmp_path: Path) -> None:
    class Extractor:
        def fingerprint(self) -> str:
            return "1"

        async def extract(self, content: bytes, *, name: str, mime_type: str | None = None) -> Extracted | None:
            return None if content == b"none" else Extracted(f"{name} {mime_type} {content.decode()}")

    async def scenario() -> None:
        world = World(tmp_path)
        world.extractor = Extractor()
        await world.sync(ScriptedSource([
            ({"_id": "a", "path": "x/a.md", "mime_type": "text/x"}, Download({"_attachment": b"text"})),
            ({"_id": "b", "name": "b"}, Download({"_attachment": "dGV4dA=="})),
            ({"_id": "l", "name": "l"}, Download({"_attachment": "QUJD" * 500_000})),
            ({"_id": "x"}, Download({"_attachment": "no base64"})),
            ({"_id": "c"}, Download({"_attachment": b"none"})),
            ({"_id": "d"}, Download(None)),
        ]))  # fmt: skip
        assert world.indexed["a"] == {"path": "x/a.md", "mime_type": "text/x", "body": "x/a.md text/x text"}
        assert world.indexed["b"] == {"name": "b", "body": "b None text"}
        assert world.indexed["l"]["body"] == "l None " + "ABC" * 500_000
        assert list(await world.letters()) == ["x"]
        assert world.indexed["c"] == world.indexed["d"] == {}

    run_virtual(scenario())


def test_what_downloads_bring_is_written_as_soon_as_they_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        loop = asyncio.get_running_loop()
        source = ScriptedSource(documents(range(5), lazy=lambda _: Download()))
        begun = loop.time()
        assert counted(await world.sync(source)) == {"read": 5, "indexed": 5}
        assert loop.time() - begun < 0.1

    run_virtual(scenario())


def test_the_title_of_a_file_takes_the_place_of_its_name(tmp_path: Path) -> None:
    class Extractor:
        def fingerprint(self) -> str:
            return "1"

        async def extract(self, content: bytes, *, name: str, mime_type: str | None = None) -> Extracted:
            return Extracted("text", content.decode() or None)

    def source(text: bytes = b"Own") -> ScriptedSource:
        return ScriptedSource([
            ({"_id": "1", "_timestamp": "1", "path": "x/a.b.md", "title": "a.b"}, Download({"_attachment": text})),
            ({"_id": "2", "_timestamp": "1", "name": "c.md", "title": "c.md"}, Download({"_attachment": text})),
            ({"_id": "3", "_timestamp": "1", "name": "d.md"}, Download({"_attachment": text})),
            ({"_id": "4", "_timestamp": "1", "name": "e.md", "title": "Given"}, Download({"_attachment": text})),
            ({"_id": "5", "_timestamp": "1", "name": "f.md", "title": "f"}, Download({"_attachment": b""})),
        ])  # fmt: skip

    async def scenario() -> None:
        world = World(tmp_path)
        world.extractor = Extractor()
        await world.sync(source())
        titles = {document_id: document["title"] for document_id, document in world.indexed.items()}
        assert titles == {"1": "Own", "2": "Own", "3": "Own", "4": "Given", "5": "f"}
        # What the file says is no part of the comparison: the document of the source is.
        assert counted(await world.sync(source())) == {"read": 5, "unchanged": 5}

    run_virtual(scenario())


def test_a_changed_fingerprint_writes_everything_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        world.fingerprint = "mapping 2"
        assert counted(await world.sync(ScriptedSource(documents(range(5))))) == {"read": 5, "indexed": 5}
        assert counted(await world.sync(ScriptedSource(documents(range(5))))) == {"read": 5, "unchanged": 5}

    run_virtual(scenario())


def test_a_lost_ledger_is_rebuilt_from_the_stamps(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(2500))))
        shutil.rmtree(tmp_path)
        script = [*documents(range(2300)), *documents([2300], edition=2)]
        result = await world.sync(ScriptedSource(script))
        assert counted(result) == {"read": 2301, "unchanged": 2300, "indexed": 1, "vanished": 199}

    run_virtual(scenario())


def test_a_ledger_that_another_worker_overtook_is_not_used(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path / "a")
        await world.sync(ScriptedSource(documents(range(3))))
        world.folder = tmp_path / "b"
        await world.sync(ScriptedSource(documents(range(3), edition=2)))
        world.folder = tmp_path / "a"
        assert counted(await world.sync(ScriptedSource(documents(range(3))))) == {"read": 3, "indexed": 3}
        assert world.indexed["d0"]["edition"] == 1

    run_virtual(scenario())


def test_serialize_of_the_source_is_called(tmp_path: Path) -> None:
    class Source(ScriptedSource):
        def serialize(self, doc: Document) -> Document:
            return {**doc, "serialized": True}

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Source(documents([1])))
        assert world.indexed["d1"]["serialized"] is True

    run_virtual(scenario())


def test_operations_carry_growing_versions_of_the_epoch(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        await world.sync(ScriptedSource(documents(range(3), edition=2)))
        requests: list[list[Operation]] = world.destination.requests
        versions = [operation.version for request in requests for operation in request]
        assert versions == [(1 << 40) + n for n in (1, 2, 3)] + [(2 << 40) + n for n in (1, 2, 3)]

    run_virtual(scenario())


def test_a_reset_connector_writes_everything_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(5))))
        assert world.lease is not None
        await world.store.commit(world.lease, job_id="", state={"rewrite": True})
        assert counted(await world.sync(ScriptedSource(documents(range(5))))) == {"read": 5, "indexed": 5}
        assert counted(await world.sync(ScriptedSource(documents(range(5))))) == {"read": 5, "unchanged": 5}

    run_virtual(scenario())


class Series(ScriptedSource):
    """Lists what is young; what is old is nowhere but in the index."""

    lists_all = False


def test_what_a_source_need_not_list_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Series(documents(range(5))))
        result = await world.sync(Series(documents(range(4, 7))))
        assert counted(result) == {"read": 3, "unchanged": 1, "indexed": 2}
        assert (result.needs_full, result.incomplete) == (False, [])
        assert counted(await world.sync(Series([]))) == {}
        assert len(world.indexed) == 7

    run_virtual(scenario())


def test_what_a_rule_keeps_out_goes_also_where_not_all_is_listed(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(Series([({"_id": f"d{n}", "draft": n % 2 == 0}, None) for n in range(4)]))
        world.rules = DRAFTS
        written = len(world.destination.requests)
        for first in (True, False):  # what the index does not hold any more is not deleted again
            result = await world.sync(Series([({"_id": f"d{n}", "draft": n % 2 == 0}, None) for n in range(1, 4)]))
            assert counted(result) == {"read": 3, "unchanged": 2, "filtered": 1}
            assert sorted(world.indexed) == ["d0", "d1", "d3"]
            assert len(world.destination.requests) == written + 1, first
        assert await world.ledger() == world.stamps()

    run_virtual(scenario())
