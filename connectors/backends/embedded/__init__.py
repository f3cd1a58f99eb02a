"""The embedded backend: documents, full text and records in one SQLite file, with nothing installed."""

from __future__ import annotations

from connectors.backends.embedded.backend import EmbeddedBackend
from connectors.backends.embedded.destination import EmbeddedDestination
from connectors.backends.embedded.store import EmbeddedStore

__all__ = ["EmbeddedBackend", "EmbeddedDestination", "EmbeddedStore"]
