"""The page: search, connectors, jobs, and the addresses `/health` and `/metrics`, served in the daemon's own loop."""

from __future__ import annotations

from connectors.service.web.application import build_app
from connectors.service.web.server import WebServer

__all__ = ["WebServer", "build_app"]
