"""Epoch, lease and data of each connector: one document each, changed by compare-and-set only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from xxhash import xxh3_128_hexdigest

from connectors.backends.ports import ConnectorState, Lease
from connectors.backends.server.documents import Contention, Document, DocumentIndex
from connectors.errors import LeaseLostError, RetryableError

__all__ = ["States", "key", "lost", "state_of", "taken", "with_data"]

_TRIES: Final = 60
_LONGEST_ID: Final = 400


def key(kind: str, name: str) -> str:
    """Returns the `_id` of a document of ours; a name that is too long for one is hashed."""
    return f"{kind}:{name if len(name.encode()) <= _LONGEST_ID else xxh3_128_hexdigest(name.encode())}"


def state_of(connector_id: str, document: Document | None) -> ConnectorState:
    """Reads a state; an empty one where there is none."""
    if document is None:
        return ConnectorState(connector_id)
    source = document.source
    return ConnectorState(
        connector_id, int(source["epoch"]), source["worker"], float(source["expires_at"]), source["data"]
    )


def with_data(state: ConnectorState, changes: Mapping[str, Any] | None) -> ConnectorState:
    """Returns the state with these keys of its data changed; None removes one."""
    data = {name: value for name, value in {**state.data, **(changes or {})}.items() if value is not None}
    return replace(state, data=data)


def taken(state: ConnectorState, worker: str, *, ttl: float, now: float) -> ConnectorState | None:
    """Returns the state once this worker has taken the lease; None while another worker's has not expired."""
    if state.worker not in {None, worker} and state.expires_at > now:
        return None
    return replace(state, epoch=state.epoch + 1, worker=worker, expires_at=now + ttl)


def lost(lease: Lease) -> LeaseLostError:
    """Returns the error for a lease that is no longer ours."""
    return LeaseLostError(
        f'The worker {lease.worker} no longer owns the connector "{lease.connector_id}" (epoch {lease.epoch}): another '
        "one took it over after the lease expired, or it was removed"
    )


class States:
    """The states of all connectors, in one index."""

    def __init__(self, index: DocumentIndex) -> None:
        self.index = index

    async def get(self, connector_id: str) -> ConnectorState:
        """Returns a connector's state."""
        return state_of(connector_id, await self.index.get(key("connector", connector_id)))

    async def put(self, old: Document | None, state: ConnectorState) -> Document | None:
        """Writes a state over exactly what was read; None when it was changed meanwhile."""
        source = {
            "kind": "connector",
            "connector_id": state.connector_id,
            "epoch": state.epoch,
            "worker": state.worker,
            "expires_at": state.expires_at,
            "data": state.data,
        }
        # Never searched for, so nobody has to wait for a refresh.
        if old is None:
            return await self.index.create(key("connector", state.connector_id), source, refresh=False)
        return await self.index.replace(old, source, refresh=False)

    async def change(
        self, connector_id: str, change: Callable[[ConnectorState], ConnectorState | None]
    ) -> ConnectorState | None:
        """Changes a state by compare-and-set, as often as somebody else is faster; None when `change` wants none."""
        contention = Contention()
        for _ in range(_TRIES):
            document = await self.index.get(key("connector", connector_id))
            changed = change(state_of(connector_id, document))
            if changed is None or await self.put(document, changed) is not None:
                return changed
            await contention.pause()
        raise RetryableError(f'the state of "{connector_id}" is changed by others all the time')

    async def acquire(self, connector_id: str, worker: str, *, ttl: float, now: float) -> Lease | None:
        """Takes the lease with the next epoch; None while another worker's has not expired."""
        state = await self.change(connector_id, lambda state: taken(state, worker, ttl=ttl, now=now))
        return None if state is None else Lease(connector_id, worker, state.epoch, state.expires_at)

    async def renew(self, lease: Lease, *, ttl: float, now: float) -> Lease:
        """Extends it; raises LeaseLostError when it is no longer ours."""

        def extend(state: ConnectorState) -> ConnectorState:
            if (state.epoch, state.worker) != (lease.epoch, lease.worker):
                raise lost(lease)
            return replace(state, expires_at=now + ttl)

        await self.change(lease.connector_id, extend)
        return replace(lease, expires_at=now + ttl)

    async def release(self, lease: Lease) -> None:
        """Gives it back; nothing happens when it is no longer ours."""

        def give(state: ConnectorState) -> ConnectorState | None:
            if (state.epoch, state.worker) != (lease.epoch, lease.worker):
                return None
            return replace(state, worker=None, expires_at=0.0)

        await self.change(lease.connector_id, give)

    async def fence(self, connector_id: str) -> None:
        """Takes everything but the epoch away, which goes one further: what a worker still does here is refused."""

        def close(state: ConnectorState) -> ConnectorState | None:
            return ConnectorState(connector_id, state.epoch + 1) if state.epoch else None

        await self.change(connector_id, close)
