"""Operations as the body of a bulk request, and its answer as an outcome for each of them.

A document's bytes are joined into the body as they are; the stamp and the flags of the ingest pipeline are put in
front of its first key, so that nothing is encoded a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from connectors.backends.ports import Failure, FailureKind, IndexHandle, Operation
from connectors.backends.server.faults import access_error, block_error, reason_of
from connectors.errors import ConnectorsError, RetryableError, SuspendSync

__all__ = [
    "EMPTY_ID",
    "ITEM_FILTER",
    "MAX_ID_BYTES",
    "STAMP",
    "IndexMissingError",
    "build",
    "outcome",
    "strip_stamp",
]

#: The key of the stamp in each document.
STAMP: Final = "_sync"
#: What the server is asked to answer for each item.
ITEM_FILTER: Final = "errors,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason"
#: The server takes no empty id, and every text is one for us.
EMPTY_ID: Final = "\0"
#: A longer id makes the server refuse the whole request.
MAX_ID_BYTES: Final = 512

_FLAGS: Final = ("extract_binary_content", "reduce_whitespace", "run_ml_inference")
_HIGHEST_VERSION: Final = 2**63 - 1
_NO_PIPELINE: Final = "pipeline with id ["


def build(
    handle: IndexHandle, operations: Sequence[Operation], first: int, failures: dict[int, Failure]
) -> tuple[bytes, list[int]]:
    """Returns the body of these operations, and the place in the batch of each item in it.

    Args:
        first: place of the first operation.
        failures: gets those that the server could never store, or that would make it refuse the whole request.
    """
    head, tail = _stamp(handle)
    pieces: list[bytes] = []
    positions: list[int] = []
    # One text and one encoding for all that stands before the document's own bytes: this runs for every document.
    for position, (id_, digest, content_hash, version, body) in enumerate(operations, start=first):
        try:
            action = f'{{"_id":{_name(id_)},"version":{_checked(version)},"version_type":"external_gte"}}'
            if body is None:
                pieces.append(f'{{"delete":{action}}}\n'.encode())
            else:
                if not body.startswith(b'{"') or b"\n" in body:
                    body = _tidy(body)  # noqa: PLW2901 - what is sent in its place
                comma = "" if body == b"{}" else ","
                stamp = f'{head}{digest.hex()}","hash":"{content_hash.hex()}{tail}{comma}'
                pieces += (f'{{"index":{action}}}\n{stamp}'.encode(), body[1:], b"\n")
        except (ValueError, TypeError) as error:  # orjson's own error is a TypeError
            failures[position] = Failure(FailureKind.REFUSED, f"The document cannot be stored: {error}")
        else:
            positions.append(position)
    return b"".join(pieces), positions


def _stamp(handle: IndexHandle) -> tuple[str, str]:
    """Returns what all documents of one handle have in front: up to the digest, and from behind the hash."""
    tail = f'","fingerprint":{_json(handle.fingerprint)}}}'
    pipeline = handle.pipeline or {}
    if pipeline.get("name"):
        tail += "".join(f',"_{flag}":{_json(bool(pipeline.get(flag)))}' for flag in _FLAGS)
    return f'{{"{STAMP}":{{"connector":{_json(handle.connector_id)},"id":"', tail


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _name(id_: str) -> str:
    """Returns the id as JSON; raises for one that is no Unicode or that would make the server refuse everything."""
    name = orjson.dumps(id_ or EMPTY_ID)
    if len(name) > MAX_ID_BYTES and len(id_.encode()) > MAX_ID_BYTES:
        raise ValueError(f"its id is longer than {MAX_ID_BYTES} bytes")
    return name.decode()


def _checked(version: int) -> int:
    if not 0 <= version <= _HIGHEST_VERSION:
        raise ValueError("its version is not between 0 and 2^63 - 1")
    return version


def _tidy(body: bytes) -> bytes:
    """Returns the same object without white space; ValueError when it is none."""
    document = orjson.loads(body)
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return orjson.dumps(document)


def strip_stamp(source: str, scan: Callable[[str, int], tuple[Any, int]]) -> bytes | None:
    """Returns a stored document as it was given to us, None when its stamp does not stand in front.

    Args:
        scan: reads the value at a position of a text, and says where it ends.
    """
    start = f'{{"{STAMP}":'
    if not source.startswith(start):
        return None
    _, end = scan(source, len(start))
    rest = source[end:]
    return ("{" + rest.removeprefix(",")).encode()


def outcome(item: Mapping[str, Any], where: str) -> Failure | None:
    """Returns why one item failed, None when it did not.

    Raises:
        SuspendSync: it is nothing about this document: a block, a missing privilege, a missing pipeline.
        IndexMissingError: the index, or our alias of it, is not there.
    """
    (answer,) = item.values()
    error = answer.get("error")
    if error is None:
        if answer.get("result") == "noop":  # the server counts that as success
            return Failure(FailureKind.REFUSED, "the ingest pipeline dropped it; sync rules leave documents out")
        return None
    status = int(answer.get("status", 0))
    kind = error.get("type") if isinstance(error, Mapping) else None
    reason = reason_of(error)
    if status == 409:
        return Failure(FailureKind.SUPERSEDED, reason)
    if (blocked := block_error(error, status, where)) is not None and not isinstance(blocked, RetryableError):
        raise blocked
    if status in {429, 502, 503, 504}:
        return Failure(FailureKind.OVERLOADED, reason)
    if kind in {"index_not_found_exception", "invalid_index_name_exception"}:
        raise IndexMissingError(reason)
    if status in {401, 403}:
        raise access_error(reason, where)
    if _NO_PIPELINE in reason and "does not exist" in reason:
        raise SuspendSync(f"{where}: {reason}. Create it, or take `pipeline` out of the connector's configuration")
    return Failure(FailureKind.REFUSED, reason)


class IndexMissingError(ConnectorsError):
    """The index that was written to is not there; only the destination sees this."""
