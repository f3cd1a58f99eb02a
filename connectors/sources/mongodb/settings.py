"""The fields of the configuration, and what the driver makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from connectors.source import ConfigurationError, DataSourceConfiguration

__all__ = ["ALL", "FIELDS", "chosen_collections", "client_options", "server_address"]

#: Stands for every collection of the database.
ALL: Final = "*"
_SCHEMES: Final = ("mongodb://", "mongodb+srv://")
_WITH_TLS: Final = [{"field": "ssl_enabled", "value": True}]
#: Seconds that an answer may take beyond the time that a query may take.
_SLACK: Final = 30

FIELDS: Final[Mapping[str, Mapping[str, Any]]] = {
    "host": {
        "label": "Server address",
        "type": "str",
        "value": "",
        "sensitive": True,  # it may hold a password
        "tooltip": "mongodb://host:27017, several hosts of a replica set with commas, or mongodb+srv://… (Atlas).",
    },
    "user": {"label": "User", "type": "str", "value": "", "required": False},
    "password": {"label": "Password", "type": "str", "value": "", "required": False, "sensitive": True},
    "database": {"label": "Database", "type": "str", "value": ""},
    "collection": {
        "label": "Collections",
        "type": "list",
        "value": None,
        "required": False,
        "default_value": [ALL],
        "tooltip": "Names, or * for all of the database.",
    },
    "direct_connection": {
        "label": "Ask this one server only",
        "type": "bool",
        "value": False,
        "required": False,
        "tooltip": "Instead of looking for the other members of its replica set.",
    },
    "ssl_enabled": {"label": "TLS", "type": "bool", "value": False, "required": False},
    "ssl_ca": {
        "label": "Certificate authority",
        "type": "str",
        "value": "",
        "required": False,
        "depends_on": _WITH_TLS,
        "tooltip": "A PEM file, or its text. Without one, the authorities that this machine trusts.",
    },
    "tls_insecure": {
        "label": "Take any certificate",
        "type": "bool",
        "value": False,
        "required": False,
        "depends_on": _WITH_TLS,
        "tooltip": "For trials only: anybody can pose as the server.",
    },
    "ssl_client_certificate": {
        "label": "Client certificate with its key",
        "type": "str",
        "value": "",
        "required": False,
        "depends_on": _WITH_TLS,
        "tooltip": "A PEM file that holds both.",
    },
    "ssl_client_key_password": {
        "label": "Password of the client's key",
        "type": "str",
        "value": "",
        "required": False,
        "sensitive": True,
        "depends_on": _WITH_TLS,
    },
    "batch_size": {
        "label": "Documents a batch",
        "type": "int",
        "value": None,
        "required": False,
        "default_value": 500,
        "validations": [{"type": "greater_than", "constraint": 0}],
    },
    "query_timeout": {
        "label": "Longest query",
        "type": "int",
        "value": None,
        "required": False,
        "default_value": 300,
        "tooltip": "Seconds of the server's time.",
        "validations": [{"type": "greater_than", "constraint": 0}],
    },
}


def chosen_collections(configuration: DataSourceConfiguration) -> list[str] | None:
    """Returns the names in order, each once, or None for all. Raises ConfigurationError."""
    names = sorted({str(name).strip() for name in configuration["collection"]})
    if ALL in names:
        if len(names) > 1:
            raise ConfigurationError("collection: write * alone, or the names alone", field="collection")
        return None
    for name in names:
        if not name or "$" in name or "\0" in name or name.startswith("system."):
            raise ConfigurationError(f'collection: "{name}" is no name of a collection', field="collection")
    return names


def server_address(configuration: DataSourceConfiguration) -> str:
    """Returns the address as a URI. Raises ConfigurationError when it is of another kind."""
    address = str(configuration["host"]).strip()
    if not address:
        raise ConfigurationError("host: write the server's address, such as mongodb://localhost:27017", field="host")
    if "://" not in address:
        return "mongodb://" + address
    if not address.startswith(_SCHEMES):
        raise ConfigurationError("host: the address begins with mongodb:// or mongodb+srv://", field="host")
    return address


def client_options(configuration: DataSourceConfiguration, base_dir: Path, ca_file: Path | None) -> dict[str, Any]:
    """Returns the driver's options beside the address, whose own options go first.

    Args:
        base_dir: paths are relative to it.
        ca_file: holds the text of `ssl_ca` if that is a certificate and no path.

    Raises:
        ConfigurationError: a file is not there.
    """
    options: dict[str, Any] = {"appname": "connectors", "connect": False, "tz_aware": False}
    query = server_address(configuration).partition("?")[2]
    stated = {key.lower() for key, _ in parse_qsl(query, keep_blank_values=True)}
    limits = {
        "serverSelectionTimeoutMS": 10_000,
        "connectTimeoutMS": 10_000,
        "socketTimeoutMS": (configuration["query_timeout"] + _SLACK) * 1000,
    }
    options |= {key: value for key, value in limits.items() if key.lower() not in stated}
    if configuration["user"]:
        options |= {"username": configuration["user"], "password": configuration["password"]}
    if configuration["direct_connection"]:
        options["directConnection"] = True
    if configuration["ssl_enabled"]:
        options |= _tls(configuration, base_dir, ca_file)
    return options


def _tls(configuration: DataSourceConfiguration, base_dir: Path, ca_file: Path | None) -> dict[str, Any]:
    options: dict[str, Any] = {"tls": True}
    if configuration["tls_insecure"]:
        options["tlsInsecure"] = True
    if ca_file is not None:
        options["tlsCAFile"] = str(ca_file)
    elif configuration["ssl_ca"]:
        options["tlsCAFile"] = _file(configuration, "ssl_ca", base_dir)
    if configuration["ssl_client_certificate"]:
        options["tlsCertificateKeyFile"] = _file(configuration, "ssl_client_certificate", base_dir)
        if configuration["ssl_client_key_password"]:
            options["tlsCertificateKeyFilePassword"] = configuration["ssl_client_key_password"]
    return options


def _file(configuration: DataSourceConfiguration, field: str, base_dir: Path) -> str:
    path = base_dir / Path(configuration[field]).expanduser()
    if not path.is_file():
        raise ConfigurationError(f"{field}: there is no file {path}; write the path of a PEM file", field=field)
    return str(path)
