"""e. MySQL, PostgreSQL, MongoDB and a directory to a real Elasticsearch: documents per second, and whose CPU it is.

A full sync of 300-byte rows (of 1 KB texts for the directory) by the whole daemon, into a new index, in this process,
which samples its stack. Source server, search server and this process share the machine's cores.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from bench.figures import Bench, working_folder, write_config
from bench.sampling import Profile, sampled, told
from bench.shops import SHOPS, DirectoryShop, Shop
from connectors.app import open_application, read_config
from tests.servers.search import SearchServer, available

__all__ = ["measure"]


def measure(scale: float) -> Bench:
    """Measures; at scale 1 with 100,000 rows each, and 20,000 files."""
    bench = Bench("e. Sources to Elasticsearch")
    if (reason := available("es8")) is not None:
        bench.note(f"skipped: {reason}")
        return bench
    with SearchServer("es8") as server:
        shops: tuple[type[Shop], ...] = (*SHOPS, DirectoryShop)
        for shop in shops:
            if (reason := shop.obstacle()) is not None:
                bench.note(f"{shop.service_type} skipped: {reason}")
                continue
            number = int((20_000 if shop is DirectoryShop else 100_000) * scale)
            with working_folder() as folder:
                _measure(bench, server, shop, folder, number)
    return bench


def _measure(bench: Bench, server: SearchServer, shop_class: type[Shop], folder: Path, number: int) -> None:
    name = shop_class.service_type
    with shop_class(folder) as shop:
        shop.fill(number)
        connector = {"id": name, "service_type": name, "index": f"bench-{name}", "configuration": shop.configuration()}
        config = write_config(
            folder, [connector], elasticsearch={"url": server.url}, extraction={"enabled": name == "directory"}
        )
        seconds, profile = asyncio.run(_sync(config, number))
    server.delete_indices(f"bench-{name}", ".connectors-*", ".elastic-connectors*")
    bench.add(f"{name}: {number:,} documents", number / seconds, "documents/s")
    bench.add(f"{name}: CPU of the sync's process", (profile.main + profile.threads) / number * 1e6, "µs/document")
    bench.note(f"{name}, µs/document: {told(profile.parts(), number)}")


async def _sync(config: Path, number: int) -> tuple[float, Profile]:
    """Syncs once; returns the seconds and where the CPU time went."""
    async with open_application(read_config(config)) as application:
        with sampled() as profile:
            began = time.perf_counter()
            (job,) = await application.daemon.run_once(asyncio.Event())
            seconds = time.perf_counter() - began
    assert job.status == "completed", job.error
    assert job.metadata["counters"]["indexed"] == number, job.metadata
    return seconds, profile
