"""The source in memory, which can do everything that the contract has, keeps all of it."""

from __future__ import annotations

from typing import Any

from connectors.testing.acceptance import SourceAcceptance
from connectors.testing.shelf import PartitionedShelfDataSource, Shelf


class TestShelf(SourceAcceptance):
    source_class = PartitionedShelfDataSource
    data = Shelf
    wrong_configuration = ({"password": "wrong"}, {"shelf": "missing"})
    good_advanced_rules = (["tides"], ["tides", "stars"])
    bad_advanced_rules = (["dragons"], {"topic": "tides"})
    incremental_sees_deletes = True

    def configuration(self, data: Shelf) -> dict[str, Any]:
        return {"shelf": data.name, "password": data.password}
