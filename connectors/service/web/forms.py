"""Forms of the page: how they are read, and where their senders go afterwards."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from connectors.service.web.security import local_path

__all__ = ["read_form", "sent_back"]


async def read_form(request: Request) -> dict[str, str]:
    """Reads a form; the Guard has limited its size."""
    try:
        return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), max_num_fields=20))
    except ValueError:
        raise HTTPException(400, "The form has too many fields") from None


def sent_back(form: dict[str, str], done: str) -> Response:
    """Sends the visitor back to the page with the button, which then tells what was done."""
    return RedirectResponse(f"{local_path(form.get('back', '/')).partition('?')[0]}?done={done}", status_code=303)
