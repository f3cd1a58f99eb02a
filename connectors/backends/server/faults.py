"""What a server's refusal means for the caller, of a whole request and of one item of a bulk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from connectors.errors import ConnectorsError, RetryableError, SuspendSync

__all__ = [
    "ALWAYS_ANSWERED",
    "access_error",
    "block_error",
    "error_of",
    "raise_for",
    "reason_of",
    "retry_after",
    "told",
]

#: Statuses that the caller always sees.
ALWAYS_ANSWERED: Final = frozenset({400, 404, 405, 409, 413})

_LONGEST_REASON: Final = 500
_TOO_LARGE: Final = 413


def raise_for(status: int, headers: Mapping[str, str], body: bytes, *, where: str) -> None:
    """Raises what a failed request means; returns for those that the caller understands.

    Raises:
        RetryableError: the server or something before it is overloaded, is not ready, or did not answer properly.
        SuspendSync: a person has to mend it.
    """
    error = error_of(body)
    reason = reason_of(error) or f"status {status}"
    if status == 401:
        raise SuspendSync(
            f"{where} does not accept our credentials: {reason}. Check api_key, username and password, or bearer_token"
        )
    if (blocked := block_error(error, status, where)) is not None:
        raise blocked
    if status == 403:
        raise access_error(reason, where)
    if status in ALWAYS_ANSWERED:
        if error is None and status != _TOO_LARGE and not _is_object(body):
            raise RetryableError(
                f"{where} answered {status} without a word of the server's own: is something else between us and it? "
                "Check the address, and the path that a proxy puts in front"
            )
        return
    if status == 410:
        raise SuspendSync(
            f"{where} does not offer what is needed: {reason}. See which servers docs/ELASTICSEARCH.md names"
        )
    if 300 <= status < 400:
        raise SuspendSync(
            f"{where} sends us elsewhere ({status}): {headers.get('location', 'it does not say where')}. Write that "
            "address into config.yml"
        )
    raise RetryableError(f"{where} answered {status}: {reason}", retry_after=retry_after(headers))


def access_error(reason: str, where: str) -> SuspendSync:
    """Returns the error for a missing privilege."""
    return SuspendSync(
        f"{where} does not allow this: {reason}. Give our key or user the privileges that docs/ELASTICSEARCH.md lists"
    )


def block_error(error: Any, status: int, where: str) -> ConnectorsError | None:
    """Returns the error for an index or a cluster that is blocked, None when it is not."""
    if not isinstance(error, Mapping) or error.get("type") not in {"cluster_block_exception", "index_closed_exception"}:
        return None
    reason = reason_of(error)
    if error["type"] == "index_closed_exception":
        return SuspendSync(f"{where}: the index is closed: {reason}. Open it (POST /<index>/_open)")
    if status == 503:  # no master yet, state not recovered: it passes
        return RetryableError(f"{where} is not ready: {reason}")
    if status == 429:
        return SuspendSync(
            f"{where} blocks writing because its disk is full: {reason}. Make room on it; the server then takes the "
            "block away by itself"
        )
    return SuspendSync(
        f"{where} blocks this: {reason}. Take the block away (index.blocks.read_only, index.blocks.write, …) and "
        "the sync goes on"
    )


def error_of(body: bytes) -> Any:
    """Returns the `error` of an answer, None when it has none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return answer.get("error") if isinstance(answer, Mapping) else None


def reason_of(error: Any) -> str:
    """Returns `type: reason`, with the first cause where it says more; empty when there is nothing."""
    if not isinstance(error, Mapping):
        return _short(str(error)) if error else ""
    failed = error.get("failed_shards")
    if isinstance(failed, list) and failed and isinstance(failed[0], Mapping) and failed[0].get("reason"):
        return reason_of(failed[0]["reason"])  # "all shards failed" alone says nothing
    reason = str(error.get("reason") or "")
    cause = error.get("caused_by")
    told = str(cause.get("reason") or "") if isinstance(cause, Mapping) else ""
    text = f"{reason} ({told})" if told and told not in reason else reason
    kind = error.get("type")
    return _short(f"{kind}: {text}" if kind else text)


def told(reason: str) -> str:
    """Returns the reason of a refusal, with what to do about it where there is something that holds always."""
    if "serverless mode" in reason:
        return f"{reason}. Give our key the privilege monitor: by it a serverless project is known as one"
    return reason


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds of a `Retry-After` header, given as such or as a date."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "…"
