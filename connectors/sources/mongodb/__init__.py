"""Collections of a MongoDB database.

The driver is loaded when a source is used, so that the command line starts without it.
"""

from __future__ import annotations

from connectors.sources.mongodb.source import MongoDBDataSource

__all__ = ["MongoDBDataSource"]
