"""A search server for tests: one that an address names, one in a container, or one started here with Java."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import httpx

from tests.servers.docker import container_name, container_port, container_server, engine_answers
from tests.servers.flavours import FLAVOURS, Flavour
from tests.servers.native import native_obstacle, native_port, native_server
from tests.servers.process import Keep, Kept

__all__ = ["Answer", "SearchServer", "ServerError", "available"]

_PATIENCE: Final = 180.0  # seconds that a server may take to start; pulling an image is part of it
_HEALTHY: Final = "/_cluster/health?wait_for_status=yellow&timeout=2s"
#: A server makes its index of users just after it took the first credentials, and refuses right ones meanwhile.
_SECURED: Final = "/_cluster/health/.security?wait_for_active_shards=1&timeout=2s"


class ServerError(RuntimeError):
    """A server did not start; the message ends with what it printed."""


class Answer(NamedTuple):
    """What a server answered; `body` is parsed when it is JSON."""

    status: int
    body: Any


def available(flavour: str) -> str | None:
    """Says why the server cannot run here, as a sentence for people; None when it can."""
    known = FLAVOURS[flavour]
    if _address(known, secured=False) or engine_answers():
        return None
    return native_obstacle(known)


class SearchServer:
    """One server: `with SearchServer("es8") as server:`, or `async with`, or `start()` and `stop()`.

    It is a node with an index folder of its own, listens on 127.0.0.1 only, and is gone with its data after `stop()`
    or when this process dies. A server that the environment names is used as it is, and left as it is; that is so
    only if no settings of its own are asked for.

    Args:
        flavour: `es8`, `es9`, `os2` or `os3`.
        password: turns security on, with this password for the flavour's `administrator`; six characters or more.
        settings: more settings of the node.
        port: 0 is a free one.
    """

    def __init__(
        self, flavour: str, *, password: str | None = None, settings: Mapping[str, str] | None = None, port: int = 0
    ) -> None:
        self.flavour: Final[Flavour] = FLAVOURS[flavour]
        if password is not None and self.flavour.administrator is None:
            raise ValueError(f"{self.flavour.title} has no security module here and takes no password.")
        self.user: str | None = None if password is None else self.flavour.administrator
        self.password = password
        self._settings = dict(settings or {})
        self._port = port
        self._url: str | None = None
        self._kept: Kept | None = None

    @property
    def url(self) -> str:
        """Where it answers, without a slash at the end and without credentials."""
        if self._url is None:
            raise ServerError(f"{self.flavour.title} was not started.")
        return self._url

    def start(self) -> Self:
        """Returns when the server is ready for requests; raises ServerError, MissingError."""
        address = None if self._settings else _address(self.flavour, secured=self.password is not None)
        if address is not None:
            self._use(address)
            return self
        folder = Path(tempfile.mkdtemp(prefix=f"connectors-{self.flavour.name}-"))
        try:
            keep, port = self._prepare(folder)
            self._kept = Kept(keep)
            self._await_ready(self._kept, port)
        except BaseException:  # an interrupted start, too, must leave nothing behind
            self.stop()
            shutil.rmtree(folder, ignore_errors=True)  # the keeper did it already, if it came to that
            raise
        return self

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice. Nothing happens to one that an address names."""
        self._url = None
        if self._kept is not None:
            self._kept.stop()
            self._kept = None

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Sends one request, with credentials, and returns the answer, whatever its status.

        `body` is sent as JSON; bytes are sent as they are, as a bulk body. Raises httpx.TransportError when there is
        no answer.
        """
        given: dict[str, Any] = {}
        if isinstance(body, bytes):
            given = {"content": body, "headers": {"Content-Type": "application/x-ndjson"}}
        elif body is not None:
            given = {"json": body}
        credentials = None if self.user is None or self.password is None else (self.user, self.password)
        answer = httpx.request(method, self.url + path, auth=credentials, timeout=60, trust_env=False, **given)
        is_json = "json" in answer.headers.get("Content-Type", "") and answer.content
        return Answer(answer.status_code, answer.json() if is_json else answer.text)

    async def arequest(self, method: str, path: str, body: Any = None) -> Answer:
        """`request`, in a thread."""
        return await asyncio.to_thread(self.request, method, path, body)

    def delete_indices(self, *patterns: str) -> None:
        """Deletes the indices and data streams whose names match, hidden ones included, and leaves all others."""
        for pattern in patterns:
            answer = self.request("GET", f"/_resolve/index/{pattern}?expand_wildcards=all")
            found = answer.body if answer.status == 200 else {"indices": [], "data_streams": []}
            streams = [f"/_data_stream/{stream['name']}" for stream in found["data_streams"]]
            indices = [f"/{index['name']}" for index in found["indices"] if "data_stream" not in index]
            for path in streams + indices:
                deleted = self.request("DELETE", path)
                if deleted.status not in {200, 404}:
                    raise ServerError(f"{path} was not deleted: {deleted.body}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    def _use(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.username is not None:
            self.user, self.password = unquote(parts.username), unquote(parts.password or "")
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        if not self._ready():
            raise ServerError(f"No {self.flavour.title} answers at {self._url}, which the environment names.")

    def _prepare(self, folder: Path) -> tuple[Keep, Callable[[], int | None]]:
        """Returns what to run, and how to learn the port that it listens on."""
        options: dict[str, Any] = {
            "password": self.password,
            "settings": self._settings,
            "heap": os.environ.get("CONNECTORS_TEST_HEAP", "512m"),
            "port": self._port,
        }
        if engine_answers():
            name = container_name()
            return container_server(self.flavour, folder, name, **options), lambda: container_port(name)
        return native_server(self.flavour, folder, **options), lambda: native_port(folder)

    def _await_ready(self, kept: Kept, port: Callable[[], int | None]) -> None:
        until = time.monotonic() + _PATIENCE
        while not self._ready():
            if kept.ended or time.monotonic() > until:
                what = "ended while it started" if kept.ended else f"was not ready after {_PATIENCE:g} s"
                raise ServerError(f"{self.flavour.title} {what}. It printed:\n{kept.log()}")
            time.sleep(0.1)
            if self._url is None and (found := port()) is not None:
                self._url = f"http://127.0.0.1:{found}"

    def _ready(self) -> bool:
        if self._url is None:
            return False
        try:
            secured = self.password is not None and self.flavour.product == "elasticsearch"
            return self.request("GET", _SECURED if secured else _HEALTHY).status == 200
        except httpx.TransportError:
            return False


def _address(flavour: Flavour, *, secured: bool) -> str | None:
    return os.environ.get(f"CONNECTORS_TEST_{flavour.name.upper()}_{'SECURED_' if secured else ''}URL")
