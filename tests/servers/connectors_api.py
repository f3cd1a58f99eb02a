"""The Connectors API of complete distributions of Elasticsearch, imitated in front of a server that has none.

`ConnectorsApi` is a fault for `FaultProxy`: the API's own requests are answered as its documentation says, and the
indices behind it are system indices, open to nobody who does not say on whose behalf.
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from connectors.backends.server.names import path_of
from connectors.backends.server.schemas import CONNECTORS, JOBS, records_body
from tests.servers.faults import Exchange, Headers, Reply, Request, Rule, any_request
from tests.servers.proxy import FaultProxy

__all__ = ["ConnectorsApi", "connectors_api_proxy"]

_JSON: Final[Headers] = ((b"content-type", b"application/json"), (b"x-elastic-product", b"Elasticsearch"))
_ORIGIN: Final = b"x-elastic-product-origin"
_GIVEN: Final = ("index_name", "is_native", "language", "name", "description", "service_type")


class ConnectorsApi:
    """Plays the API for two indices.

    Attributes:
        connectors, jobs: names of the indices.
        asked: requests of the API that came.
    """

    def __init__(self, connectors: str, jobs: str) -> None:
        self.connectors = connectors
        self.jobs = jobs
        self.asked: list[str] = []

    async def apply(self, exchange: Exchange) -> Reply:
        """Returns the API's answer, or the server's."""
        request = exchange.request
        path = unquote(urlsplit(request.target).path)
        if path == "/_connector" or path.startswith("/_connector/"):
            await self._make_indices(exchange)
            self.asked.append(f"{request.method} {path}")
            return await self._answer(exchange, path.removeprefix("/_connector").removeprefix("/"))
        touched = path.strip("/").split("/")[0].split(",")
        if path == "/_mget":
            touched = [item["_index"] for item in json.loads(request.content)["docs"]]
        if {self.connectors, self.jobs} & set(touched) and not any(name == _ORIGIN for name, _ in request.headers):
            return _refused(403, "security_exception", f"{touched} may not be accessed by product [null]")
        if request.method == "PUT" and path in {f"/{self.connectors}", f"/{self.jobs}"}:
            return _refused(400, "illegal_argument_exception", f"{touched} are system indices, which the server makes")
        return await exchange.forward()

    async def _answer(self, exchange: Exchange, id_: str) -> Reply:
        method, path = exchange.request.method, path_of(self.connectors, "_doc", id_)
        if not id_:
            return _reply(200, {"count": 0, "results": []})
        if method == "PUT":
            asked = json.loads(exchange.request.content)
            if await self._in_use(exchange, id_, asked.get("index_name")):
                reason = f"Index name [{asked['index_name']}] is used by another connector."
                return _refused(400, "status_exception", reason)
            record = {name: asked.get(name) for name in _GIVEN} | {"status": "created"}
            record |= {"configuration": {}, "custom_scheduling": {}, "scheduling": {}, "filtering": [], "error": None}
            made = await _forward(exchange, "PUT", f"{path}?refresh=true", record)
            return _reply(made.status, {"result": json.loads(made.body).get("result"), "id": id_})
        update = f"{path_of(self.connectors, '_update', id_)}?refresh=true"
        marked = await _forward(exchange, "POST", update, {"doc": {"deleted": True}})
        if marked.status == 404:
            return _refused(404, "resource_not_found_exception", f"connector [{id_}] not found")
        return _reply(200, {"acknowledged": True})

    async def _in_use(self, exchange: Exchange, id_: str, index: str | None) -> bool:
        query = {"bool": {"filter": [{"term": {"index_name": index}}], "must_not": [{"ids": {"values": [id_]}}]}}
        found = await _forward(exchange, "POST", f"/{self.connectors}/_count", {"query": query}) if index else None
        return found is not None and json.loads(found.body)["count"] > 0

    async def _make_indices(self, exchange: Exchange) -> None:
        """Makes the indices, as the server does by itself."""
        for name, properties in ((self.connectors, CONNECTORS), (self.jobs, JOBS)):
            await _forward(exchange, "PUT", f"/{name}", records_body(properties))


def connectors_api_proxy(url: str, connectors: str, jobs: str) -> tuple[FaultProxy, ConnectorsApi]:
    """Returns a proxy in front of a server that makes it look as if it had the API."""
    api = ConnectorsApi(connectors, jobs)
    return FaultProxy(url, [Rule(api, any_request, times=None)]), api


async def _forward(exchange: Exchange, method: str, target: str, body: Any) -> Reply:
    return await exchange.forward(Request(method, target, _JSON[:1], json.dumps(body).encode()))


def _refused(status: int, kind: str, reason: str) -> Reply:
    return _reply(status, {"error": {"type": kind, "reason": reason}, "status": status})


def _reply(status: int, body: Any) -> Reply:
    return Reply(status, _JSON, json.dumps(body).encode())
