"""Defects of what makes one sync of several readers, and one daemon of several workers; see `mutations`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from connectors.service.crew import Crew
from connectors.service.member import Member
from connectors.source import Checkpoint
from connectors.sync import frames
from connectors.sync.page import ReadPage
from connectors.sync.readers import Readers, _Done, _Link, _Lost
from connectors.sync.reading import Reader
from connectors.sync.split import Split

__all__ = ["PROCESS_MUTATIONS"]

_advance = Readers._advance
_hear = Readers._hear
_item = Readers._item
_reach = Reader._reach
_split_page = ReadPage.split
_split_of = Split.of.__func__  # type: ignore[attr-defined]  # mypy does not know what a class method is made of


def _reach_before_the_pages(self: Readers, link: _Link, item: Any) -> Iterator[Any]:
    if isinstance(item, Checkpoint) and link.partition is not None:
        self._split.reach(link.partition, item.state)
        self._uncovered.discard(link.partition)
    else:
        yield from _advance(self, link, item)


def _finish_before_the_pages(self: Readers, link: _Link, item: Any) -> Iterator[Any]:
    if isinstance(item, _Done):
        link.waiting.clear()
    yield from _advance(self, link, item)


def _finish_what_was_lost(self: Readers, link: _Link, lost: _Lost) -> None:
    self._links.remove(link)
    if link.partition is not None:
        self._split.finish(link.partition)
    self._employ()


def _cover_nothing(self: Readers, link: _Link) -> Iterator[Any]:
    yield from link.release()


def _hear_twice(self: Readers, link: _Link, content: bytearray) -> None:
    _hear(self, link, content)
    if content[:1] == frames.PAGE:
        _hear(self, link, content)


def _take_an_error_for_the_end(link: _Link, kind: bytes, head: Any, rest: memoryview) -> Any:
    return _Done() if kind == frames.FAILED else _item(link, kind, head, rest)


def _take_a_checkpoint_for_the_end(link: _Link, kind: bytes, head: Any, rest: memoryview) -> Any:
    return _Done() if kind == frames.CHECKPOINT else _item(link, kind, head, rest)


def _forget_what_is_missing(self: Readers, link: _Link, content: bytearray) -> None:
    if content[:1] != frames.SKIPPED:
        _hear(self, link, content)


def _files_are_empty(self: _Link, how: str) -> None:
    for awaited in self._awaited.values():
        awaited.set_result({})


async def _send_before_the_page(self: Reader, checkpoint: Checkpoint) -> None:
    self._channel.post(*frames.frame(frames.CHECKPOINT, checkpoint.state))
    await self._flush()


def _rotate(self: ReadPage) -> None:
    _split_page(self)
    self.bodies.append(self.bodies.pop(0))


def _begin_anew(cls: type[Split], checkpoint: Any) -> Split | None:
    split: Split | None = _split_of(cls, checkpoint)
    if split is not None:
        split._reached.clear()
    return split


def _lose_a_part(cls: type[Split], checkpoint: Any) -> Split | None:
    split: Split | None = _split_of(cls, checkpoint)
    if split is not None and split.open:
        split.finish(split.open[-1])
    return split


async def _start_once(self: Crew, member: Any) -> None:
    await self._attend(member, self._launch(member.number))
    await asyncio.Event().wait()


async def _leave_them(self: Crew, stop: asyncio.Event) -> None:
    keepers = [asyncio.create_task(self._keep(member)) for member in self._members]
    await stop.wait()
    for keeper in keepers:
        keeper.cancel()


async def _hear_no_stop(self: Member, stop: asyncio.Event) -> None:
    while (message := await self._channel.hear()) is not None:
        if "allowed" in message:
            self._worker.allowed = int(message["allowed"])
            self._worker.freed.set()
    stop.set()


#: Name → where the defect is planted.
PROCESS_MUTATIONS: dict[str, tuple[Any, str, Any]] = {
    "part reached before its pages": (Readers, "_advance", _reach_before_the_pages),
    "last pages of a part dropped": (Readers, "_advance", _finish_before_the_pages),
    "part of a lost reader taken for read": (Readers, "_replace", _finish_what_was_lost),
    "pages without a checkpoint taken for covered": (Readers, "_uncover", _cover_nothing),
    "page taken twice": (Readers, "_hear", _hear_twice),
    "error of a reader taken for the end": (Readers, "_item", staticmethod(_take_an_error_for_the_end)),
    "checkpoint taken for the end": (Readers, "_item", staticmethod(_take_a_checkpoint_for_the_end)),
    "unreadable folder of a reader not told": (Readers, "_hear", _forget_what_is_missing),
    "files of a lost reader taken for empty": (_Link, "lose", _files_are_empty),
    "checkpoint of a part sent before its page": (Reader, "_reach", _send_before_the_page),
    "contents of a page under other ids": (ReadPage, "split", _rotate),
    "parts begun anew over a resume": (Split, "of", classmethod(_begin_anew)),
    "part lost over a resume": (Split, "of", classmethod(_lose_a_part)),
    "worker that ended not started again": (Crew, "_keep", _start_once),
    "workers left behind": (Crew, "_run", _leave_them),
    "worker told to stop goes on": (Member, "_listen", _hear_no_stop),
}
