"""What the jobs of a worker share, and how a lease is given back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectors.backends.ports import Destination, Lease, Store
from connectors.config import ServiceConfig, SyncConfig
from connectors.errors import SuspendSync
from connectors.runtime import Runtime
from connectors.sync.context import Extractor, Observer
from connectors.sync.ledger import carry_ledger_over
from connectors.sync.limits import FlightLimit
from connectors.sync.patience import patiently
from connectors.utils import file_name

__all__ = ["Services", "give_back", "keep_ledger"]

#: Seconds for which giving a lease back is tried.
_RELEASING: Final = 5.0


@dataclass(slots=True)
class Services:
    """What all jobs of a worker share.

    Attributes:
        told: connector → the last error that the log of this process told of it.
    """

    destination: Destination
    store: Store
    service: ServiceConfig
    sync: SyncConfig
    runtime: Runtime
    limit: FlightLimit
    data_dir: Path
    worker: str
    extractor: Extractor | None = None
    observer: Observer | None = None
    told: dict[str, str] = field(default_factory=dict)

    def folder(self, connector_id: str) -> Path:
        """Returns where the ledger of a connector lives."""
        return self.data_dir / "ledgers" / file_name(connector_id)


async def keep_ledger(services: Services, lease: Lease) -> None:
    """Keeps the ledger true for the next claim, when nothing was written under this one; before it is given back."""
    folder = services.folder(lease.connector_id)
    with suppress(OSError):  # a full disk, say: the next job reads what the index holds
        await services.runtime.in_thread(carry_ledger_over, folder, lease.epoch - 1, lease.epoch)


async def give_back(services: Services, lease: Lease, *, written: bool) -> None:
    """Releases a lease. When nothing was `written` under it, the ledger stays true for the next claim.

    One that cannot be given back for some seconds ends by itself.
    """
    try:
        if not written:
            await keep_ledger(services, lease)
    finally:
        with suppress(SuspendSync):
            await patiently(
                lambda: services.store.release(lease),
                what="giving the lease back",
                seconds=_RELEASING,
                runtime=services.runtime,
            )
