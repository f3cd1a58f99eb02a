"""The acceptance kit: tests of the whole contract of a source, inherited in three lines.

::

    from connectors.testing.acceptance import SourceAcceptance


    class TestNotes(SourceAcceptance):
        source_class = NotesDataSource
        configuration = {"file": "notes.db", "page_size": 2}
        data = Notebook  # called with a folder of its own before each test

pytest runs it as it is, with or without a plugin for asyncio.
"""

from __future__ import annotations

from connectors.testing.rules.changes import ChangeRules
from connectors.testing.rules.configuration import ConfigurationRules
from connectors.testing.rules.partitions import PartitionRules
from connectors.testing.rules.reading import ReadingRules
from connectors.testing.rules.stopping import StoppingRules
from connectors.testing.rules.syncing import SyncRules

__all__ = ["SourceAcceptance"]


class SourceAcceptance(ConfigurationRules, ReadingRules, StoppingRules, PartitionRules, ChangeRules, SyncRules):
    """Inherit, and say what is to be tested.

    Required:
        source_class: the source.
        configuration: what an operator writes for it in `config.yml`; a mapping, or a method
            `configuration(self, data)` that returns one.
        data: what the source reads; a class that is called with a fresh folder (also the `base_dir` of the source), or
            a method `data(self, folder)`. The object may be a context manager, sync or async; it is entered in the
            test's own event loop. It has at least five documents, and, where the source is resumable, so
            many (or pages so small) that an enumeration yields at least two checkpoints; where it is partitioned, so
            many (or partitions so small) that there are at least two.

    The data may have these methods, plain or coroutines; a test that misses one is skipped and says so:
        add(): adds one document to the backend and returns its `_id`.
        change(): changes one document (its content and its `_timestamp`) and returns its `_id`.
        delete(): deletes one document and returns its `_id`.
        spoil(): makes one document unreadable and returns its `_id`, or a whole part of them and returns None.
        cut(): breaks every connection of the source to its backend; new ones work.
        connections(): returns the number of connections that the backend sees of the source.

    Optional attributes, or methods `(self, data)` that return the same:
        wrong_configuration: a mapping, or several, with the settings that make the backend refuse (a wrong password, a
            name of a host that does not exist, a missing table). What may pass by itself is none.
        good_advanced_rules: a list of advanced rules, each valid and keeping at least one document.
        bad_advanced_rules: a list of advanced rules, each to be refused.
        incremental_sees_deletes: whether an incremental sync yields deletes.
        max_blocking: seconds that the source may keep the event loop for itself.
        patience: seconds that one test may take.
        exempt: name of a test → why it has no meaning for this source; the test is taken away.

    To use a fixture (a server, say), take it in an autouse fixture of the class::

        @pytest.fixture(autouse=True)
        def _server(self, mariadb):
            self.server = mariadb


        def data(self, folder):
            return Shop(self.server)
    """
