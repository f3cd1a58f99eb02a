"""The source `postgresql`: tables, views and queries of PostgreSQL. See docs/sources/POSTGRESQL.md."""

from __future__ import annotations

from connectors.sources.postgresql.source import PostgreSQLDataSource

__all__ = ["PostgreSQLDataSource"]
