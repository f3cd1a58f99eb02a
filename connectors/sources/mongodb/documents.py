"""What a document of a collection becomes in the index."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from bson.code import Code
from bson.errors import BSONError

from connectors.errors import ConfigurationError, SyncError
from connectors.source import Document, Skipped
from connectors.sources.mongodb.reading import NOTHING, decode, id_of
from connectors.sources.mongodb.values import id_text, to_json_values

__all__ = ["DocumentMaker"]


class DocumentMaker:
    """Makes the documents of one collection.

    Args:
        many: whether several collections go to the index: then ids have the collection's name in front, and documents
            a field `_collection`.
    """

    def __init__(self, collection: str, *, many: bool) -> None:
        self._collection = collection
        self._prefix = f"{quote(collection, safe='')}/" if many else ""

    def id(self, key: Any) -> str:
        """Returns the id in the index of the document with this `_id`.

        Raises:
            SyncError: it is JavaScript, which the server takes and cannot be asked for by its type.
        """
        if isinstance(key, Code):
            raise SyncError(f"{self._collection}: an _id that is JavaScript cannot be followed: leave it out by a rule")
        return self._prefix + id_text(key)

    def make(self, raw: bytes) -> Document | Skipped:
        """Returns a document as JSON can hold it, or says that the server's bytes are broken.

        Raises:
            ConfigurationError: there is no `_id`, which an aggregation can take away.
        """
        try:
            document = decode(raw)
        except BSONError as error:
            reason = f"{self._collection}: a document cannot be read, its BSON is broken: {error}"
            known = id_of(raw)
            return Skipped(reason) if known is NOTHING else Skipped(reason, self.id(known))
        if "_id" not in document:
            raise ConfigurationError(
                f"{self._collection}: the aggregation gives a document without _id, by which it would be known: keep "
                "it, or set one that is the same in each sync"
            )
        key = document["_id"]
        text = self.id(key)
        to_json_values(document)
        if isinstance(key, dict):  # of a group, say: its parts are worth searching
            document.setdefault("id", document["_id"])
        if self._prefix:
            document["_collection"] = self._collection
        document["_id"] = text
        return document
