"""A MongoDB server for tests: one that an address names, one in a container, or a stand-in started here with Java.

`CONNECTORS_TEST_MONGODB_URL` (`mongodb://host:port`) names a server to use: a replica set, for tests, without
passwords and with `enableTestCommands`. Else an engine for containers starts one. Else there is mongo-java-server, an
in-memory server that speaks MongoDB's protocol, with what `MongoNode.java` adds to it; Maven fetches it once.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from tests.servers.docker import container_name, engine_answers
from tests.servers.fetch import _PLUGIN, _locked, _mvn, _pom, cache_folder
from tests.servers.java import MissingError, _homes, _major, maven_obstacle
from tests.servers.process import Keep, Kept
from tests.servers.search import ServerError

__all__ = ["Cable", "MongoServer", "mongo_obstacle", "mongo_or_skip"]

_ADDRESS: Final = "CONNECTORS_TEST_MONGODB_URL"
_IMAGE: Final = "mongo:7"
_VERSION: Final = "1.47.0"
_ARTEFACTS: Final = (f"de.bwaldvogel:mongo-java-server:{_VERSION}", "org.slf4j:slf4j-nop:2.0.17")
_PATIENCE: Final = 120.0  # seconds; pulling an image is part of it
_LOWEST_JAVA: Final = 17


def mongo_obstacle() -> str | None:
    """Says why no server can run here, as a sentence for people; None when one can."""
    if os.environ.get(_ADDRESS) or engine_answers():
        return None
    if _java() is None:
        return (
            f"MongoDB's stand-in needs a JDK, {_LOWEST_JAVA} or later: install one, name its folder in "
            f"CONNECTORS_TEST_JAVA_HOME, or name a server in {_ADDRESS}."
        )
    return None if _home().is_dir() else maven_obstacle()


def mongo_or_skip() -> MongoServer:
    """Returns a started server; skips the test where none can run, and fails it there in continuous integration."""
    try:
        return MongoServer().start()
    except MissingError as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))
    except ServerError as problem:
        pytest.fail(str(problem), pytrace=False)


class MongoServer:
    """One server: `with MongoServer() as server:`, or `start()` and `stop()`.

    It listens on 127.0.0.1 only, and is gone with its data after `stop()` or when this process dies. A server that the
    environment names is used as it is.

    Attributes:
        url: its address.
        client: the driver's ordinary client, for what a test does beside the source.
    """

    client: MongoClient[dict[str, Any]]

    def __init__(self) -> None:
        self.url = ""
        self._kept: Kept | None = None
        self._folder: Path | None = None

    @property
    def is_stand_in(self) -> bool:
        """True for mongo-java-server, which has no authentication, no views and no TLS."""
        return self._folder is not None and not engine_answers()

    def start(self) -> Self:
        """Returns when the server takes writes; raises ServerError, MissingError."""
        if address := os.environ.get(_ADDRESS):
            self.url = address
            self.client = MongoClient(address, serverSelectionTimeoutMS=10_000)
            return self
        if (reason := mongo_obstacle()) is not None:
            raise MissingError(reason)
        port = _free_port()
        self.url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        self._folder = Path(tempfile.mkdtemp(prefix="connectors-mongodb-"))
        try:
            self._kept = Kept(_container(self._folder, port) if engine_answers() else _native(self._folder, port))
            self.client = MongoClient(self.url, serverSelectionTimeoutMS=500)
            self._await_ready(self._kept)
        except BaseException:  # an interrupted start, too, must leave nothing behind
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ends the server and deletes its data; may be called twice."""
        if "client" in self.__dict__:
            self.client.close()
            del self.client
        if self._kept is not None:
            self._kept.stop()
            self._kept = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

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

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _await_ready(self, kept: Kept) -> None:
        until = time.monotonic() + _PATIENCE
        while not self._ready():
            if kept.ended or time.monotonic() > until:
                raise ServerError(f"MongoDB did not start. It printed:\n{kept.log()}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        try:
            hello = self.client.admin.command("hello")
            if "setName" not in hello and not self.is_stand_in:
                members = [{"_id": 0, "host": "127.0.0.1:27017"}]
                self.client.admin.command("replSetInitiate", {"_id": "rs0", "members": members})
                return False
        except OperationFailure as error:
            if error.code == 23:  # it is initiated already
                return False
            raise
        except PyMongoError:
            return False
        return bool(hello["isWritablePrimary"])


class Cable:
    """What a client's connections go through, so that they can be counted and cut: `async with Cable(server.url)`."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname or "127.0.0.1", parts.port or 27017
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

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


def _container(folder: Path, port: int) -> Keep:
    name = container_name()
    return Keep(
        command=[
            *("docker", "run", "--rm", "--name", name, "--publish", f"127.0.0.1:{port}:27017", _IMAGE),
            *("--replSet", "rs0", "--bind_ip_all", "--setParameter", "enableTestCommands=1"),
        ],
        folder=str(folder),
        log=str(folder / "server.log"),
        last=["docker", "rm", "--force", "--volumes", name],
    )


def _native(folder: Path, port: int) -> Keep:
    java, home = _java(), _software()
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
        command=[str(java / "bin" / "java"), *options, "-cp", f"{classes}:{path}", "MongoNode", str(port)],
        folder=str(folder),
        log=str(folder / "server.log"),
    )


def _java() -> Path | None:
    """Returns the home of the lowest JDK that is high enough."""
    homes = [home for home in _homes() if (home / "bin" / "javac").exists() and (_major(home) or 0) >= _LOWEST_JAVA]
    return min(homes, key=lambda home: _major(home) or 0, default=None)


def _home() -> Path:
    return cache_folder() / f"mongo-java-server-{_VERSION}"


def _software() -> Path:
    """Returns the folder with the server's modules, which are fetched first when they are not there."""
    home = _home()
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.parent / f".{home.name}.lock"):
        if not home.is_dir():
            work = Path(tempfile.mkdtemp(prefix=f".{home.name}-", dir=home.parent))
            try:
                pom = work / "pom.xml"
                pom.write_text(_pom(_ARTEFACTS), encoding="utf-8")
                copy = f"{_PLUGIN}:copy-dependencies"
                folder = f"-DoutputDirectory={work / 'home' / 'lib'}"
                _mvn(work, "--file", str(pom), copy, "-DincludeScope=runtime", folder)
                (work / "home").rename(home)
            finally:
                shutil.rmtree(work)
    return home


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
