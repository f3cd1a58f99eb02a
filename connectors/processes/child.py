"""Processes that are started afresh: a fork would take over threads, locks and connections in whatever state they are.

A child is joined to its parent by a socket. Its end tells either of the end of the other, however that came about.
What a child is given, secrets too, travels through a pipe: neither its command line nor its environment shows it.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Concatenate, Final, ParamSpec

__all__ = ["Child", "end_with_parent", "start_child"]

P = ParamSpec("P")

_logger = logging.getLogger("connectors.processes")

#: Seconds that a process may take to end after it was killed.
_REAPING: Final = 10.0


class Child:
    """A process that was started.

    Attributes:
        end: our end of the socket.
    """

    def __init__(self, process: SpawnProcess, end: socket.socket) -> None:
        self._process = process
        self.end = end

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    async def ended(self, seconds: float) -> bool:
        """Waits for its end, so long at most; returns whether it came."""
        await asyncio.to_thread(self._process.join, seconds)
        return self._process.exitcode is not None

    async def kill(self) -> None:
        """Ends it at once, whatever it does."""
        self._process.kill()
        await self.ended(_REAPING)

    @property
    def how_it_ended(self) -> str:
        """How it ended, in words."""
        code = self._process.exitcode
        if code is None:
            return "it does not end"
        if code >= 0:
            return f"it ended with {code}"
        try:
            return f"ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"ended by signal {-code}"


def start_child(
    target: Callable[Concatenate[socket.socket, P], None], name: str, *args: P.args, **kwargs: P.kwargs
) -> Child:
    """Starts a process that runs `target(socket, *args)`; blocks for some milliseconds, so call it in a thread.

    `target` is a function of a module, and everything pickles. The process does not listen to Ctrl-C, which a terminal
    sends to all processes of a program: its parent decides what becomes of it.
    """
    ours, theirs = socket.socketpair()
    try:
        process = multiprocessing.get_context("spawn").Process(
            target=_run, name=name, args=(target, theirs, *args), kwargs=kwargs
        )
        resource_tracker.ensure_running()  # which listens to SIGINT again when it starts
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(process, ours)


def _run(
    target: Callable[Concatenate[socket.socket, P], None], end: socket.socket, *args: P.args, **kwargs: P.kwargs
) -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        target(end, *args, **kwargs)
    except Exception:  # told as everything else is, without secrets
        _logger.exception("this process ends")
        sys.exit(1)


def end_with_parent(grace: float = 0.0) -> None:
    """Makes this process end when its parent has, after `grace` seconds in which it may end in order. Needs no loop
    that still turns."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent.sentinel, grace), name="parent", daemon=True).start()


def _watch(sentinel: int, grace: float) -> None:
    wait([sentinel])
    time.sleep(grace)
    os._exit(1)
