"""What can go wrong between a client and a search server: faults for `FaultProxy`, and the rules that set them off."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from random import Random
from typing import Any, Final, Literal, NamedTuple, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

__all__ = [
    "Cut",
    "Delay",
    "Drop",
    "Dropped",
    "Exchange",
    "Fault",
    "Garbage",
    "Headers",
    "RefuseItems",
    "Reply",
    "Request",
    "Respond",
    "Rule",
    "any_request",
    "bulk",
]

Headers = tuple[tuple[bytes, bytes], ...]
_JSON: Final[Headers] = ((b"content-type", b"application/json"),)


class Request(NamedTuple):
    """A request as it came; `target` is the path with its query."""

    method: str
    target: str
    headers: Headers
    body: bytes

    @property
    def content(self) -> bytes:
        """The body, decompressed."""
        return gzip.decompress(self.body) if (b"content-encoding", b"gzip") in self.headers else self.body


class Reply(NamedTuple):
    """An answer; `headers` without the body's length, which is added."""

    status: int
    headers: Headers
    body: bytes

    def raw(self) -> bytes:
        """Returns the bytes of the whole answer."""
        head = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}".encode()]
        lines = (*self.headers, (b"content-length", str(len(self.body)).encode()))
        return b"\r\n".join([*head, *(name + b": " + value for name, value in lines), b"", self.body])


class Dropped(Exception):  # noqa: N818 - not an error: the way a fault says that the connection ends here
    """The connection is to be closed after these bytes."""

    def __init__(self, sent: bytes = b"") -> None:
        super().__init__()
        self.sent = sent


class Exchange(Protocol):
    """One request on its way, as a fault sees it."""

    request: Request

    async def forward(self, request: Request | None = None) -> Reply:
        """Sends the request, or another in its place, to the server and returns what that answers."""
        ...

    async def forward_half(self) -> None:
        """Sends the head and half of the body to the server, and hangs up there."""
        ...


class Fault(Protocol):
    """Something that goes wrong with one request."""

    async def apply(self, exchange: Exchange) -> Reply:
        """Returns the answer for the client; raises Dropped to hang up instead."""
        ...


@dataclass(frozen=True, slots=True)
class Drop:
    """Hangs up before the server gets anything, midway through the request, or after it did the work: then its answer
    is lost."""

    when: Literal["before", "midway", "after"]

    async def apply(self, exchange: Exchange) -> Reply:
        if self.when == "midway":
            await exchange.forward_half()
        elif self.when == "after":
            await exchange.forward()
        raise Dropped


@dataclass(frozen=True, slots=True)
class Delay:
    """Holds back the request, or the answer, for some seconds."""

    seconds: float
    what: Literal["request", "answer"] = "request"

    async def apply(self, exchange: Exchange) -> Reply:
        if self.what == "request":
            await asyncio.sleep(self.seconds)
            return await exchange.forward()
        reply = await exchange.forward()
        await asyncio.sleep(self.seconds)
        return reply


@dataclass(frozen=True, slots=True)
class Respond:
    """Answers 429, 503, 413 … itself; the server gets nothing. `body` is sent as JSON, a text as it is."""

    status: int
    retry_after: int | None = None  # seconds
    body: Any = None

    async def apply(self, exchange: Exchange) -> Reply:
        waiting = () if self.retry_after is None else ((b"retry-after", str(self.retry_after).encode()),)
        if isinstance(self.body, str):
            return Reply(self.status, ((b"content-type", b"text/html"), *waiting), self.body.encode())
        body = {"error": {"type": "fault", "reason": "made by a test"}} if self.body is None else self.body
        return Reply(self.status, _JSON + waiting, json.dumps(body | {"status": self.status}).encode())


@dataclass(frozen=True, slots=True)
class Cut:
    """Lets the server do the work, promises its whole answer and hangs up after a part of the body."""

    share: float = 0.5

    async def apply(self, exchange: Exchange) -> Reply:
        reply = await exchange.forward()
        raw = reply.raw()
        raise Dropped(raw[: len(raw) - len(reply.body) + int(len(reply.body) * self.share)])


