"""What differs between the two products, and how names become parts of a path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

__all__ = ["ELASTICSEARCH", "OPENSEARCH", "Product", "path_of", "write_alias"]


@dataclass(frozen=True, slots=True)
class Product:
    """One kind of server.

    Attributes:
        name: for people.
        block: its block in `config.yml`.
        pit_path: behind the index, opens a point in time.
        pit_close: closes one.
        pit_id: key of the point in time's id in both answers.
        pit_list: whether it is closed by a list of ids.
        shard_doc: first version that sorts by `_shard_doc`.
        tiebreak: what tells documents of a point in time apart, for the small indices of records.
        highlight_limit: setting of a search for how much of a text is marked.
        has_connectors: whether there may be a Connectors API.
        keeps_order: whether a bulk request's items are answered in their order where a pipeline refuses some of them.
    """

    name: str
    block: str
    pit_path: str
    pit_close: str
    pit_id: str
    pit_list: bool
    shard_doc: tuple[int, int]
    tiebreak: str
    highlight_limit: str
    has_connectors: bool
    keeps_order: bool


ELASTICSEARCH: Final = Product(
    name="Elasticsearch",
    block="elasticsearch",
    pit_path="_pit",
    pit_close="_pit",
    pit_id="id",
    pit_list=False,
    shard_doc=(7, 12),
    tiebreak="_shard_doc",
    highlight_limit="max_analyzed_offset",
    has_connectors=True,
    keeps_order=True,
)
OPENSEARCH: Final = Product(
    name="OpenSearch",
    block="opensearch",
    pit_path="_search/point_in_time",
    pit_close="_search/point_in_time",
    pit_id="pit_id",
    pit_list=True,
    shard_doc=(3, 3),
    tiebreak="_id",  # loads all ids into memory, which nobody would do with documents
    highlight_limit="max_analyzer_offset",
    has_connectors=False,
    keeps_order=False,
)

#: Bytes of an index's name that its alias repeats: a name has at most 255, and the rest of the alias some forty.
_ALIAS_PREFIX: Final = 200


def path_of(*parts: str) -> str:
    """Returns a path; each part is a name or an id and is escaped whole."""
    return "/" + "/".join(quote(part, safe="") if part.strip(".") else part.replace(".", "%2E") for part in parts)


def write_alias(index: str, uuid: str) -> str:
    """Returns the alias through which we write to one index and to no other of its name.

    A bulk request creates an index that is not there. This name has a capital letter, which an alias may have and an
    index may not, and it names the index's uuid: when the index is deleted, its alias goes with it, and whatever is
    still on its way is refused, be it a write or a delete. Nothing can come to life under the name by accident, and an
    index that is created again under the old name has another alias.
    """
    return f"{index.encode()[:_ALIAS_PREFIX].decode('utf-8', 'ignore')}@Connectors-{uuid}"
