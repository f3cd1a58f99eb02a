"""Where the records of connectors and jobs live: in indices of ours, or in those of the server's Connectors API.

Newer versions of Elasticsearch keep them as system indices: the server makes them, and lets nobody write to them who
does not say on whose behalf. There, connectors are created and removed by the API, which makes the indices too, and
what the API has no request for (how a job ended, for one) is written with the header that the server asks for.

A serverless project has the API and lets nobody at its indices, header or not. There the records are in indices of
ours, and their names have no dot in front, which is not allowed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from connectors.backends.records import encode
from connectors.backends.server.client import Client
from connectors.backends.server.documents import Document, DocumentIndex
from connectors.backends.server.names import path_of
from connectors.backends.server.readable import is_removed
from connectors.backends.server.schemas import CONNECTORS, JOBS, STATE, records_body
from connectors.errors import RetryableError

__all__ = ["ORIGIN", "ApiRecords", "Records", "open_records"]

#: Says to the server on whose behalf system indices are written.
ORIGIN: Final[Mapping[str, str]] = {"x-elastic-product-origin": "connectors"}
#: The index is not among them: the API wants one for each connector, and here several may write to the same.
_CREATED_WITH: Final = ("is_native", "language", "name", "description", "service_type")


class Records:
    """Connectors and jobs in indices of ours, as is what the connector protocol does not know (`state`)."""

    def __init__(self, connectors: DocumentIndex, jobs: DocumentIndex, state: DocumentIndex) -> None:
        self.connectors = connectors
        self.jobs = jobs
        self.state = state

    async def prepare(self) -> None:
        """Creates what is missing."""
        await self.connectors.create_index()
        await self.jobs.create_index()
        await self.state.create_index()

    async def create_connector(self, connector_id: str, record: Mapping[str, Any]) -> Document | None:
        """Creates a record; None when there is one of this id already."""
        return await self.connectors.create(connector_id, record)

    async def remove_connector(self, connector_id: str) -> None:
        """Removes a record; nothing happens when there is none."""
        await self.connectors.delete_ids([connector_id])


class ApiRecords(Records):
    """Connectors and jobs in the indices of the Connectors API."""

    def __init__(self, client: Client, connectors: DocumentIndex, jobs: DocumentIndex, state: DocumentIndex) -> None:
        super().__init__(connectors, jobs, state)
        self._client = client

    async def create_connector(self, connector_id: str, record: Mapping[str, Any]) -> Document | None:
        """Creates a record by the API, then writes all of it over exactly what the API wrote."""
        held = await self.connectors.get(connector_id)
        if held is not None and not is_removed(held):
            return None
        body = {name: record[name] for name in _CREATED_WITH if record.get(name) is not None}
        path = f"/_connector{path_of(connector_id)}"
        response = await self._client.request("PUT", path, body=encode(body))
        if response.status == 400:  # before version 8.14 there has to be an index
            response = await self._client.request(
                "PUT", path, body=encode({**body, "index_name": record.get("index_name")})
            )
        if not response.ok:
            raise self._client.refused(response, f'to create the connector "{connector_id}"')
        made = await self.connectors.get(connector_id)
        if made is None:
            raise RetryableError(f'the connector "{connector_id}" was created and is not there yet')
        return await self.connectors.replace(made, {**made.source, **record})

    async def remove_connector(self, connector_id: str) -> None:
        """Removes a record by the API, which may only mark it, and then what is left of it."""
        response = await self._client.request("DELETE", f"/_connector{path_of(connector_id)}")
        if not response.ok and response.status != 404:
            raise self._client.refused(response, f'to remove the connector "{connector_id}"')
        await super().remove_connector(connector_id)


async def open_records(client: Client, connectors: str, jobs: str, state: str) -> Records:
    """Returns the records as this server keeps them, after a look at what it is and offers."""
    serverless = (await client.server()).serverless

    def ours(name: str, properties: Mapping[str, Any], *, own: bool = False) -> DocumentIndex:
        named = name.lstrip(".") if serverless else name
        return DocumentIndex(client, named, records_body(properties, serverless=serverless), own=own)

    if client.product.has_connectors and not serverless:
        # Without the API the path is read as the name of an index, which it cannot be.
        response = await client.request("GET", "/_connector", params={"size": "1"}, answered=(410, 501))
        if response.ok:
            return ApiRecords(
                client,
                DocumentIndex(client, connectors, None, ORIGIN),
                DocumentIndex(client, jobs, None, ORIGIN),
                ours(state, STATE, own=True),
            )
    return Records(ours(connectors, CONNECTORS), ours(jobs, JOBS), ours(state, STATE, own=True))
