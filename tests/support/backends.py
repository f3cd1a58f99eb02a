"""Backends on real servers, with indices that are gone afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from connectors.backends.elasticsearch import open_elasticsearch
from connectors.backends.opensearch import open_opensearch
from connectors.backends.server import ServerBackend
from connectors.config import ElasticsearchConfig, OpenSearchConfig
from tests.servers.search import SearchServer

__all__ = ["RECORDS", "backend_on", "open_backend"]

#: Names of the indices of records.
RECORDS: Final = {
    "connectors_index": "contract-connectors",
    "jobs_index": "contract-jobs",
    "state_index": "contract-state",
}


def backend_on(server: SearchServer, **settings: Any) -> ServerBackend:
    """Returns a backend on this server; `settings` are keys of its block in `config.yml`."""
    given = {"url": server.url, **RECORDS, **settings}
    if server.flavour.product == "elasticsearch":
        return open_elasticsearch(ElasticsearchConfig.model_validate(given))
    return open_opensearch(OpenSearchConfig.model_validate(given))


@asynccontextmanager
async def open_backend(server: SearchServer, **settings: Any) -> AsyncIterator[ServerBackend]:
    """Opens a backend whose records are empty, and deletes afterwards the indices that were made meanwhile.

    Indices that are there already stay: the server may be one that an address in the environment names.
    """
    tidy = backend_on(server)
    backend = backend_on(server, **settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(tidy.close)
        before = await _indices(tidy)
        await _empty_records(tidy)
        try:
            yield backend
        finally:
            await backend.close()
            if made := sorted(await _indices(tidy) - before):
                await tidy.client.request("DELETE", f"/{','.join(made)}", params={"ignore_unavailable": "true"})
            await _empty_records(tidy)


async def _indices(backend: ServerBackend) -> set[str]:
    """Returns the indices that somebody wrote documents to by a backend."""
    answer = await backend.client.request("GET", "/*@Connectors-*/_alias")
    return set(answer.json()) if answer.ok else set()


async def _empty_records(backend: ServerBackend) -> None:
    records = ",".join(RECORDS.values())
    await backend.client.call("POST", f"/{records}/_refresh", params={"ignore_unavailable": "true"})
    await backend.client.call(
        "POST",
        f"/{records}/_delete_by_query",
        params={"ignore_unavailable": "true", "refresh": "true", "conflicts": "proceed"},
        body={"query": {"match_all": {}}},
    )
