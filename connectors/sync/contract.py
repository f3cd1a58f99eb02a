"""What a source may give, looked at where it broke something: the words are for its author, and cost nothing before."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, Final

import orjson

from connectors.errors import SyncError
from connectors.source import Checkpoint, Skipped

__all__ = ["OPERATIONS", "durable", "misshapen", "opened", "short", "told"]

OPERATIONS: Final = ("index", "update", "delete")
#: Characters of a value that stand in a message.
_SHORT: Final = 120


def opened(stream: Any, service_type: str) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
    """Returns what a source gave to be read, as a context that closes it.

    Raises:
        SyncError: it cannot be read with `async for`.
    """
    if hasattr(stream, "__aiter__"):
        return aclosing(stream if hasattr(stream, "aclose") else _closable(stream))
    if inspect.iscoroutine(stream):
        stream.close()
    raise SyncError(
        f"the source {service_type} gave a {type(stream).__name__} to be read, which is no async generator: write the "
        "method as `async def` with `yield`"
    )


async def _closable(stream: AsyncIterable[Any]) -> AsyncGenerator[Any, None]:
    """An async iterator need not have `aclose`."""
    async for item in stream:
        yield item


def told(error: Exception, item: Any, service_type: str, *, incremental: bool = False) -> Exception:
    """Returns the error that taking `item` raised, or in its place one that says how the item is to look."""
    problem = _no_item(item, incremental=incremental)
    return error if problem is None else SyncError(f"the source {service_type} yielded what nobody can take: {problem}")


def misshapen(item: Any, *, incremental: bool = False) -> str | None:
    """Returns what is wrong with something that was yielded, None when it has the form of the contract."""
    if isinstance(item, Skipped):
        return None if item.reason.strip() else f"{item!r} gives no reason"
    if isinstance(item, Checkpoint):
        return None
    problem = _no_item(item, incremental=incremental)
    if problem is not None:
        return problem
    given = item[0].get("_id")
    if given is None or not str(given):
        return f"{short(item[0])} has no `_id`"
    if item[1] is not None and not callable(item[1]):
        return f'the download of "{given}" is {short(item[1])}, which cannot be called'
    if incremental and item[2] not in OPERATIONS:
        return f'the operation of "{given}" is {short(item[2])}, which is none of {", ".join(OPERATIONS)}'
    return None


def _no_item(item: Any, *, incremental: bool) -> str | None:
    size, words = (3, "(document, download or None, operation)") if incremental else (2, "(document, download or None)")
    if not isinstance(item, tuple) or len(item) != size:
        return f"{short(item)} is neither {words} nor Checkpoint nor Skipped"
    return None if isinstance(item[0], dict) else f"{short(item[0])} is no dict"


def durable(value: Any, what: str) -> Any:
    """Returns a cursor or the state of a checkpoint; raises SyncError when no store can hold it."""
    try:
        orjson.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        if "surrogate" not in str(error):  # a store escapes those
            raise SyncError(f"{what}, {short(value)}, cannot be stored as JSON: {error}") from None
    return value


def short(value: Any) -> str:
    """Returns the representation of a value, cut to what fits into a message."""
    text = repr(value)
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 3]}..."
