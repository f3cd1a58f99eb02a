"""The MySQL source without a server: errors, types, settings."""

from __future__ import annotations

import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from asyncmy.errors import OperationalError, ProgrammingError

from connectors.errors import ConfigurationError, ConnectorsError, RetryableError
from connectors.source import DataSourceConfiguration, FrameworkConfig
from connectors.sources.mysql import MySQLDataSource
from connectors.sources.mysql.dialect import MySQLDialect
from connectors.sources.mysql.faults import is_lost, translated
from connectors.sources.mysql.values import column_of, result_converter
from connectors.sources.relational import Column, TableDeniedError, TableGoneError


def _source(**settings: Any) -> MySQLDataSource:
    given = {"host": "db", "user": "u", "password": "p", "database": "shop", **settings}
    return MySQLDataSource(DataSourceConfiguration.merge(MySQLDataSource.get_default_configuration(), given))


@pytest.mark.parametrize(
    ("error", "kind", "lost"),
    [
        (OperationalError(1045, "Access denied"), ConfigurationError, False),
        (OperationalError(1049, "Unknown database"), ConfigurationError, False),
        (OperationalError(1142, "SELECT command denied"), TableDeniedError, False),
        (ProgrammingError(1146, "Table 'x' doesn't exist"), TableGoneError, False),
        (OperationalError(1054, "Unknown column"), TableGoneError, False),
        (OperationalError(1040, "Too many connections"), RetryableError, False),
        (OperationalError(1213, "Deadlock"), RetryableError, False),
        (OperationalError(1317, "Query interrupted"), RetryableError, False),
        (OperationalError(1927, "Connection was killed"), RetryableError, True),
        (OperationalError(2013, "Lost connection"), RetryableError, True),
        (OperationalError(2003, "Can't connect"), RetryableError, True),
        (ProgrammingError(1064, "Syntax error"), ConfigurationError, False),
        (ConnectionResetError(104, "reset"), RetryableError, True),
        (TimeoutError(), RetryableError, True),
        (RuntimeError("'cryptography' package is required"), ConfigurationError, True),
        (OperationalError("no number"), RetryableError, True),
        (ssl.SSLError(1, "bad certificate"), ConfigurationError, True),
    ],
)
def test_errors_say_what_to_do(error: Exception, kind: type[ConnectorsError], lost: bool) -> None:
    told = translated(error, "db:3306")
    assert type(told) is kind
    assert str(told).startswith("db:3306: ")
    assert is_lost(error) is lost


def test_a_refused_certificate_is_a_matter_of_the_configuration() -> None:
    error = OperationalError(2003, "Can't connect")
    error.__cause__ = ssl.SSLCertVerificationError(1, "unable to get local issuer certificate")
    told = translated(error, "db:3306")
    assert isinstance(told, ConfigurationError)
    assert told.field == "ssl_ca"


def _column(kind: str, full: str = "", **more: Any) -> Column:
    given = {"nullable": False, "is_json": False, "zone": None, "quoted": "`c`", **more}
    return column_of("c", kind, full or kind, **given)


def test_columns_know_what_they_are_good_for() -> None:
    assert [_column(kind).growth for kind in ("int", "decimal", "double", "timestamp", "datetime", "date")] == [
        "number", "number", "number", "instant", "local", "local",
    ]  # fmt: skip
    assert [_column(kind).growth for kind in ("year", "varchar", "time", "json")] == [None] * 4
    assert not any(
        _column(kind).pageable for kind in ("enum", "set", "float", "double", "json", "point", "text", "bit")
    )
    assert all(_column(kind).pageable for kind in ("bigint", "varchar", "binary", "datetime", "uuid"))
    assert _column("polygon").expression == "ST_AsText(`c`)"


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (_column("bit", "bit(1)"), b"\x01", True),
        (_column("bit", "bit(1)"), 5, 5),
        (_column("bit", "bit(12)"), b"\x0f\xff", 4095),
        (_column("json"), '{"a": [1]}', {"a": [1]}),
        (_column("longtext", is_json=True), "no json", "no json"),
        (_column("json"), 7, 7),
        (_column("set"), "a,b", ["a", "b"]),
        (_column("set"), 3, 3),
        (_column("datetime"), "0000-00-00 00:00:00", None),
        (_column("datetime", zone=UTC), datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC)),  # noqa: DTZ001 - as the driver gives it
        (_column("datetime", zone=UTC), "2024-00-01 00:00:00", None),
    ],
)
def test_values_become_what_they_mean(column: Column, value: Any, expected: Any) -> None:
    assert column.convert is not None
    assert column.convert(value) == expected


def test_results_tell_their_types_by_number() -> None:
    kind, convert = result_converter(245, None)
    assert convert is not None
    assert (kind, convert("[1]")) == ("json", [1])
    assert result_converter(253, None) == ("", None)


def test_the_dialect_quotes_for_the_driver() -> None:
    dialect = MySQLDialect()
    assert dialect.quote("a`b%c") % () == "`a``b%c`"
    assert dialect.verbatim("LIKE '%s'") % () == "LIKE '%s'"
    assert dialect.horizon(Column("c", growth="number")) is None
    assert "14 HOUR" in str(dialect.horizon(Column("c", growth="local")))


async def test_settings_are_checked_in_words(tmp_path: Path) -> None:
    await _source().validate_config()
    for settings, words in (
        ({"time_zone": "Mars/Base"}, 'there is no time zone "Mars/Base"'),
        ({"ssl_enabled": True, "ssl_ca": "missing.pem"}, "ssl_ca: a file cannot be read"),
        ({"ssl_enabled": True, "ssl_certificate": "none.pem"}, "ssl_certificate: a file cannot be read"),
        ({"database": ""}, '"Databases" is required'),
    ):
        with pytest.raises(ConfigurationError, match=words):
            await _source(**settings).validate_config()
    await _source(ssl_ca="missing.pem").validate_config()  # not looked at without TLS
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    source = _source(ssl_enabled=True, ssl_ca="ca.pem", ssl_verify=False)
    source.set_framework_config(FrameworkConfig(base_dir=tmp_path))
    await source.validate_config()
    assert source._tls().verify_mode is ssl.CERT_NONE


async def test_a_missing_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "connectors.sources.mysql.session", raising=False)
    monkeypatch.setitem(sys.modules, "asyncmy", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'connectors\[mysql\]'"):
        await _source().ping()


def test_the_password_is_in_no_text() -> None:
    from connectors.sources.mysql.session import Address

    assert "hush" not in repr(Address("db", 3306, "u", "hush"))
    assert str(Address("/run/mysql.sock", 3306, "u", "hush")) == "/run/mysql.sock"
