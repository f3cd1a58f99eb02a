"""Frames between two processes: whole, in order, and no more of them under way than the other end takes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.processes import Channel

MIB = 1 << 20


@asynccontextmanager
async def joined() -> AsyncIterator[tuple[Channel, Channel]]:
    one, other = [await Channel.open(end) for end in socket.socketpair()]
    try:
        yield one, other
    finally:
        one.close()
        other.close()
        await asyncio.sleep(0)


async def received(channel: Channel) -> bytes | None:
    frame = await channel.receive()
    return None if frame is None else bytes(frame)


@given(st.lists(st.lists(st.binary(max_size=70_000), max_size=3), max_size=8))
def test_frames_come_whole_and_in_order(frames: list[list[bytes]]) -> None:
    async def scenario() -> None:
        async with joined() as (one, other):
            for parts in frames:
                one.post(*parts)
            one.tell(end=True)
            for parts in frames:
                assert await received(other) == b"".join(parts)
            assert await other.hear() == {"end": True}

    asyncio.run(scenario())


async def test_a_frame_larger_than_every_buffer_comes_whole() -> None:
    content = bytes(range(256)) * (MIB // 16)
    async with joined() as (one, other):
        sending = asyncio.create_task(one.send(content))
        assert await received(other) == content
        await sending


async def test_who_sends_waits_while_nothing_is_taken() -> None:
    sent = 0

    async def send(channel: Channel) -> None:
        nonlocal sent
        while True:
            await channel.send(bytes(MIB))
            sent += 1

    async with joined() as (one, other):
        sending = asyncio.create_task(send(one))
        for _ in range(200):
            await asyncio.sleep(0)
        held = sent
        assert held < 10
        for _ in range(200):
            await asyncio.sleep(0)
        assert sent == held
        for _ in range(20):
            assert await received(other) == bytes(MIB)
        assert sent >= 20
        sending.cancel()
        await asyncio.wait([sending])


async def test_what_was_sent_before_the_end_is_still_received() -> None:
    async with joined() as (one, other):
        for number in range(5):
            one.tell(number=number)
        one.close()
        assert [await other.hear() for _ in range(5)] == [{"number": number} for number in range(5)]
        assert await received(other) is None
        assert await received(other) is None
        with pytest.raises(OSError, match="closed"):
            await other.send(b"anybody there?")


@pytest.mark.parametrize("content", [b"\0\0", b"\0\0\0\x05half", b"\xff\xff\xff\xff of a frame that is none of ours"])
async def test_half_a_frame_is_none(content: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = await Channel.open(ours)
    theirs.sendall(content)
    theirs.close()
    assert await received(channel) is None
    channel.close()


async def test_a_wait_that_is_cancelled_loses_no_frame() -> None:
    async with joined() as (one, other):
        waiting = asyncio.create_task(other.receive())
        await asyncio.sleep(0)
        one.post(b"first")
        waiting.cancel()
        await asyncio.wait([waiting])
        one.post(b"second")
        assert await received(other) == b"first"
        assert await received(other) == b"second"
