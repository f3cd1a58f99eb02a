"""Ctrl-C and SIGTERM: the first one asks to stop, the second one stops at once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from connectors.cli.exits import Exit

__all__ = ["stop_on_signals"]

_SHOW_CURSOR: Final = "\x1b[?25h"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals() -> Iterator[asyncio.Event]:
    """Gives an event that is set by the first signal; the second one ends the process.

    That is safe at any instant, for what is acknowledged is durable; only the lease has to run out.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def receive() -> None:
        if stop.is_set():
            _end_now()
        stop.set()

    for number in _SIGNALS:
        loop.add_signal_handler(number, receive)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def _end_now() -> None:
    for child in multiprocessing.active_children():
        child.kill()
    if sys.stderr.isatty():
        print(_SHOW_CURSOR, end="", file=sys.stderr)  # which a progress bar hides
    print("stopped at once; the next start goes on from what is stored", file=sys.stderr, flush=True)
    os._exit(Exit.INTERRUPTED)
