"""Holds a connector's lease for what happens outside a job: no sync of the connector runs meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from secrets import token_hex
from typing import Final

from connectors.backends.ports import Lease, Store
from connectors.errors import ConflictError, ConnectorsError, LeaseLostError, RetryableError
from connectors.runtime import Runtime
from connectors.service.lease import acquire

__all__ = ["hold"]

#: Seconds for which nobody else may run the connector after the process died that holds it.
_TTL: Final = 60.0
#: Seconds between two looks whether it is free.
_LOOK: Final = 0.2
#: Sending stops so many seconds before the lease ends, for clocks differ and requests take time.
_MARGIN: Final = 12.0


@asynccontextmanager
async def hold(
    store: Store, connector_id: str, worker: str, runtime: Runtime, *, patience: float = 0.0
) -> AsyncIterator[Callable[[], Lease]]:
    """Takes the lease, renews it within the block, and gives it back.

    The claim's new epoch alone makes the ledger invalid, so the next sync reads what the index holds.

    Args:
        worker: name of this process.
        patience: seconds for which somebody else's job is waited for.

    Yields:
        What returns the lease, and raises LeaseLostError as soon as it may not be ours: to be asked before each write.

    Raises:
        ConflictError: somebody else holds it.
    """
    # A name of its own, for the worker of this very process is somebody else.
    owner = f"{worker}/{token_hex(4)}"
    ends = runtime.monotonic() + patience
    while (lease := await acquire(store, connector_id, owner, ttl=_TTL, now=runtime.time())) is None:
        if runtime.monotonic() < ends:
            await runtime.sleep(_LOOK)
            continue
        raise ConflictError(f"a sync of {connector_id} is running; cancel it or wait for its end, then try again")
    held = _Held(store, lease, runtime)
    keeping = asyncio.create_task(held.keep())
    try:
        yield held.lease
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])
        with suppress(RetryableError):  # it ends by itself, and what was to be done is done
            await store.release(lease)


class _Held:
    def __init__(self, store: Store, lease: Lease, runtime: Runtime) -> None:
        self._store = store
        self._lease = lease
        self._runtime = runtime
        self._lost = False

    def lease(self) -> Lease:
        """Returns the lease; raises LeaseLostError as soon as it may not be ours."""
        if self._lost or self._runtime.time() > self._lease.expires_at - _MARGIN:
            raise LeaseLostError(
                f"the lease of {self._lease.connector_id} could not be kept, so nothing more was written; try again"
            )
        return self._lease

    async def keep(self) -> None:
        """Renews it until it is lost."""
        while True:
            await self._runtime.sleep(_TTL / 3)
            try:
                self._lease = await self._store.renew(self._lease, ttl=_TTL, now=self._runtime.time())
            except LeaseLostError:
                self._lost = True
                return
            except ConnectorsError:
                continue  # tried again before it ends, and then `lease` says so
