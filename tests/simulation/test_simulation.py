"""The simulation itself: it repeats exactly, its seeds keep the promises, and it notices planted defects."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.simulation.__main__ import main
from tests.simulation.events import EVENTS
from tests.simulation.mutations import MUTATIONS, first_caught
from tests.simulation.plan import FAULTS, READER_FAULTS, make_plan
from tests.simulation.world import simulate

SEEDS = 500


@pytest.fixture(autouse=True)
def _no_collection() -> Iterator[None]:
    """As in the command: a collection in mid-seed would end a generator at another moment in each run."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("seed", range(10))
def test_a_seed_repeats_exactly(seed: int) -> None:
    first, second = simulate(seed), simulate(seed)
    assert list(first.lines()) == list(second.lines())
    assert first.digest() == second.digest()


def test_another_seed_is_another_world() -> None:
    assert len({simulate(seed).digest() for seed in range(5)}) == 5


@pytest.mark.simulation
@pytest.mark.timeout(300)
def test_whatever_happens_the_promises_are_kept() -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        outcome = simulate(seed)
        assert outcome.violation is None, f"seed {seed}: {outcome.violation}"
        seen.update(outcome.seen)
    # Else the seeds prove nothing.
    ends = {"checkpoint", "checkpoint of parts", "cursor", "vanished", "guard", "superseded"}
    ends.add("claimed by a further worker")
    assert {*EVENTS, *FAULTS, *READER_FAULTS, *ends} - seen.keys() == set()


@pytest.mark.simulation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_defect_is_noticed(name: str) -> None:
    assert first_caught(name, range(SEEDS), simulate) is not None


def test_a_seed_that_fails_is_told_with_its_plan_and_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(*MUTATIONS["guard ignored"])
        assert main(["--seeds", "20", "--jobs", "1"]) == 1
        told = capsys.readouterr().out
        seed = told.partition("seed ")[2].partition(":")[0]
        assert f"replay: python -m tests.simulation --seed {seed} --verbose" in told
        assert main(["--seed", seed]) == 1
    told = capsys.readouterr().out
    assert str(make_plan(int(seed)).events) in told
    assert "VIOLATION" in told
    assert main(["--seed", seed]) == 0
