"""An event loop whose clock jumps: when all wait, it is at once as late as the next timer wants.

Scenarios of hours run in milliseconds, the same each time. When all wait and no timer is set, nothing will ever happen
again: that is reported as `Stuck`, so that a deadlock is a quick failure.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, ParamSpec, TypeVar

from connectors.runtime import Runtime

__all__ = ["InlineRuntime", "Stuck", "run_virtual"]

P = ParamSpec("P")
T = TypeVar("T")

#: 2026-01-01, so that the wall clock is a plausible one.
_EPOCH = 1_767_225_600.0


class Stuck(BaseException):
    """Everything waits, and nothing will wake it."""


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if timeout is None:
            raise Stuck("every task waits, and no timer is set")
        self.now += timeout + 1e-9  # a little more, since timers are compared as floats
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class InlineRuntime(Runtime):
    """The wall clock follows the loop's; blocking calls run on the spot, for no time passes while they do."""

    __slots__ = ()

    def __init__(self, seed: int = 0) -> None:
        super().__init__(wall=lambda: _EPOCH + asyncio.get_running_loop().time(), random=Random(seed))

    async def in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls the function after giving the loop back once, as a real thread would."""
        await asyncio.sleep(0)
        return function(*args, **kwargs)


def run_virtual(scenario: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine on a loop of its own with a jumping clock."""
    with asyncio.Runner(loop_factory=_VirtualLoop) as runner:
        return runner.run(scenario)
