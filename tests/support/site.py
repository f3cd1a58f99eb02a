"""A page on backends in memory, with what tests of it look at: connectors, jobs, documents whose words are marked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
from starlette.types import ASGIApp

from connectors.app import BUILT_IN_SOURCES
from connectors.backends.ports import DeadLetter, Destination, Hit, IndexHandle, IndexSpec, Operation, SearchPage, Store
from connectors.byoc import Connector, JobType, SyncJob, TriggerMethod
from connectors.config import Config, WebConfig
from connectors.runtime import Runtime
from connectors.service.catalog import SourceCatalog
from connectors.service.metrics import Metrics
from connectors.service.operations import Operations
from connectors.service.preview import Previewer
from connectors.service.web import WebServer, build_app
from connectors.service.web.trials import Trials
from connectors.sync.encode import content_hash, id_digest
from connectors.testing.memory import MemoryDestination, MemoryStore

__all__ = ["NOW", "TOKEN", "MarkingDestination", "Site"]

NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
TOKEN = "correct-horse-battery"


class MarkingDestination(MemoryDestination):
    """Marks the query's words in title, path and body, as the real backends do.

    Attributes:
        asked: query, limit and offset of each search.
        failure: raised by each search when it is set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, int, int]] = []
        self.failure: Exception | None = None

    async def search(self, index: str, query: str, *, limit: int = 10, offset: int = 0) -> SearchPage:
        self.asked.append((query, limit, offset))
        if self.failure is not None:
            raise self.failure
        page = await super().search(index, query, limit=limit, offset=offset)
        words = re.compile("|".join(map(re.escape, query.split())), re.IGNORECASE)
        return replace(page, hits=[_mark(hit, words) for hit in page.hits])


def _mark(hit: Hit, words: re.Pattern[str]) -> Hit:
    texts = {name: str(hit.source.get(name, "")) for name in ("title", "path", "body")}
    return replace(hit, highlights={name: (words.sub("\x02\\g<0>\x03", text),) for name, text in texts.items()})


class Site:
    """The page, and what stands behind it: backends in memory, or those that are given.

    Attributes:
        clock: seconds since the Unix epoch.
        config: what previews go by.
        seconds: that a preview may take.
        marking: the destination in memory.
        config_error, unready: what the page is told of the daemon.
    """

    def __init__(self, store: Store | None = None, destination: Destination | None = None) -> None:
        self.clock = NOW.timestamp()
        self.runtime = Runtime(wall=lambda: self.clock)
        self.store = store or MemoryStore()
        self.marking = MarkingDestination()
        self.destination = destination or self.marking
        self.operations = Operations(self.store, self.destination, self.runtime, "tester")
        self.metrics = Metrics()
        self.catalog = SourceCatalog(BUILT_IN_SOURCES)
        self.config = Config()
        self.seconds = 60.0
        self.config_error: str | None = None
        self.unready: str | None = None

    def app(self, **config: Any) -> ASGIApp:
        """Returns the application on a configuration of `web:`."""
        self.trials = Trials(self.previewer(), self.runtime, seconds=self.seconds)
        return build_app(WebConfig(**config), self.operations, self.metrics, trials=self.trials, **self._options())

    def previewer(self) -> Previewer:
        """Returns what previews sync rules."""
        return Previewer(self.catalog, self.store, self.destination, self.runtime, lambda: self.config)

    def client(self, **config: Any) -> httpx.AsyncClient:
        """Returns a client that talks to the application, as a browser on this machine would."""
        transport = httpx.ASGITransport(self.app(**config))
        return httpx.AsyncClient(
            transport=transport, base_url="http://127.0.0.1:8321", headers={"Accept": "text/html,*/*;q=0.8"}
        )

    def server(self, **config: Any) -> WebServer:
        """Returns a server that listens."""
        settings = WebConfig(**{"port": 0, **config})
        return WebServer(settings, self.operations, self.metrics, previewer=self.previewer(), **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "config_error": lambda: self.config_error,
            "ready": lambda: self.unready,
        }

    async def connector(self, connector_id: str = "handbook", **fields: Any) -> Connector:
        """Creates a connector that syncs every 15 minutes."""
        return await self.store.put_connector(
            Connector.from_record(
                connector_id,
                {
                    "name": connector_id.title(),
                    "service_type": "directory",
                    "index_name": "docs",
                    "status": "configured",
                    "scheduling": {"full": {"enabled": True, "interval": "every 15m"}, "timezone": "UTC"},
                    "managed_by": "config.yml",
                    **fields,
                },
            )
        )

    async def documents(
        self, *documents: Mapping[str, Any], connector_id: str = "handbook", index: str = "docs"
    ) -> None:
        """Indexes documents; each has an `_id`."""
        info = await self.destination.prepare(IndexSpec(index))
        handle = IndexHandle(index, info.uuid, connector_id, "fingerprint")
        operations = []
        for document in documents:
            body = orjson.dumps({key: value for key, value in document.items() if key != "_id"})
            operations.append(Operation(document["_id"], id_digest(document["_id"]), content_hash(body), 1, body))
        result = await self.destination.write(handle, operations)
        assert not result.failures

    async def job(self, connector_id: str = "handbook", *, status: str = "completed", **fields: Any) -> SyncJob:
        """Creates a job that started a minute ago, and took ten seconds if it ended."""
        connector = await self.store.connector(connector_id)
        began = self.runtime.now() - timedelta(minutes=1)
        job = await self.store.create_job(connector, JobType.FULL, TriggerMethod.SCHEDULED, now=began)
        if status == "pending":
            return job
        ended = began + timedelta(seconds=10)
        changes: dict[str, Any] = {"status": status, "started_at": began, "last_seen": ended, **fields}
        if status in {"completed", "error"}:
            changes.setdefault("completed_at", ended)
        return await self.store.update_job(job.id, changes, statuses=["pending"])

    async def dead_letter(
        self,
        document_id: str,
        reason: str,
        connector_id: str = "handbook",
        *,
        document: Mapping[str, Any] | None = None,
        version: int = 1,
    ) -> None:
        """Keeps a document as a dead letter; one that comes with its content can be sent again."""
        now = self.runtime.now()
        letter = DeadLetter(connector_id, document_id, "index", reason, "job-1", now)
        if document is not None:
            body = orjson.dumps(document)
            letter = replace(letter, body=body, version=version, content_hash=content_hash(body), fingerprint="f")
        await self.store.add_dead_letters([letter])
