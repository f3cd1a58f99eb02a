"""What the jobs of a worker share, and how a lease is given back."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from connectors.backends.ports import Destination, Lease, Store
from connectors.config import ServiceConfig, SyncConfig
from connectors.errors import SuspendSync, SyncError
from connectors.runtime import Runtime
from connectors.sync.context import Extractor, Observer
from connectors.sync.ledger import carry_ledger_over
from connectors.sync.limits import FlightLimit
from connectors.sync.patience import patiently
from connectors.utils import file_name

__all__ = ["Services", "disk_error", "give_back", "keep_ledger"]

#: Only who writes meets these: a source does not.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
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


def disk_error(error: OSError, folder: Path) -> SyncError | None:
    """Returns what an error means that came while a ledger in `folder` was in use; None if it is not about that."""
    named = error.filename
    ours = isinstance(named, str | Path) and Path(named).is_relative_to(folder)
    if not ours and error.errno not in _FULL:
        return None
    return SyncError(
        f"{named if ours else folder} cannot be used: {error.strerror}. Make room on its disk, or give this user the "
        "right to write there; nothing is lost, and the next sync does what this one did not"
    )


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
