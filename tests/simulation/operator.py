"""The operator of a simulated world, whose commands reach the records without any fault on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from connectors.backends.ports import Destination, Store
from connectors.runtime import Runtime
from connectors.service.letters import Letters
from connectors.service.operations import Operations
from tests.simulation.kernel import EPOCH
from tests.simulation.records import StoreClient
from tests.simulation.server import DestinationClient

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.world import World

__all__ = ["Operator"]


class Operator:
    """A person at another machine.

    Attributes:
        store, operations, letters: what commands work with.
    """

    name = "operator:1"
    dead = False
    #: Nothing goes wrong on the way of a command.
    spared = True
    is_member = False

    def __init__(self, world: World) -> None:
        self.world = world
        loop = asyncio.get_running_loop()
        clock = Runtime(wall=lambda: EPOCH + loop.time(), random=world.random)
        as_process = cast("Process", self)
        self.store = cast("Store", StoreClient(as_process, world.store))
        destination = cast("Destination", DestinationClient(as_process, world.server))
        self.operations = Operations(self.store, destination, clock, self.name)
        self.letters = Letters(self.store, destination, clock, self.name)
        self.config = world.config()

    async def gate(self) -> None:
        """Always open."""

    def stood_still(self) -> bool:
        """Never."""
        return False

    async def unfinished(self) -> list[Any]:
        """Returns the jobs that have not ended."""
        return [job for job in await self.store.jobs(limit=10_000) if not job.ended]
