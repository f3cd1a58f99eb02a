"""What has to hold on real servers, at size: a large sync through faults, and daemons that share the work."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import yaml

from connectors.app import open_application, read_config
from connectors.backends.ports import IndexHandle
from tests.servers.faults import Cut, Delay, Drop, Fault, Garbage, RefuseItems, Respond, Rule, bulk
from tests.servers.fixtures import SearchServers
from tests.servers.proxy import FaultProxy
from tests.servers.search import SearchServer
from tests.support.backends import RECORDS, open_backend
from tests.support.generated import generated

pytestmark = pytest.mark.server

DOCUMENTS: Final = 200_000
CONNECTORS: Final = 40
ROOT: Final = Path(__file__).parents[2]
FAULTS: Final[tuple[tuple[Fault, float], ...]] = (
    (Drop("before"), 0.04),
    (Drop("after"), 0.04),
    (Delay(0.2), 0.05),
    (Respond(429), 0.06),
    (Respond(503), 0.04),
    (Cut(), 0.04),
    (Garbage(), 0.03),
    (RefuseItems(429, share=0.1), 0.1),
)


@pytest.fixture(params=["es8", "os2"])
def server(request: pytest.FixtureRequest, search_servers: SearchServers) -> SearchServer:
    return search_servers.get(request.param)


def write_config(folder: Path, server: SearchServer, url: str, connectors: list[dict[str, Any]]) -> Path:
    product = server.flavour.product
    path = folder / "config.yml"
    settings = {
        "service": {"poll_interval": "200ms", "heartbeat_interval": "1s", "lease": "5s", "max_concurrent_syncs": 3},
        "web": {"enabled": False},
        "sync": {"batch_bytes": "500KB"},
        "sources": {"generated": "tests.support.generated:GeneratedDataSource"},
        "connectors": connectors,
        product: {"url": url, **RECORDS},
    }
    path.write_text(yaml.safe_dump(settings), "utf-8")
    return path


def connector(name: str, count: int, **more: Any) -> dict[str, Any]:
    settings = {"count": count, "prefix": f"{name}-"}
    return {"id": name, "service_type": "generated", "index": f"accept-{name}", "configuration": settings, **more}


@pytest.mark.timeout(300)
async def test_a_large_sync_through_faults_is_exact(tmp_path: Path, server: SearchServer) -> None:
    rules = [Rule(fault, match=bulk, times=None, chance=chance) for fault, chance in FAULTS]
    async with FaultProxy(server.url, rules, seed=2026) as proxy, open_backend(server) as backend:
        path = write_config(tmp_path, server, proxy.url, [connector("large", DOCUMENTS)])
        async with open_application(await asyncio.to_thread(read_config, path)) as application:
            (job,) = await application.daemon.run_once(asyncio.Event())
        assert (job.status, job.error) == ("completed", None)
        counters = job.metadata["counters"]
        assert counters["read"] == counters["indexed"] + counters["superseded"] == DOCUMENTS
        assert sum(proxy.counts.values()) > 10, "the faults took place"
        info = await backend.destination.info("accept-large")
        assert info is not None
        handle = IndexHandle("accept-large", info.uuid, "large", "")
        held = sum([len(page.digests) // 16 async for page in backend.destination.stamps(handle)])
        assert held == DOCUMENTS == await backend.destination.count("accept-large", "large")
        for start in range(0, DOCUMENTS, 2000):
            ids = [f"large-{number}" for number in range(start, start + 2000)]
            found = await backend.destination.fetch("accept-large", ids)
            for number, document_id in enumerate(ids, start):
                assert orjson.loads(found[document_id]) == generated(number)


@contextmanager
def daemon(path: Path, log: Path, data: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One daemon with local files of its own, as if it were another machine."""
    config = yaml.safe_load(path.read_text("utf-8"))
    config["service"]["data_dir"] = str(data)
    own = path.with_name(f"{data.name}.yml")
    own.write_text(yaml.safe_dump(config), "utf-8")
    with log.open("wb") as file:
        command = [sys.executable, "-m", "connectors", "--config", str(own), "run"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file)
    try:
        yield process
    finally:
        process.kill()
        process.wait(20)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("killed", [False, True], ids=["both live", "one is killed"])
async def test_two_daemons_run_each_of_forty_connectors_once(
    tmp_path: Path, server: SearchServer, killed: bool
) -> None:
    names = [f"c{number:02}" for number in range(CONNECTORS)]
    declared = [connector(name, 1500, scheduling={"full": "every 1d"}) for name in names]
    async with open_backend(server) as backend:
        path = write_config(tmp_path, server, server.url, declared)
        with ExitStack() as stack:
            daemons = [
                stack.enter_context(daemon(path, tmp_path / f"{name}.log", tmp_path / name)) for name in ("one", "two")
            ]
            deadline = time.monotonic() + 180
            dead = False
            while True:
                jobs = await backend.store.jobs(limit=1000)
                done = [job for job in jobs if job.status == "completed"]
                if killed and not dead and len(done) >= 5:
                    daemons[0].send_signal(signal.SIGKILL)
                    dead = True
                if len({job.connector_id for job in done}) == CONNECTORS:
                    break
                assert time.monotonic() < deadline, f"only {len(done)} of {CONNECTORS}: {[job.status for job in jobs]}"
                await asyncio.sleep(0.3)
            assert len({job.worker_hostname for job in done}) == 2, "both took part"
        assert sorted(job.connector_id for job in jobs) == names, "each job ran once"
        for name in names:
            assert await backend.destination.count(f"accept-{name}", name) == 1500
        assert all(job.metadata["counters"]["read"] == 1500 for job in jobs)
