"""The schema of the database file, its versions and how a file gets from one to the next."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

from connectors.backends.embedded.connection import Database
from connectors.errors import ConfigurationError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "create_text_table", "migrate", "on_index"]

#: Marks the file as ours (`PRAGMA application_id`).
APPLICATION_ID: Final = 0x436E5831

_VERSION_1: Final = (
    # An index without a name is being deleted; its documents go piece by piece.
    """CREATE TABLE indices (
        pk INTEGER PRIMARY KEY, name TEXT UNIQUE, uuid TEXT NOT NULL
    )""",
    # Connector ids and fingerprints, which repeat in each document.
    "CREATE TABLE labels (pk INTEGER PRIMARY KEY, label TEXT NOT NULL UNIQUE)",
    """CREATE TABLE documents (
        pk INTEGER PRIMARY KEY, index_pk INTEGER NOT NULL, id TEXT NOT NULL, connector INTEGER NOT NULL,
        digest BLOB NOT NULL, content_hash BLOB NOT NULL, fingerprint INTEGER NOT NULL, version INTEGER NOT NULL,
        text_hash INTEGER NOT NULL, body BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX documents_by_id ON documents (index_pk, id)",
    "CREATE INDEX documents_by_digest ON documents (index_pk, connector, digest, content_hash, fingerprint)",
    """CREATE TABLE tombstones (
        index_pk INTEGER NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, deleted_at REAL NOT NULL,
        PRIMARY KEY (index_pk, id)
    ) WITHOUT ROWID""",
    "CREATE INDEX tombstones_by_time ON tombstones (deleted_at)",
    """CREATE TABLE connectors (
        id TEXT PRIMARY KEY, version INTEGER NOT NULL, record BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE states (
        connector_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, worker TEXT, expires_at REAL NOT NULL, data BLOB NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE jobs (
        id TEXT PRIMARY KEY, connector_id TEXT NOT NULL, job_type TEXT NOT NULL, status TEXT NOT NULL, ended_at TEXT,
        version INTEGER NOT NULL, record BLOB NOT NULL
    )""",
    "CREATE INDEX jobs_by_connector ON jobs (connector_id, id)",
    "CREATE INDEX jobs_by_status ON jobs (status, id)",
    """CREATE TABLE dead_letters (
        connector_id TEXT NOT NULL, id TEXT NOT NULL, operation TEXT NOT NULL, reason TEXT NOT NULL,
        job_id TEXT NOT NULL, created_at TEXT NOT NULL, body BLOB, PRIMARY KEY (connector_id, id)
    )""",
)

_VERSION_2: Final = (  # what a dead letter is sent again with
    "ALTER TABLE dead_letters ADD COLUMN version INTEGER",
    "ALTER TABLE dead_letters ADD COLUMN content_hash BLOB",
    "ALTER TABLE dead_letters ADD COLUMN fingerprint TEXT NOT NULL DEFAULT ''",
)

# Of a dead letter's document, so that a list need not read it; NULL also for those of earlier releases.
_VERSION_3: Final = ("ALTER TABLE dead_letters ADD COLUMN size INTEGER",)

#: The statements that lead to version 1, 2, …; a released one is never changed.
MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_VERSION_1, _VERSION_2, _VERSION_3)

# The table of an index keeps its own copy of the text: with external content, a row that was changed behind its back
# would damage the index for good. A title counts ten times, a path four times and the rest half of what the body does.
_TEXT_TABLE: Final = (
    "CREATE VIRTUAL TABLE @text USING fts5(title, path, body, other, tokenize = 'unicode61 remove_diacritics 2')",
    "INSERT INTO @text (@text, rank) VALUES ('rank', 'bm25(10.0, 4.0, 1.0, 0.5)')",
    "INSERT INTO @text (@text, rank) VALUES ('usermerge', 2)",  # housekeeping merges as far as it can
)


def migrate(database: Database, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Brings the file to the newest version, each step in one transaction; safe when several processes do so at once.

    Raises:
        ConfigurationError: the file is of a newer version or of another program, or this Python's SQLite is too poor.
    """
    try:
        database.execute("SELECT fts5_source_id()").close()
    except sqlite3.OperationalError as error:
        raise ConfigurationError(
            f"This Python's SQLite ({sqlite3.sqlite_version}) was built without FTS5, which the embedded index needs. "
            "Use a Python that has it (python.org, Debian, Docker's python image), or Elasticsearch or OpenSearch"
        ) from error
    while _version(database, len(migrations)) < len(migrations):
        with database.writing():
            version = _version(database, len(migrations))  # again: another process may have been here first
            if version == len(migrations):
                return
            for statement in migrations[version]:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {version + 1}")


def _version(database: Database, newest: int) -> int:
    """Returns the file's version, after a check that it is one of ours."""
    application, version, tables = database.execute(
        "SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),"
        " (SELECT count(*) FROM sqlite_schema)"
    ).fetchone()
    if application != APPLICATION_ID and (application or version or tables):
        raise ConfigurationError(
            f"{database.path} is the SQLite database of another program; name another file for the embedded index",
            field="embedded.path",
        )
    if version > newest:
        raise ConfigurationError(
            f"The embedded index {database.path} was written by a newer release (schema {version}, this one knows "
            f"{newest}). Upgrade this installation, or name another file",
            field="embedded.path",
        )
    return int(version)


def on_index(statement: str, index_pk: int) -> str:
    """Returns the statement with `@text` replaced by the name of the index's full-text table."""
    return statement.replace("@text", f"text_{index_pk}")


def create_text_table(database: Database, index_pk: int) -> None:
    """Creates the full-text table of an index."""
    for statement in _TEXT_TABLE:
        database.execute(on_index(statement, index_pk))
