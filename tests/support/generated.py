"""A source of documents that are made up from their number, also for processes of the project."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from connectors.source import BaseDataSource, Checkpoint

__all__ = ["GeneratedDataSource", "HalfwayDataSource", "generated"]

_WORDS = "harbour lantern meadow copper violet granite willow ember quartz saffron"


def generated(number: int) -> dict[str, Any]:
    """Returns document `number`, without its id."""
    return {"number": number, "even": number % 2 == 0, "text": f"{_WORDS} {number} " * 5, "tags": [f"t{number % 7}"]}


class GeneratedDataSource(BaseDataSource):
    """Yields documents 0 to `count`; resumable."""

    name = "Generated"
    service_type = "generated"
    resumable = True

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        return {"count": {"type": "int", "value": 100}, "prefix": {"type": "str", "value": "d"}}

    async def ping(self) -> None:
        """There is nothing to reach."""

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        prefix = self.configuration["prefix"]
        for number in range(checkpoint or 0, self.configuration["count"]):
            yield {"_id": f"{prefix}{number}", **generated(number)}, None
            if number % 500 == 499:
                yield Checkpoint(number + 1)


class HalfwayDataSource(GeneratedDataSource):
    """Sets `reached` halfway, and goes on when the test, in the same process, sets `go_on`."""

    name = "Halfway"
    service_type = "halfway"
    reached: ClassVar[asyncio.Event]
    go_on: ClassVar[asyncio.Event]

    async def get_docs(self, filtering: Any = None, *, checkpoint: Any = None) -> AsyncIterator[Any]:
        half = self.configuration["count"] // 2
        async for item in super().get_docs(filtering, checkpoint=checkpoint):
            yield item
            if not isinstance(item, Checkpoint) and item[0]["number"] == half:
                self.reached.set()
                await self.go_on.wait()
