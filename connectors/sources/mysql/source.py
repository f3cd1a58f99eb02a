"""The MySQL source itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from connectors.errors import ConfigurationError
from connectors.sources.mysql.catalogue import log_position, read_tables
from connectors.sources.mysql.dialect import MySQLDialect
from connectors.sources.relational import RelationalDataSource, Session, Table
from connectors.sources.relational.settings import common_fields, tls_fields

__all__ = ["MySQLDataSource"]


class MySQLDataSource(RelationalDataSource):
    """Tables and views of MySQL and MariaDB, or the results of queries."""

    name = "MySQL and MariaDB"
    service_type = "mysql"
    dialect = MySQLDialect()

    @classmethod
    def get_default_configuration(cls) -> dict[str, Any]:
        """Returns the fields of the connection, then those that all relational sources have."""
        optional: dict[str, Any] = {"type": "str", "value": "", "required": False}
        own: dict[str, dict[str, Any]] = {
            "host": {"label": "Host", "type": "str", "value": "", "tooltip": "Or the path of the server's socket."},
            "port": {"label": "Port", "type": "int", "value": 3306},
            "user": {"label": "User", "type": "str", "value": ""},
            "password": {"label": "Password", "sensitive": True, **optional},
            "database": {"label": "Databases", "type": "list", "value": None, "tooltip": "One, or several."},
            **tls_fields(),
            "time_zone": {
                "label": "Time zone of DATETIME columns", **optional,
                "tooltip": "Such as Europe/Berlin; without one they are taken for UTC. TIMESTAMP needs none.",
            },
        }  # fmt: skip
        for order, declaration in enumerate(own.values(), 1):
            declaration["order"] = order
        return {**own, **common_fields(len(own) + 1)}

    def spaces(self) -> list[str]:
        """Returns the configured databases."""
        return [str(name).strip() for name in self.configuration["database"] if str(name).strip()]

    async def validate_config(self) -> None:
        """Raises ConfigurationError for what is wrong with the fields."""
        await super().validate_config()
        self._zone()
        if self.configuration["ssl_enabled"]:
            await asyncio.to_thread(self._tls)

    async def open_session(self) -> Session:
        """Returns a new connection."""
        try:
            from connectors.sources.mysql.session import Address, MySQLSession
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the driver of MySQL is not installed ({error.name} is missing): pip install 'connectors[mysql]'"
            ) from error
        settings = self.configuration
        tls = await asyncio.to_thread(self._tls) if settings["ssl_enabled"] else None
        address = Address(
            settings["host"], settings["port"], settings["user"], settings["password"], tls=tls, zone=self._zone()
        )
        return await MySQLSession.open(address)

    async def read_catalogue(self, session: Session) -> list[Table]:
        """Returns the tables and views of the configured databases."""
        return await read_tables(session, self.spaces(), self._zone())

    async def log_position(self, session: Session) -> Any:
        """Returns the position of the binary log, None where it does not tell of every change."""
        return await log_position(session)

    def _zone(self) -> ZoneInfo | None:
        name = self.configuration["time_zone"].strip()
        try:
            return ZoneInfo(name) if name else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f'time_zone: there is no time zone "{name}"; write one such as Europe/Berlin', field="time_zone"
            ) from None

    def _tls(self) -> ssl.SSLContext:
        """Returns the TLS settings. Blocks on the files."""
        settings = self.configuration
        try:
            context = ssl.create_default_context(cafile=self._file("ssl_ca"))
            if certificate := self._file("ssl_certificate"):
                context.load_cert_chain(certificate, self._file("ssl_key"))
        except (OSError, ssl.SSLError) as error:
            files: Sequence[str] = [name for name in ("ssl_ca", "ssl_certificate", "ssl_key") if settings[name]]
            raise ConfigurationError(
                f"{', '.join(files)}: a file cannot be read or is no PEM file: {error}",
                field=files[0] if files else None,
            ) from error
        if not settings["ssl_verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _file(self, field: str) -> str | None:
        given = self.configuration[field].strip()
        return str(self.framework_config.base_dir / Path(given).expanduser()) if given else None
