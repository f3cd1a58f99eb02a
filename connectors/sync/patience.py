"""How long a passing fault is borne: tries again with exponential back-off and jitter, until patience ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from connectors.errors import RetryableError, SuspendSync, describe
from connectors.runtime import Runtime
from connectors.utils import Backoff, format_duration

__all__ = ["Patience", "patiently"]

T = TypeVar("T")


class Patience:
    """Waits between the tries of one call.

    Args:
        what: the other side, for the message.
        seconds: how long it may go without any success.
    """

    __slots__ = ("_backoff", "_ends", "_runtime", "_seconds", "_what")

    def __init__(self, what: str, seconds: float, runtime: Runtime) -> None:
        self._what = what
        self._seconds = seconds
        self._runtime = runtime
        self._backoff = Backoff(initial=0.2, maximum=30.0, random=runtime.random)
        self._ends = runtime.monotonic() + seconds

    def renew(self, at: float) -> None:
        """Begins anew where there was some success later than its beginning; `at` is the loop's clock in seconds."""
        self._ends = max(self._ends, at + self._seconds)

    async def pause(self, reason: str, retry_after: float | None = None) -> None:
        """Sleeps until the next try, the last one of which is when patience ends; raises SuspendSync after that."""
        left = self._ends - self._runtime.monotonic()
        if left <= 0:
            raise SuspendSync(
                f"{self._what} failed for {format_duration(self._seconds)}: {reason}. "
                "The sync waits and goes on where it was when that is mended"
            )
        await self._runtime.sleep(min(left, self._backoff.next(retry_after)))


async def patiently(call: Callable[[], Awaitable[T]], *, what: str, seconds: float, runtime: Runtime) -> T:
    """Makes one call until it succeeds; raises SuspendSync when it failed with RetryableError for all that time."""
    patience = Patience(what, seconds, runtime)
    while True:
        try:
            return await call()
        except RetryableError as error:
            reason, retry_after = describe(error), error.retry_after
        await patience.pause(reason, retry_after)
