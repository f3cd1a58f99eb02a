"""f. Latency: from a committed change of a row to a hit in the search, with an incremental sync every second.

The daemon runs as a process of its own, into a real Elasticsearch whose indices refresh as they do by default, once a
second; so half a second of it, on average, is the server's.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.figures import FOLDER, Bench, environment, working_folder, write_config
from bench.shops import SHOPS, Shop
from tests.servers.search import SearchServer, available

__all__ = ["measure"]

_CHANGES = 12
_ROWS = 10_000
_PATIENCE = 60.0


def measure(scale: float) -> Bench:
    """Measures, with 10,000 rows; at scale 1 twelve changes."""
    bench = Bench("f. Latency")
    if (reason := available("es8")) is not None:
        bench.note(f"skipped: {reason}")
        return bench
    with SearchServer("es8") as server:
        for shop_class in SHOPS:
            if (reason := shop_class.obstacle()) is not None:
                bench.note(f"{shop_class.service_type} skipped: {reason}")
                continue
            with working_folder() as folder, shop_class(folder) as shop:
                found = _measure(server, shop, folder, max(3, int(_CHANGES * scale)))
            name = shop_class.service_type
            bench.add(f"{name}: median", statistics.median(found), "s", target=2.0)
            bench.add(f"{name}: longest of {len(found)}", max(found), "s", target=2.0)
    return bench


def _measure(server: SearchServer, shop: Shop, folder: Path, changes: int) -> list[float]:
    shop.fill(_ROWS)
    index = f"bench-{shop.service_type}"
    connector = {
        "id": shop.service_type,
        "service_type": shop.service_type,
        "index": index,
        "configuration": dict(shop.configuration()),
        "scheduling": {"full": "every 1d", "incremental": "every 1s"},
    }
    config = write_config(
        folder,
        [connector],
        elasticsearch={"url": server.url},
        service={"data_dir": str(folder / "data"), "poll_interval": "250ms"},
    )
    command = [sys.executable, "-m", "connectors", "--config", str(config), "run"]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, env=environment(), cwd=FOLDER, stdout=quiet, stderr=quiet) as daemon:
        try:
            _await(server, index, f"title:{_ROWS}")
            shop.change(1, "beginning")  # the first change waits for the end of the first sync
            _await(server, index, "title:beginning")
            return [_latency(server, index, shop, number) for number in range(2, changes + 2)]
        finally:
            daemon.terminate()
            daemon.wait()
            server.delete_indices(index, ".connectors-*", ".elastic-connectors*")


def _latency(server: SearchServer, index: str, shop: Shop, number: int) -> float:
    time.sleep(0.37 * (number % 5))  # so that changes meet all phases of the schedule
    word = f"lighthouse{number}"
    shop.change(number, word)
    began = time.perf_counter()
    _await(server, index, f"title:{word}")
    return time.perf_counter() - began


def _await(server: SearchServer, index: str, query: str) -> None:
    """Waits until the search has a hit."""
    ends = time.perf_counter() + _PATIENCE
    while time.perf_counter() < ends:
        answer = server.request("GET", f"/{index}/_search?size=0&q={query}")
        if answer.status == 200 and answer.body["hits"]["total"]["value"]:
            return
        time.sleep(0.01)
    raise RuntimeError(f"{query} is not found in {index}")
