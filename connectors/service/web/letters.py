"""Dead letters on the page: one with its document, and what is done with them."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from connectors.logger import mask
from connectors.runtime import Runtime
from connectors.service.letters import document_text
from connectors.service.operations import Operations
from connectors.service.web.forms import read_form, sent_back

__all__ = ["LetterViews"]


class LetterViews:
    """The handlers of dead letters. Connector and document are named by parameters: ids may have any character."""

    def __init__(self, operations: Operations, runtime: Runtime) -> None:
        self._operations = operations
        self._runtime = runtime

    async def letter(self, request: Request) -> dict[str, Any]:
        """One letter with its document."""
        connector = await self._operations.connector(request.query_params.get("connector", ""))
        letter = await self._operations.store.dead_letter(connector.id, request.query_params.get("id", ""))
        text = None
        if letter.body is not None:  # which may be large
            text = await self._runtime.in_thread(document_text, letter.body)
        return {"connector": connector, "letter": letter, "reason": mask(letter.reason), "document": text}

    async def question(self, request: Request) -> dict[str, Any]:
        """Asks whether to drop all letters of a connector."""
        connector = await self._operations.connector(request.query_params.get("connector", ""))
        return {"connector": connector, "letters": await self._operations.store.count_dead_letters(connector.id)}

    async def replay(self, request: Request) -> Response:
        """Sends one letter again, or all of a connector."""
        form = await read_form(request)
        connector = await self._operations.connector(form.get("connector", ""))
        outcomes = await self._operations.letters.replay(connector, _wanted(form))
        return sent_back(form, "replay" if all(each.gone for each in outcomes) else "replay-in-part")

    async def drop(self, request: Request) -> Response:
        """Forgets one letter, or all of a connector."""
        form = await read_form(request)
        connector = await self._operations.connector(form.get("connector", ""))
        await self._operations.letters.drop(connector.id, _wanted(form))
        return sent_back(form, "drop")


def _wanted(form: dict[str, str]) -> list[str] | None:
    """Returns which letters are meant, None for all."""
    if ("id" in form) == ("all" in form):
        raise HTTPException(400, "The form names no dead letter")
    return [form["id"]] if "id" in form else None
