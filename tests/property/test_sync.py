"""Random histories of a source, with every fault at once: after each completed sync the index is what was promised."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.backends.ports import FailureKind, Operation
from connectors.errors import SkippableError
from connectors.source import Skipped
from connectors.sync.context import SyncResult
from tests.support.clock import run_virtual
from tests.support.sources import Download, ResumableSource, ScriptedSource, checkpointed
from tests.support.world import World

MARK = "refuse"
RULES = [{"id": "1", "order": 1, "policy": "exclude", "field": "draft", "rule": "equals", "value": "true"}]
KINDS = ("plain", "lazy", "failing", "skipped", "unencodable", "refused", "filtered")


@dataclass(frozen=True)
class Listed:
    """One document as the source lists it once."""

    id: str
    edition: int
    kind: str
    seconds: float

    @property
    def writable(self) -> bool:
        return self.kind in {"plain", "lazy"}

    @property
    def content(self) -> dict[str, Any]:
        """What the index holds once it was written."""
        if self.kind == "plain":
            return {"e": self.edition}
        return {"_timestamp": self.edition, "e": self.edition, "body": f"file {self.edition}"}

    def item(self) -> Any:
        """Returns what the source yields."""
        if self.kind == "skipped":
            return Skipped("unreadable", self.id)
        document: dict[str, Any] = {"_id": self.id, "e": self.edition}
        if self.kind in {"lazy", "failing"}:
            error = SkippableError("broken") if self.kind == "failing" else None
            lazy = Download({"body": f"file {self.edition}"}, seconds=self.seconds, error=error)
            return {"_id": self.id, "_timestamp": self.edition, "e": self.edition}, lazy
        if self.kind == "unencodable":
            document["x"] = object()
        if self.kind == "refused":
            document["mark"] = MARK
        if self.kind == "filtered":
            document["draft"] = True
        return document, None


@dataclass(frozen=True)
class Step:
    """One sync: what is listed, and how it goes."""

    listing: list[Listed]
    ending: str  # "completed", "suspended" once or more, "killed"
    after: float
    pause: float
    every: int
    resumable: bool
    seed: int


listed = st.builds(
    Listed,
    id=st.integers(0, 14).map(lambda number: f"d{number}"),
    edition=st.integers(1, 3),
    kind=st.sampled_from(["plain", "lazy", *KINDS]),
    seconds=st.sampled_from([0.0, 0.1, 3.0]),
)
steps = st.builds(
    Step,
    listing=st.lists(listed, max_size=40),
    ending=st.sampled_from(["completed", "completed", "suspended", "killed"]),
    after=st.floats(0, 12),
    pause=st.sampled_from([0.0, 0.01, 0.4]),
    every=st.integers(1, 12),
    resumable=st.booleans(),
    seed=st.integers(0, 1 << 16),
)


def source_of(step: Step) -> ScriptedSource:
    script = checkpointed([item.item() for item in step.listing], step.every, pause=step.pause)
    return ResumableSource(script) if step.resumable else ScriptedSource(script)


def misbehave(world: World, seed: int) -> None:
    """Delays, reorders, cuts and overloads, up to a point; refuses what is marked."""
    random, destination = Random(seed), world.destination
    calm = len(destination.requests) + 60

    def verdict(number: int, operation: Operation) -> FailureKind | None:
        if MARK.encode() in (operation.body or b""):
            return FailureKind.REFUSED
        return FailureKind.OVERLOADED if number < calm and random.random() < 0.1 else None

    destination.verdict = verdict
    destination.delay = lambda _: random.choice([0.0, 0.1, 2.0])
    destination.answer_delay = lambda _: random.choice([0.0, 0.1, 2.0])
    destination.down = lambda number: number < calm and random.random() < 0.1
    destination.cut = lambda number: number < calm and random.random() < 0.1


def expected(before: dict[str, Any], listing: list[Listed]) -> dict[str, Any]:
    """What the index holds after a complete sync: of each document the last version that could be written."""
    kept = {item.id for item in listing if item.kind != "filtered"}
    after = {id_: content for id_, content in before.items() if id_ in kept}
    after.update({item.id: item.content for item in listing if item.writable})
    return after


async def check_completed(world: World, step: Step, before: dict[str, Any], result: SyncResult) -> None:
    """Checks the promises; `before` is what the index held before the job."""
    assert result.counters.balanced
    assert result.counters.read == len(step.listing)
    assert result.counters.filtered == sum(item.kind == "filtered" for item in step.listing)
    assert world.indexed == expected(before, step.listing)
    assert await world.ledger() == world.stamps()
    letters = set(await world.letters())
    by_id: dict[str, list[Listed]] = {}
    for item in step.listing:
        if item.kind != "filtered":
            by_id.setdefault(item.id, []).append(item)
    assert letters <= {id_ for id_, items in by_id.items() if not all(item.writable for item in items)}
    # A download that fails is not even tried when the index holds that edition already.
    assert letters >= {
        id_ for id_, items in by_id.items() if all(item.kind in {"skipped", "unencodable", "refused"} for item in items)
    }


async def play(folder: Path, history: list[Step], config: dict[str, Any]) -> None:
    world = World(folder, max_delete_ratio=1.0, **config)
    world.rules = RULES
    for step in history:
        misbehave(world, step.seed)
        before = world.indexed
        job = await world.job(allow_deletes=1_000_000)
        if step.ending == "killed":
            await world.kill(source_of(step), after=step.after, job=job)
            continue
        for attempt in range(5):
            stop_after = step.after if step.ending == "suspended" and attempt < 4 else None
            result = await world.sync(source_of(step), job=job, stop_after=stop_after)
            assert result.counters.balanced
            if not result.suspended:
                await check_completed(world, step, before, result)
                break
    misbehave(world, 0)
    before, last = world.indexed, Step(history[-1].listing, "completed", 0, 0, 5, False, 0)
    await check_completed(world, last, before, await world.sync(source_of(last), allow_deletes=1_000_000))
    again = await world.sync(source_of(last), allow_deletes=1_000_000)
    await check_completed(world, last, world.indexed, again)
    assert again.counters.vanished == 0


@settings(max_examples=100)
@given(
    history=st.lists(steps, min_size=1, max_size=5),
    config=st.fixed_dictionaries(
        {
            "batch_documents": st.integers(1, 9),
            "writes_in_flight": st.integers(1, 4),
            "concurrent_downloads": st.integers(1, 4),
        }
    ),
)
def test_after_each_completed_sync_the_index_is_what_was_promised(history: list[Step], config: dict[str, Any]) -> None:
    # Power cuts are not in the game, and waiting for the disk would be most of the time.
    with tempfile.TemporaryDirectory() as folder, patch("os.fsync"):
        run_virtual(play(Path(folder), history, config))
