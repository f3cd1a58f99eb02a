"""What the acceptance kit measures of the event loop."""

from __future__ import annotations

import asyncio
import time

from connectors.testing.watching import LoopWatch


async def test_what_holds_the_loop_is_seen_with_its_place() -> None:
    with LoopWatch(0.02) as watch:
        time.sleep(0.09)  # noqa: ASYNC251 - that is what is looked for
    assert watch.worst > 0.08
    assert "time.sleep(0.09)" in watch.where


async def test_what_holds_the_loop_afterwards_is_no_matter_of_the_watch() -> None:
    with LoopWatch(0.001) as watch:
        time.sleep(0.03)  # noqa: ASYNC251 - its next beat is due by now
    found = watch.worst, watch.where
    time.sleep(0.06)  # noqa: ASYNC251 - somebody else's
    await asyncio.sleep(0.01)
    assert (watch.worst, watch.where) == found
