"""A MongoDB server for tests: one that an address names, one in a container, or a stand-in started here with Java.

`CONNECTORS_TEST_MONGODB_URL` (`mongodb://host:port`) names a server to use: a replica set, for tests, without
passwords and with `enableTestCommands`. Else an engine for containers starts one. Else there is mongo-java-server, an
in-memory server that speaks MongoDB's protocol, with what `MongoNode.java` adds to it; Maven fetches it once.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.servers.database import DatabaseServer, contained
from tests.servers.fetch import cache_folder, modules, once
from tests.servers.java import lowest_jdk, maven_obstacle
from tests.servers.process import Keep
from tests.servers.search import ServerError

__all__ = ["Cable", "MongoServer"]

_VERSION: Final = "1.47.0"
_ARTEFACTS: Final = (f"de.bwaldvogel:mongo-java-server:{_VERSION}", "org.slf4j:slf4j-nop:2.0.17")
_LOWEST_JAVA: Final = 17


class MongoServer(DatabaseServer):
    """MongoDB, or its stand-in; see `DatabaseServer`.

    Attributes:
        url: its address.
        client: the driver's ordinary client, for what a test does beside the source.
    """

    title = "MongoDB"
    address = "CONNECTORS_TEST_MONGODB_URL"
    image = "mongo:7"
    container_port = 27017

    url = ""
    client: MongoClient[dict[str, Any]]

    @classmethod
    def native_obstacle(cls) -> str | None:
        """Says why none can be started here."""
        if _java() is None:
            return (
                f"MongoDB's stand-in needs a JDK, {_LOWEST_JAVA} or later: install one, name its folder in "
                f"CONNECTORS_TEST_JAVA_HOME, or name a server in {cls.address}."
            )
        return None if _home().is_dir() else maven_obstacle()

    @property
    def is_stand_in(self) -> bool:
        """True for mongo-java-server, which has no authentication, no views and no TLS."""
        return self.is_ours

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice."""
        if "client" in self.__dict__:
            self.client.close()
            del self.client
        super().stop()

    @contextmanager
    def failing(self, *commands: str, mode: Mapping[str, int] | str = "alwaysOn", **data: Any) -> Iterator[None]:
        """Makes commands fail within the block: `errorCode=13`, or `closeConnection=True`.

        `mode` is `{"times": n}`, or `{"skip": n}` for all but the first n.
        """
        admin = self.client.admin
        admin.command("configureFailPoint", "failCommand", mode=mode, data={"failCommands": list(commands), **data})
        try:
            yield
        finally:
            admin.command("configureFailPoint", "failCommand", mode="off")

    def _use(self, address: SplitResult) -> None:
        self.url = address.geturl()
        self.client = MongoClient(self.url, serverSelectionTimeoutMS=10_000)

    def _answers(self) -> bool:
        if "client" not in self.__dict__:
            self.url = f"mongodb://{self.host}:{self.port}/?directConnection=true"
            self.client = MongoClient(self.url, serverSelectionTimeoutMS=500)
        try:
            hello = self.client.admin.command("hello")
            if "setName" not in hello and not self.is_stand_in:
                members = [{"_id": 0, "host": f"127.0.0.1:{self.container_port}"}]
                self.client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                return False
        except OperationFailure as error:
            if error.code == 23:  # it is initiated already
                return False
            raise
        except PyMongoError:
            return False
        return bool(hello["isWritablePrimary"])

    def _container(self, folder: Path, run: list[str]) -> Keep:
        options = ["--replSet", "rs0", "--bind_ip_all", "--setParameter", "enableTestCommands=1"]
        return contained(folder, [*run, self.image, *options])

    def _native(self, folder: Path) -> Keep:
        java, home = _java(), once(_home(), lambda work: modules(work, _ARTEFACTS))
        assert java is not None
        classes = folder / "classes"
        path = str(home / "lib" / "*")
        source = str(Path(__file__).with_name("MongoNode.java"))
        command = [str(java / "bin" / "javac"), "-cp", path, "-d", str(classes), source]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerError(f"MongoNode.java was not compiled:\n{done.stderr}")
        heap = os.environ.get("CONNECTORS_TEST_HEAP", "512m")
        options = [f"-Xmx{heap}", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
        return Keep(
            command=[str(java / "bin" / "java"), *options, "-cp", f"{classes}:{path}", "MongoNode", str(self.port)],
            folder=str(folder),
            log=str(folder / "server.log"),
        )


class Cable:
    """What a client's connections go through, so that they can be counted and cut: `async with Cable(server.url)`.

    Attributes:
        refuses: whether new connections are hung up on, as a server that is down would.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "127.0.0.1", parts.port or 27017
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.refuses = False

    @property
    def url(self) -> str:
        """Where to connect."""
        assert self._server is not None, "it was not entered"
        return f"mongodb://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/?directConnection=true"

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._writers)

    def cut(self) -> None:
        """Breaks all of them; new ones work."""
        for writer in self._writers.values():
            writer.transport.abort()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._writers, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._writers[task] = writer
        try:
            with suppress(OSError):
                onward_reader, onward = await asyncio.open_connection(*self._upstream)
                try:
                    await asyncio.gather(_pipe(reader, onward), _pipe(onward_reader, writer))
                finally:
                    onward.transport.abort()
        finally:
            del self._writers[task]
            writer.transport.abort()


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Passes bytes on until either side hangs up, and then hangs up on the other."""
    with suppress(OSError):
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()


def _java() -> Path | None:
    return lowest_jdk(_LOWEST_JAVA)


def _home() -> Path:
    return cache_folder() / f"mongo-java-server-{_VERSION}"
