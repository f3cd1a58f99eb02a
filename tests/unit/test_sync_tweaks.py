"""A source lowers the options of bulk writing for its own syncs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from connectors.source import BaseDataSource, DataSourceConfiguration
from connectors.sync.tweaks import OPTIONS
from tests.support.clock import run_virtual
from tests.support.world import World


class Tweaking(BaseDataSource):
    """Forty files; notes what it was given, and how many are fetched at a time."""

    service_type = "scripted"

    def __init__(self, **wanted: Any) -> None:
        super().__init__(DataSourceConfiguration())
        self.wanted = wanted
        self.given: list[dict[str, Any]] = []
        self.fetching = self.most = 0

    def tweak_bulk_options(self, options: dict[str, Any]) -> None:
        self.given.append(dict(options))
        options.update(self.wanted)

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        for number in range(40):
            yield {"_id": str(number), "_timestamp": "1"}, self._fetch

    async def _fetch(self, *, doit: bool = True, timestamp: Any = None) -> dict[str, Any] | None:
        if not doit:
            return None
        self.fetching += 1
        self.most = max(self.most, self.fetching)
        await asyncio.sleep(0.1)
        self.fetching -= 1
        return {"body": "text"}


def _sizes(world: World) -> list[int]:
    return [len(operations) for operations in world.destination.requests]


def test_a_source_lowers_them_for_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        world, source = World(tmp_path), Tweaking(concurrent_downloads=2, batch_documents=3, writes_in_flight=1)
        await world.sync(source)
        assert source.given == [{name: getattr(world.config, name) for name in OPTIONS}]
        assert (source.most, world.destination.most_in_flight) == (2, 1)
        assert max(_sizes(world)) == 3
        assert len(world.indexed) == 40
        await world.sync(source)
        assert len(source.given) == 2, "it is asked before each sync"

    run_virtual(scenario())


def test_the_configuration_is_the_upper_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        world = World(tmp_path, concurrent_downloads=3, batch_documents=7)
        source = Tweaking(concurrent_downloads=1000, batch_documents=1000)
        await world.sync(source)
        assert source.most == 3
        assert max(_sizes(world)) <= 7

    run_virtual(scenario())


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"batch_document": 3}, 'did you mean "batch_documents"'),
        ({"queue": 3}, "there are batch_bytes"),
        ({"batch_documents": 0}, "sets batch_documents to 0"),
        ({"batch_bytes": True}, "whole number"),
        ({"batch_bytes": 1.5}, "whole number"),
    ],
)
def test_what_is_no_option_is_refused_before_anything_is_read(
    tmp_path: Path, wanted: dict[str, Any], words: str
) -> None:
    async def scenario() -> None:
        world = World(tmp_path)
        with pytest.raises(ConfigurationError, match=words):
            await world.sync(Tweaking(**wanted))
        assert not world.indexed

    run_virtual(scenario())
