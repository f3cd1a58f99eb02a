"""The test of the test: for each rule there is a source that breaks it, and the acceptance kit says which one."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from connectors.testing import watching
from connectors.testing.acceptance import SourceAcceptance
from connectors.testing.rules import base, stopping, syncing
from connectors.testing.shelf import Shelf, ShelfDataSource
from tests.support import broken_partitions, broken_sources, broken_syncs
from tests.support.broken import Broken

ROOT = Path(__file__).parents[2]
BROKEN = [*broken_sources.BROKEN, *broken_syncs.BROKEN, *broken_partitions.BROKEN]


class ShelfKit(SourceAcceptance):
    """Not collected by its name; each broken source gets one of these."""

    data = Shelf
    wrong_configuration = ({"password": "wrong"}, {"shelf": "missing"})
    good_advanced_rules = (["tides"], ["tides", "stars"])
    bad_advanced_rules = (["dragons"], {"topic": "tides"})
    incremental_sees_deletes = True

    def configuration(self, data: Shelf) -> dict[str, Any]:
        return {"shelf": data.name, "password": data.password}


def verdicts(source_class: type[Any], folder: Path, **attributes: Any) -> dict[str, str]:
    """Runs all tests of the kit on a source; returns the names of those that failed, with what they said."""
    kit = type("Kit", (ShelfKit,), {"source_class": source_class, **attributes})()
    failed: dict[str, str] = {}
    for name in sorted(dir(kit)):
        test = getattr(kit, name) if name.startswith("test_") else None
        if test is not None:
            own = folder / name
            own.mkdir()
            try:
                test(own)
            except pytest.skip.Exception:
                continue
            except pytest.fail.Exception as failure:
                failed[name] = str(failure)
    return failed


# The kit itself


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes wrong here goes wrong everywhere, so that few places to stop at will do."""
    monkeypatch.setattr(syncing, "_STOPS", 3)
    monkeypatch.setattr(stopping, "_PLACES", 5)
    monkeypatch.setattr(stopping, "_SECONDS", (0.002,))
    monkeypatch.setattr(watching, "_PATIENCE", 0.2)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.source_class.__name__)
@pytest.mark.usefixtures("few_places")
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_each_fault_fails_its_own_test(broken: Broken, tmp_path: Path) -> None:
    failed = verdicts(broken.source_class, tmp_path, **broken.kit)
    assert sorted(failed) == sorted(broken.tests), "\n\n".join(failed.values())
    message = failed[broken.tests[0]]
    assert re.search(broken.found, message, re.DOTALL), message
    first, rule, *_ = message.split("\n")
    assert first == f"{broken.source_class.__name__} breaks the contract of a source (docs/SOURCES.md)."
    assert rule.startswith("The rule: ")
    assert "\nWhat to do: " in message


def test_every_test_of_the_kit_has_a_fault_that_fails_it() -> None:
    tested = {test for broken in BROKEN for test in broken.tests}
    assert {name for name in dir(SourceAcceptance) if name.startswith("test_")} == tested


# What authors can say


class Plain:
    """A source without the base class, and with two methods."""

    name = "Plain"
    service_type = "plain"

    def __init__(self, configuration: Any) -> None:
        self.number = configuration["number"]

    async def ping(self) -> None: ...

    async def get_docs(self, filtering: Any = None) -> AsyncIterator[Any]:
        for number in range(self.number):
            yield {"_id": str(number)}, None


def test_a_class_without_the_base_class_is_tested_for_what_it_has(tmp_path: Path) -> None:
    kit: dict[str, Any] = {"configuration": {"number": 5}, "data": None, "wrong_configuration": ()}
    assert verdicts(Plain, tmp_path, **kit) == {}
    named = {name for name in dir(type("Kit", (ShelfKit,), {"source_class": Plain})) if name.startswith("test_")}
    kept = {name for name in named if getattr(type("Kit", (ShelfKit,), {"source_class": Plain}), name) is not None}
    assert "test_it_goes_on_behind_each_checkpoint" in named - kept
    assert "test_a_sync_that_stops_goes_on" in kept


def test_a_source_that_need_not_list_all_is_not_asked_to_follow_deletes(tmp_path: Path) -> None:
    class Series(ShelfDataSource):
        lists_all = False

    assert verdicts(Series, tmp_path) == {}


def test_tests_come_back_in_a_class_whose_source_can_more() -> None:
    exempt = {"test_a_cut_connection_is_told": "it has none"}
    parent = type("OfPlain", (ShelfKit,), {"source_class": Plain, "exempt": exempt})
    child: Any = type("OfShelf", (parent,), {"source_class": ShelfDataSource})
    assert getattr(parent, "test_the_cursor_can_be_stored", "") is None
    assert child.test_the_cursor_can_be_stored is not None
    assert child.test_a_cut_connection_is_told is None


def test_an_exemption_that_names_no_test_is_refused() -> None:
    with pytest.raises(TypeError, match="exempt names no test of the kit: test_nothing"):
        type("Kit", (ShelfKit,), {"source_class": Plain, "exempt": {"test_nothing": "why"}})


class Stuck(ShelfDataSource):
    async def changed(self) -> bool:
        await asyncio.Event().wait()
        return True


