"""Points in time: an index as it was at one moment, read page after page whatever is written meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from connectors.backends.server.bulk import IndexMissingError
from connectors.backends.server.client import Client, Response
from connectors.backends.server.faults import error_of, reason_of
from connectors.backends.server.names import path_of
from connectors.errors import RetryableError

__all__ = ["MOST", "PointInTime", "found", "point_in_time"]

#: Hits of one request: as many as servers allow unless told otherwise.
MOST: Final = 10_000

_KEEP_ALIVE: Final = "5m"


class PointInTime:
    """An open point in time; several may search in it at once."""

    def __init__(self, client: Client, id_: str, headers: Mapping[str, str]) -> None:
        self.id = id_
        self._client = client
        self._headers = headers

    async def search(self, body: Mapping[str, Any], *, only: str | None = None) -> list[dict[str, Any]]:
        """Returns the hits of one page.

        Args:
            only: what of the hits is wanted, as `hits.hits.…` paths with commas between; all of it unless given.

        Raises:
            RetryableError: a part of the index did not answer, or the point in time was lost; read all of it again.
        """
        params = {} if only is None else {"filter_path": f"pit_id,timed_out,_shards.failed,{only},error,status"}
        sent = self.id
        asked = {**body, "pit": {"id": sent, "keep_alive": _KEEP_ALIVE}}
        response = await self._client.request("POST", "/_search", params=params, body=asked, headers=self._headers)
        answer: dict[str, Any] = response.json()
        if not response.ok:  # it was lost, with a node, say
            raise RetryableError(f"reading the index was cut short: {reason_of(error_of(response.body))}")
        if answer.get("timed_out") or (answer.get("_shards") or {}).get("failed"):
            raise RetryableError("a part of the index did not answer; what was read is not everything")
        # The server may give it another name from page to page; a late answer with the old one does not undo that.
        if (named := answer.get("pit_id", sent)) != sent:
            self.id = named
        hits: list[dict[str, Any]] = (answer.get("hits") or {}).get("hits") or []
        return hits


@asynccontextmanager
async def point_in_time(
    client: Client, index: str, headers: Mapping[str, str] | None = None
) -> AsyncIterator[PointInTime]:
    """Opens a point in time of an index, or of what an alias stands for; it is closed whatever happens.

    Raises:
        IndexMissingError: there is no such index.
    """
    product = client.product
    given = headers or {}
    response = await client.request(
        "POST", f"{path_of(index)}/{product.pit_path}", params={"keep_alive": _KEEP_ALIVE}, headers=given
    )
    pit = PointInTime(client, str(found(response).json()[product.pit_id]), given)
    try:
        yield pit
    finally:
        closing = {product.pit_id: [pit.id] if product.pit_list else pit.id}
        with suppress(RetryableError):  # the server cannot be reached: then it runs out by itself
            await client.request("DELETE", f"/{product.pit_close}", body=closing, headers=given)


def found(response: Response) -> Response:
    """Returns a successful answer as it is.

    Raises:
        IndexMissingError: there is no such index.
        RetryableError: anything else.
    """
    if response.status == 404:
        raise IndexMissingError
    if not response.ok:
        raise RetryableError(f"reading the index failed: {reason_of(error_of(response.body))}")
    return response
