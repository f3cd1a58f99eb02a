"""The module under which the source may be named, too: `connectors.sources.mongo:MongoDBDataSource`."""

from __future__ import annotations

from connectors.sources.mongodb.source import MongoDBDataSource

__all__ = ["MongoDBDataSource"]
