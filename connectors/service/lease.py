"""Takes the lease of a connector, keeps it while its job runs, and learns of a wish to cancel the job."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from pathlib import Path
from typing import Final

from connectors.backends.ports import Claim, ClaimRequest, Lease, Store
from connectors.byoc import JobStatus
from connectors.errors import ConnectorsError, LeaseLostError, NotFoundError
from connectors.runtime import Runtime

__all__ = ["LeaseKeeper", "acquire", "claim", "died_here", "own_name"]

#: Sending stops this part of the lease before it ends, for clocks differ and requests take time.
_MARGIN: Final = 0.2
#: Name, host, number of the process, of the namespace that it counts in, and of what it does besides.
_NAME: Final = re.compile(r"(?:.*@)?(?P<host>[^@]+):(?P<pid>[1-9][0-9]{0,8})(?P<space>\.[0-9]+)?(?:/.*)?")
#: The namespace of processes that is no container's, on any Linux.
_OUTERMOST: Final = 0xEFFFFFFC


def own_name(name: str | None = None) -> str:
    """Returns what this process calls itself in leases: no two have the same, also where they share a config file.

    Args:
        name: a name that people gave it.
    """
    place = f"{socket.gethostname()}:{os.getpid()}{_space()}"
    return f"{name}@{place}" if name else place


def _space() -> str:
    """Returns what tells containers apart whose host has one name: each counts its processes from 1."""
    try:
        number = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # no Linux
        return ""
    return "" if number == _OUTERMOST else f".{number}"


async def acquire(store: Store, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
    """Takes the lease; None while another worker's has not expired.

    What a process of this very machine held that is no longer there (`kill -9`) is taken at once.
    """
    lease = await store.acquire(connector_id, worker, ttl=ttl, now=now)
    if lease is None and await _free_of_dead(store, connector_id, ttl=ttl, now=now):
        lease = await store.acquire(connector_id, worker, ttl=ttl, now=now)
    return lease


async def claim(store: Store, wanted: ClaimRequest, worker: str, *, ttl: float, now: float) -> Claim | None:
    """Takes a job with the lease of its connector, see `Store.claim`; from the dead as `acquire` does."""
    claimed = await store.claim(wanted, worker, ttl=ttl, now=now)
    if claimed is None and await _free_of_dead(store, wanted.connector.id, ttl=ttl, now=now):
        claimed = await store.claim(wanted, worker, ttl=ttl, now=now)
    return claimed


async def _free_of_dead(store: Store, connector_id: str, *, ttl: float, now: float) -> bool:
    """Gives a lease back in the name of a process of this machine that is no longer there; False when it is none."""
    holder = (await store.state(connector_id)).worker
    if holder is None or not died_here(holder):
        return False
    inherited = await store.acquire(connector_id, holder, ttl=ttl, now=now)
    if inherited is None:
        return False
    await store.release(inherited)
    return True


def died_here(worker: str) -> bool:
    """Whether the name is one of a process of this machine, and of this container, that has ended."""
    named = _NAME.fullmatch(worker)
    if named is None or (named["host"], named["space"] or "") != (socket.gethostname(), _space()):
        return False
    try:
        os.kill(int(named["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # it lives, and is somebody else's
        return False
    return False


class LeaseKeeper:
    """Renews one lease in the background.

    Attributes:
        cancel_requested: set when the operator asked to cancel the job.
        lost: set when the lease may no longer be ours.
    """

    def __init__(
        self, store: Store, lease: Lease, job_id: str, *, ttl: float, interval: float, runtime: Runtime
    ) -> None:
        self._store = store
        self._lease = lease
        self._job_id = job_id
        self._ttl = ttl
        self._interval = interval
        self._runtime = runtime
        self._why_lost = ""
        self.cancel_requested = asyncio.Event()
        self.lost = asyncio.Event()

    def lease(self) -> Lease:
        """Returns the lease; raises LeaseLostError as soon as it may not be ours."""
        if not self._why_lost and self._runtime.time() > self._lease.expires_at - _MARGIN * self._ttl:
            self._lose("it could not be renewed in time")
        if self._why_lost:
            raise LeaseLostError(self._why_lost)
        return self._lease

    def end(self) -> None:
        """The job is over: whatever of it is still there gets the lease no more."""
        self._why_lost = self._why_lost or f"the job of {self._lease.connector_id} is over"

    def _lose(self, why: str) -> None:
        connector_id = self._lease.connector_id
        self._why_lost = f"this worker no longer holds the lease of {connector_id}, and stops its job: {why}"
        self.lost.set()

    async def run(self, watch_interval: float) -> None:
        """Renews, and looks for the wish to cancel every `watch_interval` seconds, until the lease is lost."""
        renewed_at = self._runtime.monotonic()
        while not self.lost.is_set():
            await self._runtime.sleep(min(watch_interval, self._interval))
            try:
                if self._runtime.monotonic() - renewed_at >= self._interval:
                    self._lease = await self._store.renew(self._lease, ttl=self._ttl, now=self._runtime.time())
                    renewed_at = self._runtime.monotonic()
                if (await self._store.job(self._job_id)).status in {JobStatus.CANCELING, JobStatus.CANCELED}:
                    self.cancel_requested.set()
            except NotFoundError:
                self._lose("its record was removed")
            except LeaseLostError as error:
                self._lose(str(error))
            except ConnectorsError:
                # A store that cannot be reached costs the job only when that goes on for as long as the lease.
                if self._runtime.time() > self._lease.expires_at - _MARGIN * self._ttl:
                    self._lose("it could not be renewed in time")
