"""What a further worker process of a daemon runs; see `service.workers`."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from connectors import logger

if TYPE_CHECKING:
    from connectors.config import Config
    from connectors.processes import Child

__all__ = ["launcher"]

#: Seconds beyond the time to drain that a worker may live after the first process was killed.
_GRACE: Final = 15.0


def launcher(config: Config, path: Path, level: int) -> Callable[[int], Child]:
    """Returns what starts the worker of a number.

    Args:
        config: what it begins with, also where the file was broken since; it follows the file itself.
        level: least severe level of its log.
    """
    from connectors.processes import start_child

    return lambda number: start_child(_work, f"worker {number}", number, config, path.absolute(), level)


def _work(end: socket.socket, number: int, config: Config, path: Path, level: int) -> None:
    from connectors.processes import end_with_parent

    logger.configure(level, config.logging.format, config.secrets, worker=number)
    end_with_parent(config.service.drain_timeout + _GRACE)
    asyncio.run(_serve(end, number, config, path))


async def _serve(end: socket.socket, number: int, config: Config, path: Path) -> None:
    from connectors.app import config_file, open_application
    from connectors.cli.presence import enrolled
    from connectors.processes import Channel

    stop = asyncio.Event()
    # A service manager tells all processes of the daemon; whether to end at once is for the first one to say.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    channel = await Channel.open(end)
    try:
        async with open_application(config, number=number, of=config.service.workers) as application:
            with enrolled(config.service.data_dir, application.app.worker_name, number):
                await application.member(config_file(path), channel).run(stop)
    finally:
        channel.close()
