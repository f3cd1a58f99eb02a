"""The pace: what it learns from answers, refusals and sizes; who waits for whom; what the metrics say of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.backends.ports import Failure, FailureKind, WriteResult
from connectors.errors import RetryableError, SuspendSync
from connectors.service.metrics import Metrics
from connectors.sync.limits import FlightLimit
from connectors.sync.pace import Pace
from tests.support.clock import run_virtual

MB = 1_000_000
OVERLOADED = {3: Failure(FailureKind.OVERLOADED, "429")}


def answers(pace: Pace, number: int, *, per_byte: float = 1e-7, queue: bool = False) -> None:
    """Gives so many answers to requests that fill what is allowed; `queue`: the server works on one at a time."""
    for _ in range(number):
        seconds = pace.body * per_byte * (pace.requests if queue else 1)
        pace.answered(pace.sent(busy=True), pace.body, seconds)


def grown(requests: int = 8, body: int = 5 * MB) -> Pace:
    """Returns a pace that has reached its limits, and is not looking at the server just now."""
    pace = Pace(requests, body)
    answers(pace, 100)
    assert (pace.requests, pace.body) == (requests, body)
    return pace


# The law


def test_it_begins_moderately_and_never_above_its_limits() -> None:
    assert (Pace(8, 5 * MB).requests, Pace(8, 5 * MB).body) == (2, 2 * MB)
    assert (Pace(1, 1000).requests, Pace(1, 1000).body) == (1, 1000)


def test_it_grows_by_a_step_with_each_good_round() -> None:
    pace = Pace(8, 5 * MB)
    seen = [(pace.requests, pace.body)]
    for _ in range(40):
        answers(pace, 1)
        if (pace.requests, pace.body) != seen[-1]:
            seen.append((pace.requests, pace.body))
    assert seen == [(2, 2 * MB), (3, 3 * MB), (4, 4 * MB), (5, 5 * MB), (6, 5 * MB), (7, 5 * MB), (8, 5 * MB)]


def test_answers_while_the_source_is_slow_say_nothing() -> None:
    pace = Pace(8, 5 * MB)
    for _ in range(100):
        pace.answered(pace.sent(busy=False), 1000, 0.001)
    assert (pace.requests, pace.body) == (2, 2 * MB)


def test_bodies_that_other_limits_keep_small_do_not_grow() -> None:
    pace = Pace(8, 5 * MB)
    for _ in range(60):
        pace.answered(pace.sent(busy=True), MB, 0.1)
    assert (pace.requests, pace.body) == (8, 2 * MB)


def test_a_small_body_may_take_as_long_as_a_large_one() -> None:
    pace = grown()
    for _ in range(100):
        pace.answered(pace.sent(busy=True), 10_000, 0.5)
    assert pace.requests == 8


def test_a_queue_at_the_server_is_no_reason_for_more() -> None:
    pace, most = Pace(100, 5 * MB), 0
    for _ in range(2000):
        answers(pace, 1, queue=True)
        most = max(most, pace.requests)
    assert most <= 4


def test_a_server_that_slows_down_for_good_is_known_soon() -> None:
    pace = grown()
    answers(pace, 60, per_byte=3e-7)
    assert pace.requests < 8
    answers(pace, 200, per_byte=3e-7)
    assert pace.requests == 8


def test_from_time_to_time_a_round_goes_with_half_the_requests() -> None:
    pace, looks = Pace(8, 5 * MB), list[int]()
    for number in range(1000):
        answers(pace, 1)
        if number > 50 and pace.requests == 4:
            looks.append(number)
    assert len(looks) == 4 * 4  # answers of four rounds
    assert looks[4] - looks[3] > 200


def test_requests_of_before_a_look_do_not_count_for_it() -> None:
    pace = grown()
    before = pace.sent(busy=True)
    while pace.requests == 8:
        answers(pace, 1)
    for _ in range(50):
        pace.answered(before, 5 * MB, 10.0)
    assert pace.requests == 4
    answers(pace, 4)
    assert pace.requests == 8


def test_what_is_refused_at_one_moment_counts_once() -> None:
    pace = grown()
    flights = [pace.sent(busy=True) for _ in range(8)]
    for sent in flights:
        pace.refused(sent, 0.1)
    assert (pace.requests, pace.body) == (4, 5 * MB)


def test_answers_that_were_on_their_way_then_are_of_the_past() -> None:
    pace = grown()
    flights = [pace.sent(busy=True) for _ in range(8)]
    pace.refused(flights[0], 0.1)
    for sent in flights[1:] * 10:
        pace.answered(sent, 5 * MB, 0.5)
    assert pace.requests == 4


def test_what_was_refused_is_approached_with_care() -> None:
    pace = grown()
    pace.refused(pace.sent(busy=True), 0.1)
    answers(pace, 40)
    assert pace.requests == 7
    answers(pace, 7 * 32 - 40)
    assert pace.requests <= 7
    answers(pace, 100)
    assert pace.requests == 8


def test_when_half_is_refused_too_it_was_no_matter_of_numbers() -> None:
    pace = grown()
    for _ in range(10):
        pace.refused(pace.sent(busy=True), 0.1)
    assert (pace.requests, pace.body) == (1, 64_000)
    answers(pace, 60)
    assert (pace.requests, pace.body) == (8, 5 * MB)


def test_a_time_out_halves_both() -> None:
    pace = grown()
    pace.refused(pace.sent(busy=True), 60.0)
    assert (pace.requests, pace.body) == (4, 2.5 * MB)


def test_an_answer_that_came_late_halves_the_requests_and_then_the_body() -> None:
    pace, seen = grown(), list[tuple[int, int]]()
    for _ in range(4):
        pace.answered(pace.sent(busy=True), pace.body, 20.0)
        seen.append((pace.requests, pace.body))
    assert seen == [(4, 5 * MB), (2, 5 * MB), (2, 2.5 * MB), (2, 1.25 * MB)]


def test_a_body_that_is_too_large_is_never_tried_again() -> None:
    pace = grown()
    for size in (1.9 * MB, 1.9 * MB, 3 * MB):  # several were on their way
        pace.too_large(int(size))
        assert pace.body == 0.95 * MB
    answers(pace, 2000)
    assert pace.body == 0.95 * MB
    pace.too_large(1)
    assert pace.body == 1


# Who may send


async def fly(limit: FlightLimit, owner: str = "a", size: int = 1, *, seconds: float = 0.0) -> float:
    """Makes one request; returns when it began."""
    async with limit.slot(owner, size) as flight:
        begun = asyncio.get_running_loop().time()
        await asyncio.sleep(seconds)
        flight.result = WriteResult()
    return begun


async def test_the_flight_limit_counts_requests_and_bytes() -> None:
    limit = FlightLimit(2, 100)
    held: list[str] = []
    go = {name: asyncio.Event() for name in "abcd"}

    async def fly(name: str, size: int) -> None:
        async with limit.slot("a", size):
            held.append(name)
            await go[name].wait()
            held.remove(name)

    async with asyncio.TaskGroup() as group:
        for name, size in {"a": 60, "b": 40, "c": 10, "d": 500}.items():
            group.create_task(fly(name, size))
        for released, expected in (("a", ["b", "c"]), ("b", ["c"]), ("c", ["d"])):
            await asyncio.sleep(0.01)
            go[released].set()
            for _ in range(5):
                await asyncio.sleep(0)
            assert held == expected
        go["d"].set()


@pytest.mark.parametrize("told", ["by the request", "by an item", "beside success"])
def test_a_time_that_the_server_names_holds_for_everybody(told: str) -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 1000)
        failures: Mapping[int, Failure] = {} if told == "beside success" else OVERLOADED
        with suppress(RetryableError):
            async with limit.slot("a", 1) as flight:
                if told == "by the request":
                    raise RetryableError("429", retry_after=7.0)
                flight.result = WriteResult(failures, retry_after=7.0)
        assert await asyncio.gather(fly(limit, "a"), fly(limit, "b")) == pytest.approx([7.0, 7.0])
        assert await fly(limit) == pytest.approx(7.0)

    run_virtual(scenario())


def test_of_two_times_the_later_one_holds_but_no_longer_than_ten_minutes() -> None:
    async def scenario() -> None:
        limit, loop = FlightLimit(8, 1000), asyncio.get_running_loop()

        async def refuse(seconds: float, retry_after: float) -> None:
            with suppress(RetryableError):
                async with limit.slot("a", 1):
                    await asyncio.sleep(seconds)
                    raise RetryableError("429", retry_after=retry_after)

        async with asyncio.TaskGroup() as group:
            group.create_task(refuse(0, 2))
            group.create_task(refuse(1, 3600))
            await asyncio.sleep(0.5)
            waiting = group.create_task(fly(limit))
        assert waiting.result() == pytest.approx(601)
        assert loop.time() == pytest.approx(601)

    run_virtual(scenario())


def test_an_error_that_is_not_the_servers_load_says_nothing() -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 1000)
        for _ in range(5):
            with suppress(SuspendSync):
                async with limit.slot("a", 1):
                    raise SuspendSync("the index is blocked")
            async with limit.slot("a", 1):
                pass
        assert limit.reading() == (2 * MB, 2, 0, 0, 0.0)

    run_virtual(scenario())


def test_an_item_that_is_not_taken_counts_as_a_refusal_and_a_dead_letter_does_not() -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 1000)
        async with limit.slot("a", 1) as flight:
            flight.result = WriteResult({0: Failure(FailureKind.REFUSED, "no"), 1: Failure(FailureKind.SUPERSEDED, "")})
        assert limit.reading().requests == 2
        async with limit.slot("a", 1) as flight:
            flight.result = WriteResult(OVERLOADED)
        assert (limit.reading().requests, limit.reading().refused) == (1, 1)

    run_virtual(scenario())


def test_a_size_that_was_refused_lowers_the_body_but_not_the_requests() -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 10 * MB)
        async with limit.slot("a", MB) as flight:
            await asyncio.sleep(100)  # it was several requests
            flight.result = WriteResult(too_large=MB)
        assert (limit.body, limit.reading().requests, limit.reading().refused) == (MB // 2, 2, 1)

    run_virtual(scenario())


def test_who_is_cancelled_while_waiting_leaves_no_trace() -> None:
    async def scenario() -> None:
        limit = FlightLimit(1, 1000)
        first = asyncio.create_task(fly(limit, seconds=10))
        await asyncio.sleep(1)
        waiting = [asyncio.create_task(fly(limit, owner, seconds=1)) for owner in "aabbcc"]
        await asyncio.sleep(1)
        for number in (0, 3, 4, 5):  # the head of a queue, its tail, and all of one
            waiting[number].cancel()
        await asyncio.wait(waiting)
        assert [task.cancelled() for task in waiting] == [True, False, False, True, True, True]
        assert (await first, waiting[2].result(), waiting[1].result()) == pytest.approx((0, 10, 11))
        assert limit.reading().in_flight == 0

    run_virtual(scenario())


def test_who_is_cancelled_in_the_moment_of_admission_gives_the_room_back() -> None:
    async def scenario() -> None:
        limit = FlightLimit(1, 1000)
        waiting = list[asyncio.Task[float]]()
        async with limit.slot("a", 1):
            waiting.extend(asyncio.create_task(fly(limit, "a")) for _ in range(2))
            await asyncio.sleep(1)
        waiting[0].cancel()  # admitted, but it has not run since
        assert await waiting[1] == pytest.approx(1)
        assert waiting[0].cancelled()
        assert limit.reading().in_flight == 0

    run_virtual(scenario())


def test_whoever_waited_behind_one_that_is_cancelled_goes_at_once() -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 100)
        async with limit.slot("a", 50):
            large = asyncio.create_task(fly(limit, "large", 500))
            await asyncio.sleep(1)
            small = asyncio.create_task(fly(limit, "small", 50))
            await asyncio.sleep(1)
            large.cancel()
            assert await small == pytest.approx(2)

    run_virtual(scenario())


def test_a_sync_with_much_does_not_keep_out_one_with_little() -> None:
    async def scenario() -> None:
        limit = FlightLimit(1, 100 * MB)
        greedy = [asyncio.create_task(fly(limit, "greedy", 5 * MB, seconds=1)) for _ in range(50)]
        for moment in (0.5, 10.5, 20.5):
            await asyncio.sleep(moment - asyncio.get_running_loop().time())
            assert await fly(limit, "modest", 1000) - moment <= 0.5 + 1e-6
        await asyncio.wait(greedy)

    run_virtual(scenario())


def test_a_sync_that_did_nothing_has_saved_nothing_up() -> None:
    async def scenario() -> None:
        limit = FlightLimit(1, 100 * MB)
        for _ in range(50):
            await fly(limit, "old", MB, seconds=1)
        tasks = [asyncio.create_task(fly(limit, owner, MB, seconds=1)) for owner in ["old", "new"] * 10]
        await asyncio.wait(tasks)
        first = sorted(range(20), key=lambda number: tasks[number].result())[:10]
        assert sum(number % 2 for number in first) in {5, 6}

    run_virtual(scenario())


def test_a_large_request_is_not_overtaken_for_ever() -> None:
    async def scenario() -> None:
        limit = FlightLimit(8, 100)
        small = [asyncio.create_task(fly(limit, "small", 30, seconds=1)) for _ in range(100)]
        await asyncio.sleep(0.5)
        assert await fly(limit, "large", 500, seconds=1) < 3
        await asyncio.wait(small)

    run_virtual(scenario())


def test_the_metrics_read_the_pace_at_each_scrape() -> None:
    async def scenario() -> None:
        limit, metrics = FlightLimit(8, 100 * MB), Metrics()
        assert "connectors_write" not in metrics.render()[0].decode().replace("connectors_written", "")
        metrics.pace(limit.reading)
        async with limit.slot("a", 1) as flight:
            flight.result = WriteResult(OVERLOADED)
        waiting = [asyncio.create_task(fly(limit, seconds=3)) for _ in range(2)]
        await asyncio.sleep(1)
        found = [_samples(metrics.render()[0])]
        await asyncio.wait(waiting)
        found.append(_samples(metrics.render()[0]))
        common = {"body_limit_bytes": 2 * MB, "requests_limit": 1, "refused_requests_total": 1}
        assert found == [
            {**common, "requests_in_flight": 1, "throttled_seconds_total": 0},
            {**common, "requests_in_flight": 0, "throttled_seconds_total": pytest.approx(3)},
        ]

    run_virtual(scenario())


def _samples(page: bytes) -> dict[str, float]:
    prefix = "connectors_write_"
    return {
        sample.name.removeprefix(prefix): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name.startswith(prefix)
    }
