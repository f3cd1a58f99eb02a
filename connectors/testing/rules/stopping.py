"""Rules about stopping in the middle: checkpoints, cancellation, cut connections, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

import pytest

from connectors.byoc import Filter
from connectors.errors import ConnectorsError, describe
from connectors.source import BaseDataSource, Checkpoint, Skipped
from connectors.testing.reading import Listed, Reading, complete, read_all, through_json
from connectors.testing.rules.base import Rules, rule
from connectors.testing.trial import Breach, Trial
from connectors.testing.watching import Holdings, closing_warnings, growth, holdings

__all__ = ["StoppingRules", "check_whole", "spread"]

T = TypeVar("T")

#: Places that are tried, spread over the whole.
_PLACES: Final = 12
#: Loop iterations and seconds after which a reading is cancelled: within a page, in the middle, in a wait.
_MOMENTS: Final = (0, 1, 2, 3, 5, 8, 13, 21, 50)
_SECONDS: Final = (0.001, 0.005, 0.02)
_GRACE: Final = 5.0
_TRIES: Final = 3


class StoppingRules(Rules):
    """A job may stop at any time, and goes on later in another process."""

    @rule("resumable")
    async def test_it_goes_on_behind_each_checkpoint(self, trial: Trial) -> None:
        """What was yielded before a checkpoint, and what is yielded behind it, are together the whole."""
        await _check_resuming(trial, None)
        for advanced in trial.hook("good_advanced_rules") if trial.source_class.advanced_rules_enabled else ():
            await _check_resuming(trial, Filter.of(advanced=advanced))

    @rule("resumable")
    async def test_it_goes_on_after_each_of_many_stops(self, trial: Trial) -> None:
        """A reading that is stopped at each checkpoint, and goes on in a new object each time, yields the whole."""
        whole = await trial.whole()
        joined: list[Listed | Skipped] = []
        state: Any = None
        for _ in range(len(whole.items) + 1):
            part = await trial.read(checkpoint=state)
            if not part.checkpoints:
                joined += [item for item in part.items if not isinstance(item, Checkpoint)]
                break
            at, checkpoint = part.checkpoints[0]
            joined += [item for item in part.items[:at] if not isinstance(item, Checkpoint)]
            state = through_json(checkpoint.state)
        check_whole(whole, joined, "stopped at each checkpoint")

    @rule()
    async def test_closing_in_the_middle_releases_everything(self, trial: Trial) -> None:
        """A reading that is closed in the middle leaves no task, file, connection or thread."""
        whole = await trial.whole()
        count = trial.connections
        before = await holdings(count)
        for place in spread(range(1, len(whole.items))):
            source = trial.source()
            stream = cast("Any", source.get_docs(Filter()))
            for _ in range(place):
                await anext(stream)
            try:
                await asyncio.wait_for(stream.aclose(), _GRACE)
            except TimeoutError:
                raise Breach(f"closed after {place} items, it went on", "let GeneratorExit end get_docs()") from None
            await self._check_released(trial, source, before, f"closed after {place} items")

    @rule()
    async def test_cancelling_in_the_middle_releases_everything(self, trial: Trial) -> None:
        """A reading that is cancelled at any moment ends at once, and leaves no task, file, connection or thread."""
        await trial.whole()
        before = await holdings(trial.connections)
        for number, unit in [*((n, "steps") for n in _MOMENTS), *((n, "s") for n in _SECONDS)]:
            what = f"cancelled after {number} {unit} of the event loop"
            went_on: list[str] = []
            for _ in range(_TRIES):  # once is chance: wait_for of Python 3.11 loses one that comes with a result
                source = trial.source()
                work = asyncio.ensure_future(read_all(source))
                await _let_run(work, number, unit)
                if ended := await _cancelled(work):
                    went_on.append(ended)
                await self._check_released(trial, source, before, what)
                if not ended:
                    break
            if len(went_on) == _TRIES:
                raise Breach(
                    f"{what}, it {went_on[0]}",
                    "let asyncio.CancelledError pass: catch Exception, never BaseException, and use `finally`; write "
                    "asyncio.timeout() in place of wait_for(), which may lose it in Python 3.11",
                )

    @rule()
    async def test_close_releases_everything(self, trial: Trial) -> None:
        """After close() nothing is left of a source: no task, file, connection or thread."""
        count = trial.connections
        await _whole_life(trial.source())  # what is made once for the whole process is made now
        before = await holdings(count)
        with closing_warnings() as warned:
            await _whole_life(trial.source())
            left = await growth(before, count)
            await trial.close()
        if left or warned:
            raise Breach(
                "it left " + "; ".join((left + warned)[:5]), "release it in close(), and cancel and await tasks"
            )

    @rule()
    async def test_forgetting_takes_no_documents(self, trial: Trial) -> None:
        """forget() removes only what the source made for itself: the next reading is the whole; it may be repeated."""
        whole = await trial.whole()
        source = trial.source()
        for times in ("once", "twice"):
            try:
                await source.forget()
            except Exception as error:
                advice = "raise only when something could not be removed"
                raise Breach(f"called {times}, forget() raised {describe(error)}", advice) from error
        if (await trial.read()).bodies != whole.bodies:
            raise Breach("after forget() the documents are others", "leave alone what is not the source's own")

    @rule()
    async def test_a_cut_connection_is_told(self, trial: Trial) -> None:
        """A connection that breaks in the middle is made anew, or raised as an error; the reading never ends early."""
        if not trial.can("cut"):
            pytest.skip("the data have no method cut(): give them one, and this test runs")
        whole = await trial.whole()
        for place in spread(range(1, len(whole.items))):
            source = trial.source()
            await self._check_cut(trial, source, whole, place)
            await trial.close(source)
        again = await trial.read()
        if again.bodies != whole.bodies:
            raise Breach("a reading after that is not the whole", "make connections anew when they were broken")

    async def _check_cut(self, trial: Trial, source: BaseDataSource, whole: Reading, place: int) -> None:
        stream = cast("Any", source.get_docs(Filter()))
        ids: set[str] = set()
        try:
            for _ in range(place):
                _note(ids, await anext(stream))
            await trial.act("cut")
            async for item in stream:
                _note(ids, item)
        except ConnectorsError:
            return  # told; the job waits, or ends, and nothing is deleted
        except Exception as error:
            raise Breach(
                f"cut after {place} items, it raised {describe(error)}",
                "raise RetryableError in words for people: then the job waits and goes on, where it ends otherwise",
            ) from error
        finally:
            await stream.aclose()
        if lost := whole.bodies.keys() - ids:
            raise Breach(
                f"cut after {place} items, it ended without an error and without {len(lost)} documents",
                "raise RetryableError: what a reading without error does not list is deleted from the index",
            )

    async def _check_released(self, trial: Trial, source: BaseDataSource, before: Holdings, what: str) -> None:
        await trial.close(source)
        if left := await growth(before, trial.connections):
            raise Breach(
                f"{what}, and then closed, it left {'; '.join(left[:5])}",
                "hold what must be released in `async with` or `try ... finally` inside get_docs()",
            )


async def _let_run(work: asyncio.Future[Any], number: float, unit: str) -> None:
    """Waits for so many seconds, or steps of the event loop."""
    if unit == "s":
        await asyncio.wait([work], timeout=number)
    for _ in range(int(number) if unit == "steps" else 0):
        await asyncio.sleep(0)


async def _cancelled(work: asyncio.Future[Any]) -> str | None:
    """Cancels a reading; returns how it ended otherwise, None when it was cancelled or over."""
    if work.done():
        return None
    work.cancel()
    await asyncio.wait([work], timeout=_GRACE)
    if work.cancelled():
        return None
    work.cancel()
    if not (await asyncio.wait([work], timeout=_GRACE))[0]:
        return "went on"
    error = (await asyncio.gather(work, return_exceptions=True))[0]
    return f"raised {describe(error)}" if isinstance(error, Exception) else "went on"


def spread(places: Sequence[T]) -> list[T]:
    """Returns some of them, first and last included."""
    step = max(1, -(-len(places) // _PLACES))
    return [*places[::step], *([places[-1]] if places and (len(places) - 1) % step else [])]


async def _check_resuming(trial: Trial, filtering: Filter | None) -> None:
    whole = await trial.whole(filtering=filtering)
    if filtering is None and len(whole.checkpoints) < 2:
        trial.misuse(
            f"it yields {len(whole.checkpoints)} checkpoints for these data: give it more documents or smaller pages, "
            "so that there are two or more; a source that never yields one is not resumable"
        )
    for at, checkpoint in spread(whole.checkpoints):
        rest = await trial.read(filtering=filtering, checkpoint=through_json(checkpoint.state))
        if rest.misshapen:
            raise Breach(f"behind {checkpoint}, {rest.misshapen[0]}", "yield the same items as without a checkpoint")
        joined = [item for item in (*whole.items[:at], *rest.items) if not isinstance(item, Checkpoint)]
        check_whole(whole, joined, f"going on behind {checkpoint}")


def check_whole(whole: Reading, joined: list[Any], what: str) -> None:
    """Raises Breach when what was read in several parts, `joined`, is not what was read at once."""
    found = {_key(item) for item in joined}
    wanted = {_key(item) for item in whole.items if not isinstance(item, Checkpoint)}
    if lost := wanted - found:
        raise Breach(
            f"{what}, it lost {len(lost)} documents: {', '.join(sorted(map(str, lost))[:3])}",
            "a checkpoint covers what was yielded before it and nothing else: yield it behind the documents, and go on "
            "with the first one behind it",
        )
    number = len(whole.items) - len(whole.checkpoints)
    if len(joined) > number or found - wanted:
        raise Breach(
            f"{what}, it yielded {len(joined)} documents, where the whole has {number}",
            "do not begin again at `checkpoint`: go on behind it",
        )
    bodies = {item.id: item.body for item in joined if isinstance(item, Listed)}
    for id_, body in whole.bodies.items():
        if bodies[id_] != body:
            raise Breach(f'{what}, the document "{id_}" is another one', "yield the same documents as without it")


def _key(item: Listed | Skipped) -> str:
    return item.id if item.id is not None else str(item)


def _note(ids: set[str], item: Any) -> None:
    if isinstance(item, tuple):
        ids.add(str(item[0]["_id"]))
    elif isinstance(item, Skipped) and item.id is not None:
        ids.add(item.id)


async def _whole_life(source: BaseDataSource) -> None:
    """Everything that the framework does with a source."""
    await source.validate_config()
    await source.ping()
    documents = (await read_all(source)).documents
    for item in spread([item for item in documents if item.download is not None]):
        with suppress(TypeError, ConnectorsError):  # judged by other rules
            await complete(item, source)
    await source.changed()
    await source.discover()
    await source.close()
    with suppress(Exception):  # judged by another rule
        await source.close()
