"""The PostgreSQL source without a server: settings, SQL, and the errors of server and driver."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.errors import ConfigurationError, ConnectorsError, RetryableError, SyncError
from connectors.source import DataSourceConfiguration, FrameworkConfig
from connectors.sources.postgresql import PostgreSQLDataSource
from connectors.sources.postgresql.dialect import PostgreSQLDialect
from connectors.sources.postgresql.faults import translate
from connectors.sources.relational import Column, TableDeniedError, TableGoneError

SETTINGS = {"host": "db.example.com", "user": "reader", "password": "s3cret", "database": "shop"}


def _source(**settings: Any) -> PostgreSQLDataSource:
    defaults = PostgreSQLDataSource.get_default_configuration()
    return PostgreSQLDataSource(DataSourceConfiguration.merge(defaults, {**SETTINGS, **settings}))


async def test_the_least_that_must_be_written() -> None:
    source = _source()
    await source.validate_config()
    assert source.spaces() == ["public"]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"slot": "Has Spaces", "change_data_capture": True}, "slot"),
        ({"ssl_enabled": True, "ssl_key": "nowhere.key"}, "ssl_key"),
        ({"id_columns": "nonsense"}, "id_columns"),
    ],
)
async def test_wrong_settings_are_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await _source(**settings).validate_config()
    assert caught.value.field == field


def test_tls_checks_the_server_unless_told_not_to(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-")
    assert _source()._tls() == {"sslmode": "prefer"}
    assert _source(ssl_enabled=True)._tls() == {"sslmode": "verify-full", "sslrootcert": "system"}
    assert _source(ssl_enabled=True, ssl_verify=False)._tls() == {"sslmode": "require"}
    source = _source(ssl_enabled=True, ssl_ca="ca.pem", ssl_certificate="ca.pem", ssl_key="ca.pem")
    source.set_framework_config(FrameworkConfig(tmp_path))
    file = str(tmp_path / "ca.pem")
    assert source._tls() == {"sslmode": "verify-full", "sslrootcert": file, "sslcert": file, "sslkey": file}


def test_the_slot_of_its_own_keeps_its_name() -> None:
    name = _source()._slot
    assert name == _source(password="other")._slot
    assert name != _source(tables=["orders"])._slot
    assert _source(slot="mine", change_data_capture=True)._slot == "mine"
    assert name.startswith("connectors_")
    assert len(name) < 64


async def test_a_missing_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == "psycopg":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "psycopg")
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigurationError, match=r"pip install 'connectors\[postgresql\]'"):
        await _source().ping()


def test_sql() -> None:
    dialect = PostgreSQLDialect()
    assert dialect.quote('a"b') == '"a""b"'
    assert dialect.horizon(Column("c", "bigint", growth="number")) is None
    assert dialect.horizon(Column("c", "numeric", growth="number")) == "1e1000"
    assert dialect.horizon(Column("c", "timestamp with time zone", growth="instant")) == "now()"
    assert "::date" in str(dialect.horizon(Column("c", "date", growth="local")))
    assert dialect.explain("SELECT 1") == "EXPLAIN SELECT 1"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.UndefinedTable("x"), TableGoneError),
        (psycopg.errors.UndefinedColumn("x"), TableGoneError),
        (psycopg.errors.InsufficientPrivilege("x"), TableDeniedError),
        (psycopg.errors.QueryCanceled("x"), RetryableError),
        (psycopg.errors.AdminShutdown("x"), RetryableError),
        (psycopg.errors.CrashShutdown("x"), RetryableError),
        (psycopg.errors.TooManyConnections("x"), RetryableError),
        (psycopg.errors.LockNotAvailable("x"), RetryableError),
        (psycopg.errors.ObjectInUse("x"), RetryableError),
        (psycopg.errors.SerializationFailure("x"), RetryableError),
        (psycopg.errors.InvalidPassword("x"), ConfigurationError),
        (psycopg.errors.InvalidCatalogName("x"), ConfigurationError),
        (psycopg.errors.DatabaseDropped("x"), ConfigurationError),
        (psycopg.errors.SyntaxError("x"), ConfigurationError),
        (psycopg.errors.DivisionByZero("x"), ConfigurationError),
        (psycopg.errors.ReadOnlySqlTransaction("x"), ConfigurationError),
        (psycopg.errors.DataCorrupted("x"), SyncError),
        (psycopg.OperationalError('FATAL: password authentication failed for user "x"'), ConfigurationError),
        (psycopg.OperationalError("FATAL: the database system is starting up"), RetryableError),
        (psycopg.OperationalError("FATAL: sorry, too many clients already"), RetryableError),
        (psycopg.OperationalError("Connection refused"), RetryableError),
        (psycopg.OperationalError("SSL error: certificate verify failed"), ConfigurationError),
        (psycopg.OperationalError("SSL connection has been closed unexpectedly"), RetryableError),
        (psycopg.OperationalError("server closed the connection unexpectedly"), RetryableError),
    ],
)
def test_errors_say_what_to_do(error: psycopg.Error, kind: type[ConnectorsError]) -> None:
    assert type(translate(error, "reading")) is kind
    assert str(translate(error, "reading")).startswith("reading: ")
