"""Puts destination and store of one server together."""

from __future__ import annotations

from functools import partial

from connectors.backends.server.client import Client
from connectors.backends.server.destination import ServerDestination
from connectors.backends.server.store import ServerStore
from connectors.config import ServerConfig

__all__ = ["ServerBackend"]


class ServerBackend:
    """A destination and a store on one server, over the same connections.

    Attributes:
        client: for what only tests and tools ask.
        destination: where documents go.
        store: where records live.
    """

    def __init__(self, client: Client, config: ServerConfig, *, connectors_index: str, jobs_index: str) -> None:
        self.client = client
        self._users = {"destination", "store"}
        reserved = {connectors_index, jobs_index, config.state_index}
        self.destination = ServerDestination(client, release=partial(self._leave, "destination"), reserved=reserved)
        self.store = ServerStore(
            client,
            connectors=connectors_index,
            jobs=jobs_index,
            state=config.state_index,
            release=partial(self._leave, "store"),
        )

    async def close(self) -> None:
        """Closes the connections; may be called twice."""
        await self.client.close()

    async def _leave(self, user: str) -> None:
        self._users.discard(user)
        if not self._users:
            await self.close()