@dataclass(frozen=True, slots=True)
class Garbage:
    """Lets the server do the work, and answers nonsense: 200 with a body that is no JSON, or no HTTP at all."""

    http: bool = True

    async def apply(self, exchange: Exchange) -> Reply:
        await exchange.forward()
        if not self.http:
            raise Dropped(b"\x16\x03\x01 this is not the protocol that you are looking for\r\n\r\n")
        return Reply(200, _JSON, b'{"took": 3, "errors": fal')


@dataclass(frozen=True, slots=True)
class RefuseItems:
    """Refuses single items of a bulk request: the server gets the others, and each answer is in its place.

    Which ones depends on their ids alone, not on how they are batched: `share` of all, chosen by `seed`, or just `ids`.

    Attributes:
        status: 429 for what may be sent again, 400 for what is never taken.
        each: how often one id is refused; None refuses it for ever.
    """

    status: int = 429
    share: float = 0.1
    ids: Collection[str] | None = None
    each: int | None = 1
    seed: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def refuses(self, id_: str) -> bool:
        """Says whether the document is one of those that are refused (at least once)."""
        if self.ids is not None:
            return id_ in self.ids
        return zlib.crc32(f"{self.seed}:{id_}".encode()) < self.share * 2**32

    async def apply(self, exchange: Exchange) -> Reply:
        items = [(*item, self._refuse(item.action)) for item in _items(exchange.request.content)]
        kept = b"".join(raw for raw, _, refused in items if not refused)
        if len(kept) == len(exchange.request.content):
            return await exchange.forward()
        answer: dict[str, Any] = {"took": 0, "errors": False, "items": []}
        if kept:
            reply = await exchange.forward(_plain(exchange.request, kept))
            if reply.status != 200:
                return reply
            answer = json.loads(reply.body)
        done = iter(answer["items"])
        answer["items"] = [self._refusal(action) if refused else next(done) for _, action, refused in items]
        answer["errors"] = True
        return Reply(200, _JSON, json.dumps(answer).encode())

    def _refuse(self, action: dict[str, Any]) -> bool:
        id_ = next(iter(action.values())).get("_id")
        if id_ is None or not self.refuses(id_) or (self.each is not None and self.refused[id_] >= self.each):
            return False
        self.refused[id_] += 1
        return True

    def _refusal(self, action: dict[str, Any]) -> dict[str, Any]:
        ((verb, target),) = action.items()
        error = (
            {"type": "es_rejected_execution_exception", "reason": "rejected execution: queue capacity reached"}
            if self.status == 429
            else {"type": "mapper_parsing_exception", "reason": "failed to parse"}
        )
        return {verb: {"_index": target.get("_index"), "_id": target["_id"], "status": self.status, "error": error}}


class _Item(NamedTuple):
    raw: bytes
    action: dict[str, Any]


def _items(body: bytes) -> Iterator[_Item]:
    lines = iter(body.splitlines(keepends=True))
    for line in lines:
        if not line.strip():
            continue
        action = json.loads(line)
        yield _Item(line if "delete" in action else line + next(lines), action)


def _plain(request: Request, body: bytes) -> Request:
    """Returns the request with this body, uncompressed, and such that the answer has an entry for each item."""
    unwanted = {b"content-encoding", b"accept-encoding"}
    parts = urlsplit(request.target)
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "filter_path"]
    return request._replace(
        target=urlunsplit(parts._replace(query=urlencode(query))),
        headers=tuple(header for header in request.headers if header[0] not in unwanted),
        body=body,
    )


def any_request(method: str, path: str) -> bool:
    """Matches every request."""
    return True


def bulk(method: str, path: str) -> bool:
    """Matches bulk requests."""
    return path.endswith("/_bulk")


@dataclass(slots=True)
class Rule:
    """When a fault happens.

    Attributes:
        match: gets method and path, without query and prefix.
        skip: so many matching requests pass first.
        times: so often it happens; None is for ever.
        chance: how likely it is for each matching request.
    """

    fault: Fault
    match: Callable[[str, str], bool] = any_request
    skip: int = 0
    times: int | None = 1
    chance: float = 1.0

    def applies(self, method: str, path: str, random: Random) -> bool:
        """Says whether the fault happens to this request, and counts it."""
        if self.times == 0 or not self.match(method, path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if random.random() >= self.chance:
            return False
        if self.times is not None:
            self.times -= 1
        return True
