"""h. Many connectors on one daemon: the time to sync all of them, and how late the event loop is meanwhile.

Each connector has ten documents, an index of its own among twenty, and four jobs run at the same time, as configured by
default. "again" is a second sync of all, in which nothing has changed.
"""

from __future__ import annotations

from bench.figures import Bench, generated_connectors, run_once, working_folder, write_config

__all__ = ["measure"]

_DOCUMENTS = 10


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with 500 connectors."""
    number = max(10, int(500 * scale))
    bench = Bench("h. Many connectors")
    with working_folder() as folder:
        config = write_config(folder, generated_connectors(number, _DOCUMENTS, indices=20))
        for what, outcome in [("first", "indexed"), ("again", "unchanged")]:
            said = run_once(config)
            assert said["counters"][outcome] == number * _DOCUMENTS, said
            bench.add(f"{what}: {number} connectors", said["wall"], "s")
            bench.add(f"{what}: jobs", said["jobs"] / said["wall"], "jobs/s")
            bench.add(f"{what}: CPU of a job", said["cpu"] / said["jobs"] * 1e3, "ms")
            bench.add(f"{what}: delay of the loop, 99th percentile", said["late"] * 1e3, "ms", target=100)
            bench.add(f"{what}: delay of the loop, longest", said["latest"] * 1e3, "ms")
    return bench
