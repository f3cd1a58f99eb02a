"""Where a coroutine waits: the innermost lines of code of whatever it awaits, through generators and tasks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import PurePath
from types import FrameType
from typing import Any, Final

__all__ = ["frames_below", "told", "waiting_frames"]

#: A chain that is longer goes round in a circle.
_LONGEST: Final = 200
#: Kinds of what can be awaited, by the prefix of their attributes, and the one that leads on.
_LINKS: Final = (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom"))
#: Parts of a path that say enough.
_PARTS: Final = 3


def waiting_frames(task: asyncio.Task[Any]) -> list[FrameType]:
    """Returns the frames of a task that waits, the outermost first, those of tasks that it awaits included."""
    frames: list[FrameType] = []
    current: Any = task.get_coro()
    for _ in range(_LONGEST):
        if current is None:
            break
        frame, current = _step(current)
        if frame is not None:
            frames.append(frame)
    return frames


def frames_below(frames: list[FrameType], name: str) -> list[FrameType]:
    """Returns those that lie below the function of this qualified name, all where it is not among them."""
    names = [frame.f_code.co_qualname for frame in frames]
    return frames[names.index(name) + 1 :] if name in names else frames


def told(frames: list[FrameType], limit: int = 4) -> str:
    """Returns the innermost frames for people: `sources/mysql/session.py:120 in fetch < …`, innermost first."""
    return " < ".join(_line(frame) for frame in reversed(frames[-limit:]))


def _step(current: Any) -> tuple[FrameType | None, Any]:
    """Returns the frame of something that can be awaited, if it has one, and what it awaits itself."""
    for prefix, link in _LINKS:
        if hasattr(current, link):  # also those of compiled code, which have no frame
            return getattr(current, f"{prefix}_frame", None), getattr(current, link)
    if isinstance(current, asyncio.Task):
        return None, current.get_coro()
    if isinstance(current, asyncio.Future):
        return None, None
    return None, next(_behind(current), None)


def _behind(current: Any) -> Iterator[Any]:
    """Yields what stands behind an iterator of a future or a step of an async generator, which hide it."""
    for referent in gc.get_referents(current):
        if isinstance(referent, asyncio.Future) or any(hasattr(referent, link) for _, link in _LINKS):
            yield referent


def _line(frame: FrameType) -> str:
    path = PurePath(frame.f_code.co_filename)
    return f"{'/'.join(path.parts[-_PARTS:]).lstrip('/')}:{frame.f_lineno} in {frame.f_code.co_name}"
