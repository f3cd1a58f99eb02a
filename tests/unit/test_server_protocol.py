"""Records where the server has a Connectors API, played by a small imitation of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson
import pytest

from connectors.backends.server import ELASTICSEARCH, OPENSEARCH, Response
from connectors.backends.server.protocol import ORIGIN, ApiRecords, Records, open_records
from connectors.backends.server.store import ServerStore
from connectors.byoc import Connector
from connectors.errors import ConfigurationError, ConflictError, SuspendSync
from tests.support.transport import Sent, answer, fake_client

CONNECTORS, JOBS, STATE = ".elastic-connectors", ".elastic-connectors-sync-jobs", ".state"


class Imitation:
    """Documents by path, a Connectors API, and system indices that refuse whoever does not say who he is."""

    def __init__(self, *, wants_index: bool = False) -> None:
        self.wants_index = wants_index
        self.documents: dict[str, tuple[int, Any]] = {}
        self.clock = 0
        self.connectors: list[tuple[str, str]] = []

    def __call__(self, sent: Sent) -> Response:
        path = unquote(urlsplit(sent.target).path)
        if path == "/":
            return answer(body={"version": {"number": "9.1.0"}})
        if path.startswith("/_connector"):
            return self._api(sent, path)
        if path.startswith((f"/{CONNECTORS}/", f"/{JOBS}/")) and "x-elastic-product-origin" not in sent.headers:
            return answer(403, {"error": {"type": "security_exception", "reason": "a system index"}})
        if path.endswith("/_bulk"):
            ids = [orjson.loads(line)["delete"]["_id"] for line in (sent.body or b"").splitlines()]
            gone = [self.documents.pop(path[1:].replace("_bulk", id_), None) for id_ in ids]
            return answer(200, {"items": [{"delete": {"status": 200 if each else 404}} for each in gone]})
        if "/_doc/" in path or "/_create/" in path:
            return self._document(sent, path)
        return answer(200, {"acknowledged": True})

    def _api(self, sent: Sent, path: str) -> Response:
        id_ = path.removeprefix("/_connector/")
        self.connectors.append((sent.method, path))
        if sent.method == "PUT":
            if self.wants_index and not sent.json.get("index_name"):
                return answer(400, {"error": {"type": "action_request_validation_exception", "reason": "index_name"}})
            self._write(f"{CONNECTORS}/{id_}", {**sent.json, "status": "created", "made_by": "api"})
        elif sent.method == "DELETE":
            held = self.documents.get(f"{CONNECTORS}/{id_}")
            if held is None:
                return answer(404, {"error": {"type": "resource_not_found_exception"}})
            self._write(f"{CONNECTORS}/{id_}", {**held[1], "deleted": True})
            return answer(200, {"acknowledged": True})
        return answer(200, {"results": []})

    def _document(self, sent: Sent, path: str) -> Response:
        index, verb, id_ = path.removeprefix("/").split("/", 2)
        key = f"{index}/{id_}"
        held = self.documents.get(key)
        if sent.method == "GET":
            if held is None:
                return answer(404, {"found": False})
            return answer(body={"_id": id_, "_source": held[1], "_seq_no": held[0], "_primary_term": 1, "found": True})
        wanted = dict(part.split("=") for part in urlsplit(sent.target).query.split("&"))
        if (verb == "_create" and held is not None) or (
            "if_seq_no" in wanted and (held is None or str(held[0]) != wanted["if_seq_no"])
        ):
            return answer(409, {"error": {"type": "version_conflict_engine_exception"}})
        return answer(201, {"_seq_no": self._write(key, sent.json), "_primary_term": 1})

    def _write(self, key: str, source: Any) -> int:
        self.clock += 1
        self.documents[key] = self.clock, source
        return self.clock


async def nothing() -> None:
    pass


def store_on(answers: Callable[[Sent], Response]) -> ServerStore:
    client, _ = fake_client(ELASTICSEARCH, answers)
    return ServerStore(client, connectors=CONNECTORS, jobs=JOBS, state=STATE, release=nothing)


async def test_without_the_api_the_indices_are_ours() -> None:
    refusal = answer(400, {"error": {"type": "invalid_index_name_exception", "reason": "must not start with '_'"}})
    client, transport = fake_client(ELASTICSEARCH, refusal)
    assert type(await open_records(client, CONNECTORS, JOBS, STATE)) is Records
    assert [sent.target for sent in transport.sent] == ["/", "/_connector?size=1"]


async def test_opensearch_is_not_asked_for_an_api() -> None:
    client, transport = fake_client(OPENSEARCH, answer())
    assert type(await open_records(client, CONNECTORS, JOBS, STATE)) is Records
    assert [sent.target for sent in transport.sent] == ["/"]


async def test_a_serverless_project_keeps_records_in_indices_without_a_dot() -> None:
    project = {"version": {"number": "8.11.0", "build_flavor": "serverless"}}
    client, transport = fake_client(
        ELASTICSEARCH,
        lambda sent: answer(body=project) if sent.target == "/" else answer(404 if "GET" in sent.method else 200),
    )
    records = await open_records(client, CONNECTORS, JOBS, STATE)
    await records.prepare()
    assert type(records) is Records
    made = {sent.target: sent.json["settings"] for sent in transport.sent if sent.method == "PUT"}
    assert made == {f"/{name[1:]}": {"index": {"hidden": True}} for name in (CONNECTORS, JOBS, STATE)}


async def test_an_api_that_we_may_not_use_suspends() -> None:
    client, _ = fake_client(ELASTICSEARCH, answer(403, {"error": {"type": "security_exception", "reason": "no"}}))
    with pytest.raises(SuspendSync, match="privileges"):
        await open_records(client, CONNECTORS, JOBS, STATE)


async def test_connectors_are_created_by_the_api_and_then_written_whole() -> None:
    server = Imitation()
    store = store_on(server)
    given = Connector(id="a/b", service_type="directory", index_name="things", configuration={"x": {"value": 1}})
    put = await store.put_connector(given)
    assert server.connectors == [("GET", "/_connector"), ("PUT", "/_connector/a/b")]
    assert put.configuration == {"x": {"value": 1}}
    assert put.extra == {"made_by": "api"}
    assert await store.connector("a/b") == put
    with pytest.raises(ConflictError):
        await store.put_connector(given)
    changed = await store.update_connector("a/b", {"status": "connected"})
    assert (changed.status, changed.version > put.version) == ("connected", True)


async def test_an_older_api_is_told_the_index() -> None:
    server = Imitation(wants_index=True)
    put = await store_on(server).put_connector(Connector(id="one", service_type="directory", index_name="things"))
    assert (put.id, put.index_name) == ("one", "things")
    with pytest.raises(ConfigurationError, match=r'to create the connector "two".*index_name'):
        await store_on(server).put_connector(Connector(id="two", service_type="directory"))


async def test_nothing_is_created_that_is_the_servers_to_create() -> None:
    server = Imitation()
    client, transport = fake_client(ELASTICSEARCH, server)
    records = await open_records(client, CONNECTORS, JOBS, STATE)
    assert isinstance(records, ApiRecords)
    await records.prepare()
    assert not [sent for sent in transport.sent if sent.target.startswith((f"/{CONNECTORS}", f"/{JOBS}"))]
    await records.create_connector("one", {"name": "n"})
    assert all(
        sent.headers.get("x-elastic-product-origin") == ORIGIN["x-elastic-product-origin"]
        for sent in transport.sent
        if sent.target.startswith(f"/{CONNECTORS}/")
    )


async def test_a_connector_is_removed_by_the_api() -> None:
    server = Imitation()
    client, _ = fake_client(ELASTICSEARCH, server)
    records = await open_records(client, CONNECTORS, JOBS, STATE)
    await records.create_connector("one", {"name": "n"})
    await records.remove_connector("one")
    await records.remove_connector("one")
    assert not server.documents
    assert orjson.dumps(server.connectors[-1]) == b'["DELETE","/_connector/one"]'
