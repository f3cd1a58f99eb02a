"""A transport that answers what a test says, and remembers what it was sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from connectors.backends.server import Client, Product, Response

__all__ = ["FakeTransport", "Sent", "answer", "fake_client"]


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    timeout: float

    @property
    def json(self) -> Any:
        """Its body as a value."""
        return orjson.loads(self.body or b"null")


def answer(status: int = 200, body: Any = None, **headers: str) -> Response:
    """Returns an answer; a body that is no bytes becomes JSON, `_` in names of headers becomes `-`."""
    data = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
    return Response(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


class FakeTransport:
    """Always gives the same answer, or what a function says to each request."""

    def __init__(self, answers: Response | Callable[[Sent], Response]) -> None:
        self.sent: list[Sent] = []
        self._answers = answers

    async def send(
        self, method: str, target: str, *, headers: Mapping[str, str], body: bytes | None, timeout: float
    ) -> Response:
        sent = Sent(method, target, dict(headers), body, timeout)
        self.sent.append(sent)
        return self._answers if isinstance(self._answers, Response) else self._answers(sent)

    async def close(self) -> None:
        pass


def fake_client(
    product: Product, answers: Response | Callable[[Sent], Response], **options: Any
) -> tuple[Client, FakeTransport]:
    """Returns a client, and what it sends to."""
    transport = FakeTransport(answers)
    return Client(transport, product, url="http://search", **options), transport
