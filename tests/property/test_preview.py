"""For any index, any listing and any rules: a preview counts what the sync then does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.backends.ports import IndexHandle
from connectors.byoc import Filter
from connectors.errors import DeletionGuardError
from connectors.sync.guard import Limits
from connectors.sync.preview import Counting, Preview
from tests.support.clock import run_virtual
from tests.support.sources import ScriptedSource
from tests.support.world import CONNECTOR, INDEX, World

listings = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=30)
policies = st.sampled_from(["include", "exclude"])


@st.composite
def rules(draw: st.DrawFn) -> list[dict[str, Any]]:
    conditions = draw(st.lists(st.integers(0, 3), unique=True, max_size=4))
    found: list[dict[str, Any]] = [
        {"id": f"r{order}", "order": order, "policy": draw(policies), "field": "x", "rule": "equals", "value": str(x)}
        for order, x in enumerate(conditions)
    ]
    return [*found, {"id": "DEFAULT", "policy": draw(policies)}]


def script(listing: list[tuple[int, int]]) -> list[Any]:
    return [({"_id": str(number), "x": x}, None) for number, x in listing]


@settings(max_examples=60)
@given(before=listings, old=rules(), now=listings, new=rules(), allowed=st.booleans())
def test_it_counts_what_the_sync_does(
    before: list[tuple[int, int]],
    old: list[dict[str, Any]],
    now: list[tuple[int, int]],
    new: list[dict[str, Any]],
    allowed: bool,
) -> None:
    async def scenario(folder: Path) -> None:
        world = World(folder, min_documents_for_ratio=3)
        world.rules = old
        await world.sync(ScriptedSource(script(before)))
        held = set(world.indexed)
        index = world.destination._indices[INDEX]
        handle = IndexHandle(INDEX, index.uuid, CONNECTOR, "")
        preview = Preview(
            ScriptedSource(script(now)), Filter.of(new), limit=3, runtime=world.runtime,
            counting=Counting(world.destination, handle, Limits(0.2, 3)),
        )  # fmt: skip
        await preview.run()
        impact = preview.impact
        assert impact is not None
        assert impact.held == len(held)
        world.rules = new
        job = await world.job(allow_deletes=100 if allowed else 0)
        running = world.sync(ScriptedSource(script(now)), job=job)
        if impact.stopped and not allowed:
            with pytest.raises(DeletionGuardError) as caught:
                await running
            assert f"would delete {impact.deleted} of the {impact.held} " in str(caught.value)
            told = f"{impact.dropped} of them because the sync rules changed"
            assert (told in str(caught.value)) == (impact.dropped > 0 and old != new)
        else:
            counters = (await running).counters
            assert (preview.read, preview.dropped) == (counters.read, counters.filtered)
            assert counters.vanished == impact.deleted == len(held - set(world.indexed))
        assert len(set(world.indexed) - held) == impact.added
        assert impact.unlisted == len(held - {str(number) for number, _ in now})

    with tempfile.TemporaryDirectory() as folder:
        run_virtual(scenario(Path(folder)))
