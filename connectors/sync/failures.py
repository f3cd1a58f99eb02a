"""Of all that failed at once, what is told."""

from __future__ import annotations

import asyncio

from connectors.errors import SyncError

__all__ = ["most_telling"]


def most_telling(group: BaseExceptionGroup) -> BaseException:
    """Returns the error of a group that says most: ours before others, others before cancellation."""
    flat: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(error.exceptions)
        else:
            flat.append(error)
    return min(flat, key=lambda error: (isinstance(error, asyncio.CancelledError), not isinstance(error, SyncError)))
