"""Opens the ledger of a job: the one on disk where it is true, else one that is made of what the index says."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Final, cast

from connectors.backends.ports import DIGEST_SIZE, IndexHandle
from connectors.runtime import Runtime
from connectors.sync.context import SyncContext
from connectors.sync.ledger import Ledger, LedgerHeader, LedgerLog
from connectors.sync.threads import in_thread_to_its_end
from connectors.utils import file_name

__all__ = ["read_ledger", "rebuild_ledger"]

#: Seconds for which a request may be under way to a server, long after its sender is gone.
_LATEST: Final = 600.0


async def read_ledger(ledger: Ledger, header: LedgerHeader, runtime: Runtime) -> bool:
    """Reads the ledger of the job before, and returns whether it is as good as the index; else it has to be rebuilt.

    It is not when somebody else had the connector in between. He may have died, and a last request of his may land
    after the index was read: then it is read once more, when no such request can be under way any more.
    """
    now = runtime.time()
    if not await in_thread_to_its_end(runtime, ledger.open, header):
        ledger.recheck_at = now + _LATEST if header.epoch else None
        return False
    if ledger.recheck_at is not None and now >= ledger.recheck_at:
        ledger.recheck_at = None
        return False
    return True


async def rebuild_ledger(ledger: Ledger, context: SyncContext, handle: IndexHandle) -> None:
    """Makes the ledger of the stamps that the index has."""
    stamps = LedgerLog(context.folder / f"{file_name(context.job.id)}.stamps")
    try:
        async with aclosing(cast("Any", context.destination.stamps(handle))) as pages:
            async for page in pages:
                number = len(page.digests) // DIGEST_SIZE
                stamps.append(page.digests, page.hashes, list(range(stamps.count, stamps.count + number)))
                context.watch.move()
        await in_thread_to_its_end(context.runtime, ledger.rebuild, stamps)
    finally:
        stamps.close()
