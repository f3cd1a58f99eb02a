"""Ctrl-C and SIGTERM: the first one asks to stop, the second one stops at once. SIGHUP: the terminal is gone."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from connectors.cli.exits import Exit

__all__ = ["stop_on_signals"]

_logger = logging.getLogger("connectors.daemon")

_SHOW_CURSOR: Final = "\x1b[?25h"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(*, follows_file: bool = False) -> Iterator[asyncio.Event]:
    """Gives an event that is set by the first signal; the second one ends the process.

    That is safe at any instant, for what is acknowledged is durable; only the lease has to run out.

    Args:
        follows_file: who sends SIGHUP to a process without a terminal wants the configuration to be read again, and
            this one does so by itself. Otherwise SIGHUP asks to stop, but under `nohup`.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def receive() -> None:
        if stop.is_set():
            _end_now()
        stop.set()

    def hang_up() -> None:
        if follows_file and not on_terminal:
            _logger.info("SIGHUP: there is nothing to do, for edits of the configuration are taken up by themselves")
        else:
            stop.set()

    on_terminal = sys.stderr.isatty()  # afterwards it is none any more
    handlers = dict.fromkeys(_SIGNALS, receive)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handlers[signal.SIGHUP] = hang_up
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield stop
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _end_now() -> None:
    for child in multiprocessing.active_children():
        child.kill()
    if sys.stderr.isatty():
        print(_SHOW_CURSOR, end="", file=sys.stderr)  # which a progress bar hides
    print("stopped at once; the next start goes on from what is stored", file=sys.stderr, flush=True)
    os._exit(Exit.INTERRUPTED)