def test_what_hangs_fails(tmp_path: Path) -> None:
    kit: Any = type("Kit", (ShelfKit,), {"source_class": Stuck, "patience": 0.05})()
    with pytest.raises(pytest.fail.Exception, match=r"it did not end within 0\.05 s"):
        kit.test_changed_is_true_before_a_whole_reading(tmp_path)


def test_after_one_that_hangs_the_others_do_not_wait_too(tmp_path: Path) -> None:
    kit: Any = type("Kit", (ShelfKit,), {"source_class": Stuck, "patience": 0.05})()
    with pytest.raises(pytest.fail.Exception):
        kit.test_changed_is_true_before_a_whole_reading(tmp_path)
    with pytest.raises(pytest.skip.Exception, match="before test_changed_is_true_before_a_whole_reading passes"):
        kit.test_ids_are_unique(tmp_path)
    other: Any = type("Kit", (ShelfKit,), {"source_class": ShelfDataSource})()
    other.test_ids_are_unique(tmp_path)


class Deaf(ShelfDataSource):
    """Takes no cancellation, however often it is asked."""

    release: ClassVar[bool] = False

    async def changed(self) -> bool:
        while not self.release:
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return True


def test_what_takes_no_cancellation_fails_and_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_GRACE", 0.05)
    left: list[Any] = []
    monkeypatch.setattr(base, "_abandoned", left)
    kit: Any = type("Kit", (ShelfKit,), {"source_class": Deaf, "patience": 0.05})()
    with pytest.raises(pytest.fail.Exception, match=r"within 0\.05 s, and went on when it was cancelled"):
        kit.test_changed_is_true_before_a_whole_reading(tmp_path)
    [(runner, stuck)] = left
    monkeypatch.setattr(Deaf, "release", True)  # so that it leaves nothing to the tests that follow
    runner.run(asyncio.wait(stuck))
    runner.close()


def test_an_id_that_the_source_does_not_know_is_the_fault_of_the_test(tmp_path: Path) -> None:
    class Elsewhere(Shelf):
        def change(self) -> str:
            return f"shelf.{super().change()}"

    kit: Any = type("Kit", (ShelfKit,), {"source_class": ShelfDataSource, "data": Elsewhere})()
    with pytest.raises(
        pytest.fail.Exception, match=r"change\(\) of the data returned 'shelf\.\S+', and the source yields"
    ):
        kit.test_incremental_syncs_follow_the_source(tmp_path)


def test_data_that_fail_are_named(tmp_path: Path) -> None:
    class Once(Shelf):
        def change(self) -> str:
            raise KeyError("5")

    kit: Any = type("Kit", (ShelfKit,), {"source_class": ShelfDataSource, "data": Once})()
    with pytest.raises(KeyError) as raised:
        kit.test_incremental_syncs_follow_the_source(tmp_path)
    assert raised.value.__notes__ == [
        "change() of the data failed; a test may call it several times, and while a source reads"
    ]


def test_too_few_data_are_the_fault_of_the_test(tmp_path: Path) -> None:
    def few(_: Any, folder: Path) -> Shelf:
        return Shelf(folder, documents=4)

    kit: Any = type("Kit", (ShelfKit,), {"source_class": ShelfDataSource, "data": few})()
    with pytest.raises(pytest.fail.Exception, match="cannot be run: the data have 4 documents"):
        kit.test_it_goes_on_behind_each_checkpoint(tmp_path)


class AsyncShelf(Shelf):
    """Data that are opened and asked in the event loop."""

    entered: ClassVar[list[str]] = []

    async def __aenter__(self) -> Self:
        self.entered.append("in")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.entered.append("out")

    async def change(self) -> str:  # type: ignore[override]  # both are allowed, and each test class has one kind
        await asyncio.sleep(0)
        return super().change()

    async def connections(self) -> int:  # type: ignore[override]  # as above
        return super().connections()


def test_data_may_live_in_the_event_loop(tmp_path: Path) -> None:
    AsyncShelf.entered.clear()
    assert verdicts(ShelfDataSource, tmp_path, data=AsyncShelf) == {}
    assert AsyncShelf.entered == ["in", "out"] * (len(AsyncShelf.entered) // 2) != []


NAMELESS = """

class Nameless(NotesDataSource):
    name = ""

class TestNameless(TestNotes):
    source_class = Nameless
"""


@pytest.mark.process
def test_an_author_needs_nothing_but_pytest_and_the_example_of_the_docs(tmp_path: Path) -> None:
    page = (ROOT / "docs/SOURCES.md").read_text("utf-8").partition("## Prove it")[2]
    example = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "test_notes.py").write_text(example + NAMELESS, "utf-8")
    plugins = [word for name in ("asyncio", "randomly", "timeout", "cacheprovider") for word in ("-p", f"no:{name}")]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--rootdir", str(tmp_path), "-W", "error", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'examples/sources'}"}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert "Nameless breaks the contract of a source (docs/SOURCES.md).\nThe rule: A source has a name" in ran.stdout
    # There are no data for a wrong configuration, for what is spoiled, and for connections that are cut.
    assert re.search(r"\n1 failed, [0-9]+ passed, 8 skipped in ", ran.stdout), ran.stdout + ran.stderr
