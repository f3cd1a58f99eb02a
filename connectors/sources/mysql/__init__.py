"""Tables of MySQL and MariaDB."""

from __future__ import annotations

from connectors.sources.mysql.source import MySQLDataSource

__all__ = ["MySQLDataSource"]
