"""Files of a local folder."""

from __future__ import annotations

from connectors.sources.directory.source import DirectoryDataSource

__all__ = ["DirectoryDataSource"]
