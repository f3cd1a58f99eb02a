"""c. A sync in which nothing has changed: documents per second, and the requests that it sends."""

from __future__ import annotations

from bench.figures import Bench, run_once, working_folder, write_config
from bench.null_server import requests_met, serving

__all__ = ["measure"]

_ROUNDS = 3


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with a million documents."""
    number = max(1000, int(1_000_000 * scale))
    bench = Bench("c. Unchanged re-sync")
    with serving() as url, working_folder() as folder:
        connector = {"id": "bench", "service_type": "generated", "index": "bench"}
        config = write_config(
            folder, [{**connector, "configuration": {"documents": number}}], elasticsearch={"url": url}
        )
        run_once(config, null=True)
        before = requests_met(url)
        rounds = [run_once(config, null=True) for _ in range(_ROUNDS)]
        requests = requests_met(url) - before
    for said in rounds:
        assert said["counters"]["unchanged"] == number, said
    fastest = min(rounds, key=lambda said: said["wall"])
    rate = number / fastest["wall"]
    bench.add(f"{number:,} documents, their making included", rate, "documents/s", target=200_000, least=True)
    bench.add("CPU without their making", fastest["cpu"] / number * 1e6, "µs/document")
    bench.add("bulk requests of a sync", requests / _ROUNDS, "requests", target=0)
    return bench
