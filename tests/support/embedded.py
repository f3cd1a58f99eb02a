"""The embedded backend and its file: documents to write, and another program that looks in."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import IndexHandle, IndexSpec, Operation

__all__ = ["handle_of", "plain", "put"]


async def handle_of(backend: EmbeddedBackend, connector_id: str = "one") -> IndexHandle:
    info = await backend.destination.prepare(IndexSpec("things"))
    return IndexHandle("things", info.uuid, connector_id, "fingerprint")


def put(id_: str, version: int = 1, **fields: Any) -> Operation:
    digest = blake2b(id_.encode(), digest_size=16).digest()
    return Operation(id_, digest, b"12345678", version, orjson.dumps(fields))


@contextmanager
def plain(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection of another program."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0.1)) as opened:
        yield opened
