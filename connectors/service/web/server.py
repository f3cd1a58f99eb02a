"""The page's server: uvicorn in the daemon's own event loop, bound before anything is promised."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from connectors.config import WebConfig
from connectors.errors import ConfigurationError
from connectors.runtime import Runtime
from connectors.service.crew import WorkerSight
from connectors.service.metrics import Metrics
from connectors.service.operations import Operations
from connectors.service.preview import Previewer
from connectors.service.web.trials import Trials

if TYPE_CHECKING:
    from uvicorn import Server

__all__ = ["WebServer"]

#: Seconds that requests under way have to end when the daemon stops.
_GRACE: Final = 2
_BACKLOG: Final = 128
_MAX_CONNECTIONS: Final = 200
_PROBE_TIMEOUT: Final = 1.0
_HERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a visitor's address for each wildcard


class WebServer:
    """Serves the page.

    Args:
        previewer: tries sync rules, when somebody asks for it.
        config_error: what is wrong with the edited configuration; None when nothing is.
        ready: what keeps the daemon from its work, for `/health`; None when nothing does.
        workers: who runs syncs; shown where there are several.

    ::

        server = WebServer(config.web, operations, metrics, runtime=runtime, previewer=…)
        print(await server.start())
        try:
            await daemon.run(stop, serve=server.serve)
        finally:
            await server.close()
    """

    def __init__(
        self,
        config: WebConfig,
        operations: Operations,
        metrics: Metrics,
        *,
        runtime: Runtime,
        previewer: Previewer,
        config_error: Callable[[], str | None] = lambda: None,
        ready: Callable[[], str | None] = lambda: None,
        workers: Callable[[], Sequence[WorkerSight]] = list,
    ) -> None:
        self._config = config
        self._operations = operations
        self._metrics = metrics
        self._runtime = runtime
        self._config_error = config_error
        self._ready = ready
        self._workers = workers
        self._trials = Trials(previewer, runtime)
        self._socket: socket.socket | None = None
        self._server: Server | None = None

    async def start(self) -> str:
        """Takes the port, from then on connections wait to be served, and returns the page's address.

        Raises:
            ConfigurationError: the port is taken, or this machine has no such address.
        """
        listener = await self._bind()
        try:
            self._server = await self._runtime.in_thread(self._build)
        except BaseException:
            listener.close()
            raise
        self._socket = listener
        host, port = listener.getsockname()[:2]
        host = _HERE.get(host, host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"

    async def serve(self) -> None:
        """Serves until it is cancelled; requests under way then have two seconds to end."""
        if self._server is None or self._socket is None:
            raise RuntimeError("start() comes before serve()")
        server = self._server
        # uvicorn ends in order when it is asked to, not when it is cancelled.
        serving = asyncio.ensure_future(server.serve(sockets=[self._socket]))
        try:
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await self._trials.close()
            await serving

    async def close(self) -> None:
        """Gives the port back; may be called twice, and without `serve`."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # The parts

    def _build(self) -> Server:
        """Blocks on the disk, and on the token's key."""
        import uvicorn

        from connectors.service.web.application import build_app

        class QuietServer(uvicorn.Server):
            """Leaves the signals to the daemon."""

            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        app = build_app(
            self._config,
            self._operations,
            self._metrics,
            runtime=self._runtime,
            config_error=self._config_error,
            ready=self._ready,
            trials=self._trials,
            workers=self._workers,
        )
        config = uvicorn.Config(
            app,
            access_log=False,
            h11_max_incomplete_event_size=32_768,
            http="h11",
            lifespan="off",
            limit_concurrency=_MAX_CONNECTIONS,
            log_config=None,
            proxy_headers=False,  # a visitor could claim any address or scheme
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            ws="none",
        )
        logging.getLogger("uvicorn.error").addFilter(_is_no_stop)
        config.load()
        return QuietServer(config)

    async def _bind(self) -> socket.socket:
        host, port = self._config.host.strip("[]"), self._config.port
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(
                f'web.host: the name "{host}" is not known on this machine ({error}); write 127.0.0.1, or an address '
                "that this machine has",
                field="web.host",
            ) from error
        # IPv4 first: browsers that find nothing at ::1 try 127.0.0.1, and so do people.
        family, kind, protocol, _, address = min(found, key=lambda item: item[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            raise await self._bind_error(host, port, error) from error
        return listener

    async def _bind_error(self, host: str, port: int, error: OSError) -> ConfigurationError:
        if error.errno == errno.EADDRINUSE:
            who = "another connectors daemon" if await _is_connectors(host, port) else "another program"
            return ConfigurationError(
                f"web.port: port {port} on {host} is in use by {who}; stop it, or set web.port in config.yml to "
                "another number (0 takes a free one)",
                field="web.port",
            )
        if error.errno == errno.EACCES:
            return ConfigurationError(
                f"web.port: this user may not open port {port} on {host}; set web.port to a number above 1023",
                field="web.port",
            )
        return ConfigurationError(
            f"web.host: cannot listen on {host}, port {port}: {error.strerror or error}; write 127.0.0.1, or an "
            "address that this machine has",
            field="web.host",
        )


def _is_no_stop(record: logging.LogRecord) -> bool:
    """Keeps back the traceback of a request that the end of the server cut off: a visitor who is slow is no fault."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


async def _is_connectors(host: str, port: int) -> bool:
    """Asks who holds the port, so that a second start of the daemon is told from a foreign program."""
    host = _HERE.get(host, host)
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
                await reader.readuntil(b'"service":"connectors"')
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, EOFError, asyncio.LimitOverrunError):  # TimeoutError is one: it does not speak as we do
        return False
    return True
