"""What keeps the records and the documents of a simulated world: memory, or SQLite without its threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from connectors.backends.embedded.connection import Database, create_file
from connectors.backends.embedded.destination import EmbeddedDestination
from connectors.backends.embedded.schema import migrate
from connectors.backends.embedded.store import EmbeddedStore
from connectors.backends.embedded.thread import DatabaseThread
from connectors.testing.memory import MemoryDestination, MemoryStore
from tests.simulation.kernel import EPOCH
from tests.simulation.plan import Plan

__all__ = ["open_backend"]

P = ParamSpec("P")
T = TypeVar("T")


class _Inline:
    """Takes the place of a database thread: its functions run on the spot, and no time passes."""

    def __init__(self, path: Path, *, write: bool) -> None:
        self._database = Database.connect(path, write=write)

    async def run(self, function: Callable[Concatenate[Database, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self._database.translated():
            return function(self._database, *args, **kwargs)

    change = run

    async def close(self) -> None:
        self._database.close()


def open_backend(plan: Plan, folder: Path, random: Random) -> tuple[Any, Any]:
    """Returns the store and the destination."""
    loop = asyncio.get_running_loop()

    def clock() -> float:
        return EPOCH + loop.time()

    if not plan.embedded:
        return MemoryStore(), MemoryDestination(clock=clock)
    path = folder / "connectors.db"
    create_file(path)
    writer, reader = _Inline(path, write=True), _Inline(path, write=False)
    with writer._database.translated():
        migrate(writer._database)
    users = [reader, writer]

    async def release() -> None:
        while users:
            await users.pop(0).close()

    threads = cast("DatabaseThread", writer), cast("DatabaseThread", reader)
    store = EmbeddedStore(*threads, release=release)
    return store, EmbeddedDestination(*threads, threads[1], clock=clock, release=release)
