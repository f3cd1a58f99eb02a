"""Follows the server's log through a slot, up to where the log was when the reading began."""

from __future__ import annotations

import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from connectors.errors import RetryableError
from connectors.sources.postgresql.dialect import quoted
from connectors.sources.postgresql.faults import translated
from connectors.sources.postgresql.link import Link
from connectors.sources.postgresql.pgoutput import Begin, Commit, Message, decode, format_lsn
from connectors.sources.postgresql.slot import while_in_use

__all__ = ["LOG_SETTINGS", "Reached", "follow", "unfinished"]

#: Settings of a connection that follows the log. The server would hang up on a reader that is busy elsewhere for a
#: minute; a reader that is gone is noticed by its connection.
LOG_SETTINGS: Final = {
    "wal_sender_timeout": "0",
    "tcp_keepalives_idle": "60",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "6",
}
_BATCH: Final = 1_000
_DATA: Final = ord("w")
_KEEPALIVE: Final = ord("k")
_DATA_HEAD: Final = 25
_KEEPALIVE_BODY: Final = struct.Struct("!QQB")
_STATUS: Final = struct.Struct("!cQQQQB")
_EPOCH_OF_2000: Final = 946_684_800
_XIDS: Final = 1 << 32


@dataclass(frozen=True, slots=True)
class Reached:
    """All transactions that ended before `lsn` were told."""

    lsn: int


async def follow(
    link: Link, *, slot: str, publication: str, start: int, target: int
) -> AsyncGenerator[Message | Reached, None]:
    """Yields what the log says of transactions committed at `start` or later, until it is at `target`.

    Tells the server that everything before `start` is done with: it may forget that much of its log. The last thing
    that is yielded is a `Commit` or a `Reached`.

    Raises:
        RetryableError: the slot is in use, or the connection was lost.
    """
    name = publication.replace("'", "''")
    sql = (
        f"START_REPLICATION SLOT {quoted(slot)} LOGICAL {format_lsn(start)} "
        f"(proto_version '1', publication_names '{quoted(name)}')"
    )
    what = f'following the log by the slot "{slot}"'
    with translated(what):
        await while_in_use(lambda: link.start_stream(sql))
        await link.write(_status(start, ask=True))
    while True:
        with translated(what):
            messages = await link.read(_BATCH, wait_for_all=False)
        if not messages:
            raise RetryableError(f"{what}: the server ended it")
        for data in messages:
            if data[0] == _DATA:
                message = decode(data[_DATA_HEAD:])
                if isinstance(message, Begin) and message.lsn >= target:
                    yield Reached(target)
                    return
                if message is not None:
                    yield message
                if isinstance(message, Commit) and message.end_lsn >= target:
                    return
            elif data[0] == _KEEPALIVE:
                end, _, asked = _KEEPALIVE_BODY.unpack_from(data, 1)
                # The first one may tell of an older position than we do, and where nothing was written since, no other
                # one follows: the server sends them to readers who are behind.
                if max(end, start) >= target:
                    yield Reached(max(end, start))
                    return
                if asked:
                    with translated(what):
                        await link.write(_status(start, ask=False))


def _status(done: int, *, ask: bool) -> bytes:
    """Returns the message that everything before `done` may be forgotten; `ask` for an answer."""
    microseconds = int((time.time() - _EPOCH_OF_2000) * 1_000_000)
    return _STATUS.pack(b"r", done, done, done, microseconds, ask)


def unfinished(xids: set[int], snapshot: str) -> bool:
    """Says whether a snapshot misses one of these transactions, though the log has told of its commit.

    A commit stands in the log a moment before others see its effects (for long, where a standby has to confirm it).

    Args:
        xids: numbers of transactions, 32 bits.
        snapshot: as `pg_current_snapshot()` has it: `xmin:xmax:xip,xip`.
    """
    _, xmax, running = snapshot.split(":")
    if xids & {int(xid) % _XIDS for xid in running.split(",") if xid}:
        return True
    return any((xid - int(xmax)) % _XIDS < _XIDS // 2 for xid in xids)
