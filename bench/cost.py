"""a. What the framework costs: 1 KB documents through the whole daemon, to a server that keeps nothing.

Two basic rules, the ledger, stamps, versions and the real client of Elasticsearch are in it; making the documents is
measured apart and taken off, and the server is another process. "changed" is a sync in which every document differs.
"""

from __future__ import annotations

import statistics

from bench.figures import Bench, run_once, working_folder, write_config
from bench.null_server import serving
from bench.sampling import told

__all__ = ["measure", "rules"]

_ROUNDS = 3
_TARGET = 10.0
_SYNCS = [("new", 1, "indexed"), ("unchanged", 1, "unchanged"), ("changed", 2, "indexed")]


def rules() -> list[dict[str, str]]:
    """Returns two basic rules, which no document of the generated source breaks."""
    return [
        {"policy": "exclude", "field": "path", "rule": "starts_with", "value": "drafts/"},
        {"policy": "exclude", "field": "size", "rule": ">", "value": "1000000000"},
    ]


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with 200,000 documents."""
    number = max(1000, int(200_000 * scale))
    bench = Bench("a. Framework cost")
    costs: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    parts: dict[tuple[str, str], float] = {}
    with serving() as url:
        for _ in range(_ROUNDS):
            with working_folder() as folder:
                for what, edition, outcome in _SYNCS:
                    connector = {
                        "id": "bench",
                        "service_type": "generated",
                        "index": "bench",
                        "configuration": {"documents": number, "edition": edition},
                        "filtering": {"rules": rules()},
                    }
                    config = write_config(folder, [connector], elasticsearch={"url": url})
                    said = run_once(config, null=True)
                    assert said["counters"][outcome] == number, said
                    costs.setdefault(what, []).append(said["cpu"] / number * 1e6)
                    rates.setdefault(what, []).append(number / said["wall"])
                    for kind, spent in said["profile"].items():
                        parts[what, kind] = parts.get((what, kind), 0.0) + spent / _ROUNDS
    for what, cost in costs.items():
        bench.add(f"{what}: CPU of the sync's process", statistics.median(cost), "µs/document", target=_TARGET)
        bench.add(f"{what}: with the making of the documents", statistics.median(rates[what]), "documents/s")
        bench.note(
            f"{what}, µs/document: {told({kind: spent for (of, kind), spent in parts.items() if of == what}, number)}"
        )
    return bench
