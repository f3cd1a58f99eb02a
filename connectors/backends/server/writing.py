"""One batch on its way to the server: in which parts it goes, and what became of each operation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from connectors.backends.ports import Failure, FailureKind, IndexHandle, Operation
from connectors.backends.server.bulk import EMPTY_ID, ITEM_FILTER, build, outcome
from connectors.backends.server.client import NDJSON, Client, Response
from connectors.backends.server.faults import retry_after
from connectors.backends.server.names import path_of, write_alias
from connectors.errors import RetryableError

__all__ = ["Write"]

#: What is asked for as well where a pipeline may drop documents.
_PIPED_FILTER: Final = f"{ITEM_FILTER},items.*._id,items.*.result"


class Write:
    """One batch.

    Args:
        piped: whether the documents pass an ingest pipeline, which may refuse them, or drop them without a word.

    Attributes:
        failures: by position in the batch; what is not named there is acknowledged.
        retry_after: seconds, where the server names a time to operations that it has no room for.
        too_large: size of the smallest body that the server refused for its size.
    """

    def __init__(self, client: Client, handle: IndexHandle, *, piped: bool) -> None:
        self.failures: dict[int, Failure] = {}
        self.retry_after: float | None = None
        self.too_large: int | None = None
        self._client = client
        self._handle = handle
        self._piped = piped
        self._where = f"{client.product.name} {client.url}"

    async def send(self, operations: Sequence[Operation]) -> None:
        """Writes and deletes in the given order.

        Raises:
            IndexMissingError: the index, or our alias of it, is not there.
            RetryableError: the outcomes are not known; all of it may be sent again.
        """
        if self._piped and not self._client.product.keeps_order:
            first = 0
            for part in _without_repetition(operations):
                await self._send(part, first)
                first += len(part)
        else:
            await self._send(operations, 0)

    async def _send(self, operations: Sequence[Operation], first: int) -> None:
        """Sends operations of which the first has this position.

        Those that are too large for one request go in two halves, in order; a document that is too large alone is
        refused.
        """
        body, positions = build(self._handle, operations, first, self.failures)
        if not positions:
            return
        response = await self._request(body)
        if response.status == 413:
            self.too_large = min(len(body), self.too_large or len(body))
            if len(operations) == 1:
                self.failures[first] = Failure(
                    FailureKind.REFUSED,
                    f"the document is too large for a request ({len(body)} bytes; see http.max_content_length)",
                )
                return
            middle = len(operations) // 2
            await self._send(operations[:middle], first)
            await self._send(operations[middle:], first + middle)
            return
        if not response.ok:
            raise self._client.refused(response, f"a bulk request for {self._handle.index}")
        answer = response.json()
        items = answer.get("items") if isinstance(answer, dict) else None
        if not isinstance(items, list) or len(items) != len(positions):
            raise RetryableError(f"{self._where} did not answer a bulk request item by item")
        if self._piped:
            if not self._client.product.keeps_order:
                items = _in_order(items, [operations[position - first].id for position in positions])
            self._settle(positions, items, response)
        elif answer.get("errors"):
            self._settle(positions, items, response)

    def _settle(self, positions: Sequence[int], items: Sequence[Mapping[str, Any]], response: Response) -> None:
        overloaded = False
        for position, item in zip(positions, items, strict=True):
            if (failure := outcome(item, self._where)) is not None:
                self.failures[position] = failure
                overloaded = overloaded or failure.kind is FailureKind.OVERLOADED
        if overloaded and (wait := retry_after(response.headers)) is not None:
            self.retry_after = max(wait, self.retry_after or 0.0)

    async def _request(self, body: bytes) -> Response:
        handle = self._handle
        params = {"require_alias": "true", "filter_path": _PIPED_FILTER if self._piped else ITEM_FILTER}
        if handle.pipeline and handle.pipeline.get("name"):
            params["pipeline"] = str(handle.pipeline["name"])
        return await self._client.request(
            "POST",
            f"{path_of(write_alias(handle.index, handle.uuid))}/_bulk",
            params=params,
            body=body,
            content_type=NDJSON,
        )


def _without_repetition(operations: Sequence[Operation]) -> Iterator[Sequence[Operation]]:
    """Yields the operations in parts in which each id stands once."""
    begin, seen = 0, set[str]()
    for position, operation in enumerate(operations):
        if operation.id in seen:
            yield operations[begin:position]
            begin, seen = position, set()
        seen.add(operation.id)
    yield operations[begin:]


def _in_order(items: list[Mapping[str, Any]], ids: list[str]) -> list[Mapping[str, Any]]:
    """Returns the items as the operations were sent; as they are where a pipeline gave documents other ids."""
    by_id = {answer.get("_id"): item for item in items for answer in item.values()}
    ordered = [by_id.get(id_ or EMPTY_ID) for id_ in ids]
    found = [item for item in ordered if item is not None]
    return found if len(found) == len(items) else items
