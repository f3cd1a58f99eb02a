"""The project's sources, with a log of what they yielded that outlives `kill -9`: what was read twice, and when.

For processes of the project: `sources: {counted-mysql: "tests.support.counted:CountedMySQLDataSource"}`. Only full
syncs are logged. The environment names the folder of the log (`COUNTED_LOG`) and how many seconds the source dawdles
after each document (`COUNTED_PAUSE`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from connectors.source import SourceItem
from connectors.sources.directory import DirectoryDataSource
from connectors.sources.mongodb import MongoDBDataSource
from connectors.sources.mysql import MySQLDataSource
from connectors.sources.postgresql import PostgreSQLDataSource

__all__ = [
    "SOURCES",
    "CountedDirectoryDataSource",
    "CountedMongoDBDataSource",
    "CountedMySQLDataSource",
    "CountedPostgreSQLDataSource",
    "Reading",
    "read_log",
]

_RECORD: Final = Struct("<dQ")


async def _logged(stream: AsyncGenerator[SourceItem, None]) -> AsyncGenerator[SourceItem, None]:
    """Logs document by document, before it is handed on."""
    pause = float(os.environ.get("COUNTED_PAUSE", "0"))
    log = os.open(Path(os.environ["COUNTED_LOG"]) / f"{os.getpid()}.reads", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        async with aclosing(stream) as items:
            async for item in items:
                if isinstance(item, tuple):
                    os.write(log, _RECORD.pack(time.time(), xxh3_64_intdigest(str(item[0]["_id"]).encode())))
                yield item
                if pause:
                    await asyncio.sleep(pause)
    finally:
        os.close(log)


class CountedDirectoryDataSource(DirectoryDataSource):
    """Files."""

    def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncGenerator[SourceItem, None]:
        return _logged(super().get_docs(filtering, checkpoint=checkpoint, partition=partition))


class CountedMySQLDataSource(MySQLDataSource):
    """Tables of MySQL and MariaDB."""

    def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncGenerator[SourceItem, None]:
        return _logged(super().get_docs(filtering, checkpoint=checkpoint, partition=partition))


class CountedPostgreSQLDataSource(PostgreSQLDataSource):
    """Tables of PostgreSQL."""

    def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncGenerator[SourceItem, None]:
        return _logged(super().get_docs(filtering, checkpoint=checkpoint, partition=partition))


class CountedMongoDBDataSource(MongoDBDataSource):
    """Collections of MongoDB."""

    def get_docs(
        self, filtering: Any = None, *, checkpoint: Any = None, partition: Any = None
    ) -> AsyncGenerator[SourceItem, None]:
        return _logged(super().get_docs(filtering, checkpoint=checkpoint, partition=partition))


SOURCES: Final = {
    f"counted-{name}": f"{__name__}:{found.__name__}"
    for name, found in {
        "directory": CountedDirectoryDataSource,
        "mongodb": CountedMongoDBDataSource,
        "mysql": CountedMySQLDataSource,
        "postgresql": CountedPostgreSQLDataSource,
    }.items()
}


@dataclass(frozen=True, slots=True)
class Reading:
    """One document that a source yielded.

    Attributes:
        at: seconds since the Unix epoch.
        pid: of the process.
        document: hash of the `_id`.
    """

    at: float
    pid: int
    document: int


def read_log(folder: Path) -> list[Reading]:
    """Returns everything that was read so far, in the order of time."""
    found = []
    for path in folder.glob("*.reads"):
        content = path.read_bytes()
        whole = content[: len(content) - len(content) % _RECORD.size]
        found += [Reading(at, int(path.stem), document) for at, document in _RECORD.iter_unpack(whole)]
    return sorted(found, key=lambda reading: reading.at)
