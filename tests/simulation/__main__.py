"""Runs seeds: `python -m tests.simulation --seeds 10000 --first-seed 0 --jobs 2`, or one of them with `--seed N`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields

from tests.simulation.world import Outcome, simulate

_AT_ONCE = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 when no promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--verbose", action="store_true", help="print the trace of a single seed, though all is well")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        outcome = simulate(given.seed)
        show(outcome, trace=given.verbose or outcome.violation is not None)
        return int(outcome.violation is not None)
    return run_many(range(given.first_seed, given.first_seed + given.seeds), given.jobs)


def run_many(seeds: range, jobs: int) -> int:
    """Runs seeds in several processes, tells of each that fails, and returns the exit code."""
    begun, failed, seen, hours = time.monotonic(), 0, Counter[str](), 0.0
    for number, (violations, counted, seconds) in enumerate(_results(seeds, jobs), start=1):
        seen.update(counted)
        hours += seconds / 3600
        failed += len(violations)
        if number * _AT_ONCE % 1000 == 0:
            _say(f"{number * _AT_ONCE:,} seeds, {failed} failed, {time.monotonic() - begun:,.0f} s")
        for seed, violation in violations:
            _say(f"seed {seed}: {violation}\n    replay: python -m tests.simulation --seed {seed} --verbose")
    took = time.monotonic() - begun
    _say(", ".join(f"{number:,} {name}" for name, number in sorted(seen.items())))
    _say(
        f"{len(seeds):,} seeds from {seeds.start} to {seeds.stop - 1}, {failed} failed; "
        f"{hours:,.0f} simulated hours in {took:,.0f} s"
    )
    return int(bool(failed))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _results(seeds: range, jobs: int) -> Iterator[tuple[list[tuple[int, str]], Counter[str], float]]:
    pieces = [seeds[at : at + _AT_ONCE] for at in range(0, len(seeds), _AT_ONCE)]
    if jobs <= 1:
        yield from map(_piece, pieces)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(_piece, pieces)


def _piece(seeds: range) -> tuple[list[tuple[int, str]], Counter[str], float]:
    violations, seen, seconds = list[tuple[int, str]](), Counter[str](), 0.0
    gc.disable()  # a collection in mid-seed would end a generator at another moment in each run
    gc.freeze()  # what was imported is not looked through again and again
    for seed in seeds:
        outcome = simulate(seed)
        seen.update(outcome.seen)
        seconds += outcome.seconds
        if outcome.violation is not None:
            violations.append((seed, outcome.violation))
        del outcome
        gc.collect()
    return violations, seen, seconds


def show(outcome: Outcome, *, trace: bool) -> None:
    """Prints one seed: what it means, what happened, how it ended."""
    for item in fields(outcome.plan):
        _say(f"{item.name:<14} {getattr(outcome.plan, item.name)}")
    for line in outcome.lines() if trace else ():
        _say(line)
    _say(f"seed {outcome.plan.seed}: {outcome.violation or 'all is well'} (trace {outcome.digest()})")


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of text are walked in the order of their hashes
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])  # noqa: S606 - itself
    sys.exit(main())
