"""What the errors of the server and the driver mean for a sync."""

from __future__ import annotations

import ssl
from typing import Final

from asyncmy.errors import MySQLError

from connectors.errors import ConfigurationError, ConnectorsError, RetryableError
from connectors.sources.relational import TableDeniedError, TableGoneError

__all__ = ["is_lost", "translated"]

_CREDENTIALS: Final = frozenset({1044, 1045, 1130, 1251, 1524, 1698, 1820, 1862, 2059, 3118, 4151})
_DENIED: Final = frozenset({1142, 1143, 1370})
_NO_PRIVILEGE: Final = frozenset({1227, 1290, 1792})
_GONE: Final = frozenset({1051, 1054, 1146, 1356, 1412})
_NO_DATABASE: Final = frozenset({1049})
#: Passing: too many connections, shutdown, killed, time-out, deadlock, out of resources, host is blocked.
_PASSING: Final = frozenset({
    1037, 1038, 1040, 1041, 1053, 1077, 1078, 1079, 1080, 1105, 1129, 1152, 1156, 1158, 1159, 1160, 1161, 1203, 1205,
    1206, 1213, 1226, 1317, 1637, 1836, 1927, 1969, 3024, 3168, 3169, 4031,
})  # fmt: skip
#: The connection is gone, or nobody knows what state it is in.
_LOST: Final = frozenset({1053, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2005, 2006, 2013, 2014, 2027, 2055, 4031})


def is_lost(error: BaseException) -> bool:
    """Whether the connection cannot be used after this error."""
    return not isinstance(error, MySQLError) or _number(error) in _LOST or _number(error) is None


def translated(error: Exception, where: str) -> ConnectorsError:
    """Returns the error in our words, typed by what to do.

    Args:
        where: host and port, for the message.
    """
    text = _text(error)
    number = _number(error)
    cause = error.__cause__ if number == 2003 else error
    if isinstance(cause, ssl.SSLError):
        return ConfigurationError(
            f"{where}: no TLS connection: {_text(cause)}; check ssl_ca, ssl_certificate and ssl_key, and that the "
            "server offers TLS",
            field="ssl_ca",
        )
    if isinstance(error, RuntimeError) and "cryptography" in text:
        return ConfigurationError(
            f"{where}: the user's password can be sent only with TLS or the package cryptography: set ssl_enabled, or "
            "pip install 'connectors[mysql]'"
        )
    if not isinstance(error, MySQLError) or number is None or (number >= 2000 and number in _LOST):
        return RetryableError(f"{where}: the connection was lost or could not be made: {text}")
    if number in _CREDENTIALS:
        return ConfigurationError(f"{where}: {text}; check user, password and the user's host", field="user")
    if number in _DENIED:
        return TableDeniedError(f"{where}: {text}; grant the user SELECT on it, or leave it out with exclude_tables")
    if number in _NO_PRIVILEGE:
        return ConfigurationError(f"{where}: {text}; the connector reads only, and needs no more than SELECT")
    if number in _GONE:
        return TableGoneError(f"{where}: {text}")
    if number in _NO_DATABASE:
        return ConfigurationError(f"{where}: {text}; check database", field="database")
    if number in _PASSING:
        return RetryableError(f"{where}: {text}")
    return ConfigurationError(f"{where}: the server does not take the query: {text} (error {number})")


def _number(error: BaseException) -> int | None:
    first = error.args[0] if error.args else None
    return first if isinstance(first, int) and first > 0 else None


def _text(error: BaseException) -> str:
    if isinstance(error, MySQLError) and len(error.args) > 1:
        return str(error.args[1])
    return str(error) or type(error).__name__
