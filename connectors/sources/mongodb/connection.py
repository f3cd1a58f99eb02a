"""The connection to one database."""

from __future__ import annotations

import asyncio
import os
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from connectors.errors import ConfigurationError
from connectors.source import DataSourceConfiguration
from connectors.sources.mongodb.failures import as_ours, translated
from connectors.sources.mongodb.settings import client_options, server_address
from connectors.sources.mongodb.values import CODEC
from connectors.utils import nearest, quoted

__all__ = ["CollectionInfo", "Connection"]

_FORBIDDEN: Final = 13
_PEM: Final = "-----BEGIN"


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What the server tells about a collection.

    Attributes:
        kind: `collection`, `view` or `timeseries`.
        uuid: text that another collection of the same name does not have; None where the server does not tell.
        divisible: whether its index of `_id` is known to be an ordinary one, so that ranges of it can be read.
    """

    name: str
    kind: str
    uuid: str | None
    divisible: bool = field(default=False, compare=False)


class Connection:
    """The driver's client and the database. Made without I/O; raises ConfigurationError for a malformed address."""

    def __init__(self, configuration: DataSourceConfiguration, base_dir: Path) -> None:
        self._ca_file = _written(configuration["ssl_ca"]) if configuration["ssl_enabled"] else None
        try:
            options = client_options(configuration, base_dir, self._ca_file)
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # the driver would pass over options that it does not know
                self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
                    server_address(configuration), **options
                )
            self._database = self._client.get_database(str(configuration["database"]).strip(), CODEC)
        except PyMongoError as error:
            self._forget_ca()
            raise as_ours(error, "host") from error
        except (
            OSError,
            ValueError,
            TypeError,
            UserWarning,
        ) as error:  # a certificate that is none, an option that is none
            self._forget_ca()
            raise ConfigurationError(f"host: {error}; mend the address or the files for TLS", field="host") from error
        except ConfigurationError:
            self._forget_ca()
            raise

    @property
    def name(self) -> str:
        """The database's name."""
        return self._database.name

    @property
    def database(self) -> AsyncDatabase[dict[str, Any]]:
        """The database."""
        return self._database

    @property
    def client(self) -> AsyncMongoClient[dict[str, Any]]:
        """The driver's client."""
        return self._client

    async def close(self) -> None:
        """Ends all connections."""
        try:
            await self._client.close()
            await asyncio.sleep(0)  # the transports, which are aborted, close their sockets in the loop's next turn
        finally:
            self._forget_ca()

    def _forget_ca(self) -> None:
        if self._ca_file is not None:
            self._ca_file.unlink(missing_ok=True)

    async def inventory(self) -> dict[str, CollectionInfo]:
        """Returns the collections and views by name, without the server's own. Asks once.

        A user who may not list the database gets those that the user may read, without ids.
        """
        with translated(f"{self.name}: listing the collections"):
            try:
                listed = await (await self._database.list_collections()).to_list()
            except OperationFailure as error:
                if error.code != _FORBIDDEN:
                    raise
                options: dict[str, Any] = {"nameOnly": True, "authorizedCollections": True}
                listed = await (await self._database.list_collections(**options)).to_list()
        found = [_info(entry) for entry in listed]
        return {info.name: info for info in sorted(found, key=lambda info: info.name) if not _internal(info.name)}

    def expect(self, name: str, known: Mapping[str, CollectionInfo]) -> CollectionInfo:
        """Returns the collection of this name; raises ConfigurationError when it is not there."""
        if name not in known:
            near = nearest(name, known)
            hint = f"did you mean {quoted(near)}?" if near else "check the names of database and collection"
            raise ConfigurationError(
                f"there is no collection {quoted(name)} in the database {quoted(self.name)}: {hint}", field="collection"
            )
        return known[name]


def _info(entry: Mapping[str, Any]) -> CollectionInfo:
    uuid = entry.get("info", {}).get("uuid")
    text = uuid.hex() if isinstance(uuid, bytes) else None if uuid is None else str(uuid)
    kind, options = entry.get("type", "collection"), entry.get("options")
    # A collation orders texts in ways of its own, and a clustered collection has no such index.
    divisible = kind == "collection" and options is not None and not {"collation", "clusteredIndex"} & options.keys()
    return CollectionInfo(entry["name"], kind, text, divisible)


def _internal(name: str) -> bool:
    return name.startswith("system.")


def _written(text: str) -> Path | None:
    """Writes certificates to a file that only we can read, since the driver wants files; None for a path."""
    if not text.lstrip().startswith(_PEM):
        return None
    handle, name = tempfile.mkstemp(prefix="connectors-ca-", suffix=".pem")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    return Path(name)
