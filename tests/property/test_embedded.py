"""The embedded index against a plain model of it, under random batches; and searching for any text at all."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import Destination, FailureKind, IndexHandle, IndexSpec, Operation
from connectors.testing.memory import MemoryDestination

T = TypeVar("T")

IDS = st.sampled_from(["a", "b", "ä/c", "x\0y", "", "Ω" * 30])
WORDS = st.sampled_from(["red", "green", "blue", "café", "Ünder"])
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.lists(WORDS, max_size=3).map(" ".join),
        "body": st.lists(WORDS, max_size=8).map(" ".join),
        "size": st.integers(0, 3),
        "_hidden": WORDS,
    },
)
CONNECTORS = st.sampled_from(["one", "two"])


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    id_ = draw(IDS)
    document = draw(st.none() | DOCUMENTS)
    body = None if document is None else orjson.dumps(document)
    digest = blake2b(id_.encode(), digest_size=16).digest()
    return Operation(id_, digest, blake2b(body or b"", digest_size=8).digest(), draw(st.integers(0, 6)), body)


class Indices(RuleBasedStateMachine):
    """The same calls go to the embedded index and to the one in memory; both are compared with a dict."""

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "index.db"
        self.backend = self.run(EmbeddedBackend.open(self.path))
        self.memory = MemoryDestination()
        self.model: dict[str, tuple[str, Operation]] = {}
        self.versions: dict[str, int] = {}
        self.handles = {
            id(destination): self.run(destination.prepare(IndexSpec("i"))).uuid for destination in self.destinations()
        }

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    def destinations(self) -> tuple[Destination, Destination]:
        return self.backend.destination, self.memory

    def handle(self, destination: Destination, connector: str) -> IndexHandle:
        return IndexHandle("i", self.handles[id(destination)], connector, "fp")

    @rule(batch=st.lists(operations(), max_size=8), connector=CONNECTORS)
    def write(self, batch: list[Operation], connector: str) -> None:
        superseded: set[int] = set()
        for position, operation in enumerate(batch):
            if operation.version < self.versions.get(operation.id, 0):
                superseded.add(position)
                continue
            self.versions[operation.id] = operation.version
            self.model.pop(operation.id, None)
            if operation.body is not None:
                self.model[operation.id] = (connector, operation)
        for destination in self.destinations():
            result = self.run(destination.write(self.handle(destination, connector), batch))
            assert set(result.failures) == superseded
            assert all(failure.kind is FailureKind.SUPERSEDED for failure in result.failures.values())

    @rule(connector=CONNECTORS)
    def purge(self, connector: str) -> None:
        own = [id_ for id_, (by, _) in self.model.items() if by == connector]
        for id_ in own:
            del self.model[id_]
        for destination in self.destinations():
            assert self.run(destination.purge("i", connector)) == len(own)

    @rule()
    def reopen(self) -> None:
        self.run(self.backend.close())
        uuid = self.handles.pop(id(self.backend.destination))
        self.backend = self.run(EmbeddedBackend.open(self.path))
        self.handles[id(self.backend.destination)] = uuid

    @rule()
    def maintain(self) -> None:
        self.run(self.backend.destination.maintain())

    @rule(word=WORDS, column=st.sampled_from(["", "title:", "body:"]))
    def search(self, word: str, column: str) -> None:
        query = column + word
        found = [
            sorted(hit.id for hit in self.run(destination.search("i", query, limit=100)).hits)
            for destination in self.destinations()
        ]
        assert found[0] == found[1]

    @invariant()
    def both_hold_what_the_model_holds(self) -> None:
        bodies = {id_: operation.body for id_, (_, operation) in self.model.items()}
        for destination in self.destinations():
            assert self.run(destination.fetch("i", ["a", "b", "ä/c", "x\0y", "", "Ω" * 30])) == bodies
            for connector in ("one", "two"):
                own = [operation for by, operation in self.model.values() if by == connector]
                assert self.run(destination.count("i", connector)) == len(own)
                expected = sorted((operation.digest, operation.content_hash) for operation in own)
                assert self.run(stamps(destination, self.handle(destination, connector))) == expected

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.run(self.backend.close())
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()
            self.folder.cleanup()


async def stamps(destination: Destination, handle: IndexHandle) -> list[tuple[bytes, bytes]]:
    found: list[tuple[bytes, bytes]] = []
    async for page in destination.stamps(handle):
        count = len(page.digests) // 16
        found += [(page.digests[n * 16 :][:16], page.hashes[n * 8 :][:8]) for n in range(count)]
    return found


TestIndices = Indices.TestCase
TestIndices.settings = settings(max_examples=25, stateful_step_count=15, suppress_health_check=list(HealthCheck))

SYNTAX = [*"\"*-:(){}^+\\'%_$. é", "OR", "AND", "NOT", "NEAR", "title", "red", "[0]", "size", "deep.red"]


@given(
    texts=st.lists(
        st.lists(st.sampled_from(SYNTAX) | st.text(max_size=5), max_size=12).map("".join), min_size=1, max_size=20
    )
)
@settings(max_examples=20)
def test_any_text_is_a_query(texts: list[str]) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            backend = await EmbeddedBackend.open(Path(folder) / "index.db")
            info = await backend.destination.prepare(IndexSpec("i"))
            body = orjson.dumps({"title": "red é", "size": 5, "deep": {"red": ["x"]}})
            operation = Operation("a", b"a" * 16, b"h" * 8, 1, body)
            await backend.destination.write(IndexHandle("i", info.uuid, "c", "f"), [operation])
            try:
                for text in texts:
                    page = await backend.destination.search("i", text)
                    assert page.total == len(page.hits)
            finally:
                await backend.close()

    asyncio.run(run())
