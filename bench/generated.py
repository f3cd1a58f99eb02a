"""A source for benchmarks: seeded documents of about 1 KB, made without an await, as many as the configuration says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Final

from connectors.source import BaseDataSource, Document

__all__ = ["TEXT", "GeneratedDataSource", "PartitionedDataSource", "make"]

TEXT: Final = "The quick brown fox jumps over the lazy dog and finds the handbook of the house. " * 11
_FIELDS: Final[Mapping[str, tuple[str, int]]] = {
    "documents": ("How many documents", 1000),
    "edition": ("A number in each document; another one changes all of them", 1),
}


#: Ranges of numbers that readers share.
_PARTS: Final = 16


class GeneratedDataSource(BaseDataSource):
    """Yields `documents` documents, the same ones each time until `edition` is another."""

    name: ClassVar[str] = "Generated"
    service_type: ClassVar[str] = "generated"

    @classmethod
    def get_default_configuration(cls) -> dict[str, dict[str, Any]]:
        """Returns the two numbers."""
        return {
            name: {"label": label, "type": "int", "default_value": number, "required": False}
            for name, (label, number) in _FIELDS.items()
        }

    async def ping(self) -> None:
        """There is nothing to reach."""

    async def get_docs(self, *_: object, **__: object) -> AsyncIterator[Any]:
        """Yields them."""
        edition = int(self.configuration["edition"])
        for number in range(int(self.configuration["documents"])):
            yield make(number, edition), None


class PartitionedDataSource(GeneratedDataSource):
    """Can be read by several processes."""

    service_type: ClassVar[str] = "partitioned"
    resumable = True
    partitioned = True

    async def partitions(self, filtering: Any = None) -> Sequence[Any]:  # noqa: ARG002 - no rules here
        """Returns ranges of numbers."""
        documents = int(self.configuration["documents"])
        return [list(limits) for limits in pairwise(documents * part // _PARTS for part in range(_PARTS + 1))]

    async def get_docs(
        self,
        *_: object,  # no rules here
        partition: Any = None,
        **__: object,  # no checkpoint: never stopped
    ) -> AsyncIterator[Any]:
        """Yields those of one range."""
        edition = int(self.configuration["edition"])
        for number in range(*(partition or [0, int(self.configuration["documents"])])):
            yield make(number, edition), None


def make(number: int, edition: int) -> Document:
    """Returns one document."""
    return {
        "_id": f"handbook/chapter-{number % 97}/page-{number}.md",
        "path": f"handbook/chapter-{number % 97}/page-{number}.md",
        "size": 1_000 + number,
        "edition": edition,
        "body": TEXT,
    }
