"""Templates and static files of the page, read once at start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template, pass_context
from jinja2.runtime import Context
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from connectors import __version__
from connectors.runtime import Runtime
from connectors.service.web import words
from connectors.utils import format_size

__all__ = ["Assets", "Renderer"]

_FOLDER: Final = Path(__file__).parent
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOREVER: Final = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str
    version: str


class Assets:
    """The static files, in memory; each address carries a digest of its content, so that browsers may keep it."""

    def __init__(self) -> None:
        self._files: dict[str, _Asset] = {}
        for path in sorted((_FOLDER / "static").iterdir()):
            if path.suffix in _TYPES:
                content = path.read_bytes()
                version = blake2b(content, digest_size=6).hexdigest()
                self._files[path.name] = _Asset(content, _TYPES[path.suffix], version)

    def address(self, name: str) -> str:
        """Returns the address of a file; KeyError for one that does not exist."""
        return f"/static/{name}?v={self._files[name].version}"

    def response(self, name: str, version: str) -> Response | None:
        """Returns the file, None when there is none of that name. Another version is not kept by the browser."""
        found = self._files.get(name)
        if found is None:
            return None
        headers = {"Cache-Control": _FOREVER if version == found.version else "no-cache"}
        return Response(found.content, media_type=found.media_type, headers=headers)


class Renderer:
    """Fills templates. The first one of a process reads and compiles them all, so make it in a thread.

    Args:
        config_error: what the banner on each page says; None: no banner.
        secured: whether visitors log in.
    """

    def __init__(
        self, runtime: Runtime, assets: Assets, *, config_error: Callable[[], str | None], secured: bool
    ) -> None:
        self._runtime = runtime
        self._assets = assets
        self._config_error = config_error
        self._secured = secured
        self._templates = _templates()

    def page(self, request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Returns a page, or a part of one."""
        text = self._templates[template].render(
            asset=self._assets.address,
            config_error=self._config_error(),
            now=self._runtime.now(),
            path=request.scope["path"],
            secured=self._secured,
            **context,
        )
        # A name that is no Unicode (half a surrogate pair) must not cost the page.
        return HTMLResponse(text.encode("utf-8", "replace"), status_code=status)


@cache
def _templates() -> Mapping[str, Template]:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(count=words.count, version=__version__)
    environment.filters.update(
        ago=_ago,
        clean=words.clean,
        duration=words.duration,
        number=words.number,
        segment=words.segment,
        size=format_size,
        stamp=words.stamp,
    )
    return {name: environment.get_template(name) for name in environment.list_templates()}


@pass_context
def _ago(context: Context, moment: datetime) -> str:
    """Returns how long ago a moment was when the page was made."""
    return words.ago(moment, context["now"])
