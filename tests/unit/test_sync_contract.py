"""A source that breaks the contract ends its sync in words that say what to write instead, and in nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from connectors.byoc import JobType
from connectors.errors import SyncError
from connectors.source import BaseDataSource, Checkpoint, DataSourceConfiguration, Document, Skipped, SourceItem
from connectors.sync import contract, readers
from tests.support.clock import run_virtual
from tests.support.readers import InLoopReaders, PartitionedSource
from tests.support.sources import ResumableSource, ScriptedSource, documents
from tests.support.world import World, counted

EXCLUDES = [{"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}]
GOOD = ({"_id": "good"}, None)
#: What is yielded behind a good document, and what is said of it.
WRONG: list[tuple[Any, str]] = [
    (None, r"None is neither \(document, download or None\) nor Checkpoint nor Skipped"),
    ({"_id": "1", "title": "x"}, r"\{'_id': '1', 'title': 'x'\} is neither \(document"),
    ({"_id": "1", "a": 1, "b": 2, "c": 3, "d": 4}, "is neither"),
    ("ab", r"'ab' is neither"),
    (({"_id": "1"},), "is neither"),
    (({"_id": "1"}, None, "index", "more"), "is neither"),
    (("text", None), "'text' is no dict"),
    ((["_id"], None), r"\['_id'\] is no dict"),
    (({"title": "x"}, None), "without `_id`"),
    (
        ({"_id": "1"}, None, "delete"),
        r"get_docs\(\) .* yielded the operation 'delete' for \"1\"; it lists what there is",
    ),
]


class Yields(BaseDataSource):
    service_type = "wrong"

    def __init__(self, *items: Any) -> None:
        super().__init__(DataSourceConfiguration())
        self.items = items

    async def get_docs(self, filtering: Any = None) -> AsyncIterator[SourceItem]:
        for item in self.items:
            yield deepcopy(item)


@pytest.mark.parametrize(("item", "words"), WRONG)
@pytest.mark.parametrize("rules", [[], EXCLUDES])
def test_what_nobody_can_take_is_told(tmp_path: Path, item: Any, words: str, rules: list[Any]) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        world.rules = rules
        with pytest.raises(SyncError, match=words):
            await world.sync(Yields(GOOD, item))
        assert sorted(world.indexed) == ["d0", "d1", "d2", "good"]

    run_virtual(scenario())


def test_it_is_told_by_a_reader_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_WORTHWHILE", 0)

    async def scenario() -> None:
        source = PartitionedSource([documents(range(3)), [None]])
        world = World(tmp_path)
        world.readers = InLoopReaders(source, 2, world.rules).plan
        with pytest.raises(SyncError, match="None is neither"):
            await world.sync(source)

    run_virtual(scenario())


def test_an_incremental_sync_knows_three_operations(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        with pytest.raises(SyncError, match=r"None is neither .document, download or None, operation"):
            await world.sync(ScriptedSource([None]), JobType.INCREMENTAL)
        with pytest.raises(SyncError, match=r'\'upsert\'.*write "index", "update" or "delete"'):
            await world.sync(ScriptedSource([({"_id": "1"}, None, "upsert")]), JobType.INCREMENTAL)

    run_virtual(scenario())


def test_an_error_of_the_source_itself_stays_what_it_is(tmp_path: Path) -> None:
    class Wrong(Yields):
        def serialize(self, doc: Document) -> Document:
            return {"_id": doc["_id"], "n": len(doc["n"])}

    async def scenario() -> None:
        with pytest.raises(TypeError, match="has no len"):
            await World(tmp_path).sync(Wrong(({"_id": "1", "n": 5}, None)))

    run_virtual(scenario())


def test_what_serialize_returns_is_a_document(tmp_path: Path) -> None:
    class Wrong(Yields):
        def serialize(self, doc: Document) -> Document:
            return None  # type: ignore[return-value]  # as somebody forgets to return

    async def scenario() -> None:
        with pytest.raises(SyncError, match=r"serialize\(\) of the source scripted returned None, no dict"):
            await World(tmp_path).sync(Wrong(GOOD))

    run_virtual(scenario())


# What is to be read


async def _coroutine() -> list[Any]:
    return [GOOD]


@pytest.mark.parametrize(
    ("given", "kind"),
    [(lambda: iter([GOOD]), "list_iterator"), (lambda: [GOOD], "list"), (_coroutine, "coroutine"), (int, "int")],
)
def test_what_is_no_async_generator_is_told(tmp_path: Path, given: Callable[[], Any], kind: str) -> None:
    class Wrong(Yields):
        def get_docs(self, filtering: Any = None) -> Any:
            return given()

    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(3))))
        with pytest.raises(SyncError, match=f"gave a {kind} to be read, .* `async def` with `yield`"):
            await world.sync(Wrong())
        assert len(world.indexed) == 3

    run_virtual(scenario())


def test_an_iterator_that_cannot_be_closed_is_read(tmp_path: Path) -> None:
    class Iterator:
        def __init__(self) -> None:
            self.left = documents(range(3))

        def __aiter__(self) -> Iterator:
            return self

        async def __anext__(self) -> Any:
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

    class Iterates(Yields):
        def get_docs(self, filtering: Any = None) -> Any:
            return Iterator()

    async def scenario() -> None:
        assert counted(await World(tmp_path).sync(Iterates())) == {"read": 3, "indexed": 3}

    run_virtual(scenario())


# What is stored


def test_a_checkpoint_that_cannot_be_stored_is_told_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        script = [*documents(range(3)), Checkpoint({"at": object()})]
        with pytest.raises(SyncError, match=r"the state of a checkpoint .* cannot be stored as JSON"):
            await World(tmp_path).sync(ResumableSource(script))

    run_virtual(scenario())


def test_a_cursor_that_cannot_be_stored_ends_the_sync_before_it_deletes(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        await world.sync(ScriptedSource(documents(range(30))))
        with pytest.raises(SyncError, match=r"sync_cursor\(\) .* cannot be stored as JSON"):
            await world.sync(ScriptedSource(documents(range(29)), cursor=object()))
        assert len(world.indexed) == 30

    run_virtual(scenario())


def test_a_file_name_that_is_no_text_may_stand_in_a_cursor() -> None:
    assert contract.durable({"at": "\ud800"}, "a cursor") == {"at": "\ud800"}


def test_an_exception_is_a_reason_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        error: Any = PermissionError("locked")
        result = await world.sync(ScriptedSource([*documents(range(2)), Skipped(error, "d9"), Skipped(error)]))
        assert (await world.letters(), result.incomplete) == ({"d9": "locked"}, ["locked"])

    run_virtual(scenario())


def test_a_library_that_wants_to_end_the_process_ends_the_sync(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        with pytest.raises(SyncError, match="tried to end the whole process"):
            await world.sync(ScriptedSource([*documents(range(2)), SystemExit(3)]))
        assert len(world.indexed) == 2

    run_virtual(scenario())
