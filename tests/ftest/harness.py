"""Syncs with the real command, and holds the index against the source document by document."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import orjson
import yaml

from connectors.app import open_app, read_config
from connectors.backends.ports import DIGEST_SIZE, Destination, IndexHandle
from tests.servers.search import SearchServer

__all__ = ["CONNECTOR", "INDEX", "WORDS", "Case", "Difference", "Expected", "Run", "compare"]

INDEX: Final = "connectors-ftest"
CONNECTOR: Final = "ftest"
#: What texts are made of.
WORDS: Final = ("harbour", "lantern", "meadow", "copper", "violet", "granite", "willow", "ember", "quartz", "saffron")
_MEASURED: Final = str(Path(__file__).with_name("measured.py"))


class Difference(Exception):  # noqa: N818 - what it is, in the words of the test
    """The index is not what the source is."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one document must be: exact fields, and words that its text must contain."""

    fields: Mapping[str, Any]
    words: str = ""


class Case(ABC):
    """The data set of one source, and how it changes."""

    service_type: str
    #: In what is printed, where it is not the service type.
    name: str = ""
    #: Service type → `module:Class`, for a source that no installed package names.
    sources: Mapping[str, str] = MappingProxyType({})

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        self.folder = folder
        self.size = size
        self.seed = seed

    @abstractmethod
    def prepare(self) -> None:
        """Starts the server if there is one, and loads the data set; raises MissingError where it cannot run."""

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Returns the connector's configuration."""

    @abstractmethod
    def expected(self) -> dict[str, Expected]:
        """Returns `_id` → what the document must be, read from the source by other means than ours."""

    @abstractmethod
    def mutate(self) -> dict[str, int]:
        """Adds, changes and deletes; returns how many documents: `added`, `changed`, `deleted`."""

    @abstractmethod
    def rules(self) -> tuple[list[dict[str, Any]], Sequence[str]]:
        """Returns basic rules, and the ids of the documents that they drop."""

    @property
    def title(self) -> str:
        """What the test is called."""
        return self.name or self.service_type

    # What a case may add

    def advanced(self) -> tuple[Any, Sequence[str]] | None:
        """Returns advanced rules, and the ids of the documents that they drop; None for a source without them."""
        return None

    def mutate_incrementally(self) -> Mapping[str, int] | None:
        """Changes what an incremental sync sees; returns how many documents: `added`, `changed`, `deleted`.

        Other keys are counters of the job, such as `read`.
        """
        return None

    def close(self) -> None:  # noqa: B027 - a case without a server has nothing to do
        """Ends the server."""


class Run:
    """One functional test.

    Args:
        search: the server that the index is on; None for the embedded one.
    """

    def __init__(self, case: Case, folder: Path, search: SearchServer | None) -> None:
        self._case = case
        self._folder = folder
        self._search = search
        self._config = folder / "config.yml"

    async def run(self) -> None:
        """Runs all steps; raises Difference at the first that is wrong."""
        try:
            await asyncio.to_thread(self._clear)
            await self._run()
        finally:
            await asyncio.to_thread(self._clear)
            self._case.close()

    def _clear(self) -> None:
        """Deletes what a run has on a search server, which may be one that others use, too."""
        if self._search is not None:
            self._search.delete_indices(f"{INDEX}*")

    async def _run(self) -> None:
        case = self._case
        case.prepare()
        index = "the embedded index" if self._search is None else self._search.flavour.title
        print(f"{case.title}: to {index}")  # noqa: T201 - a command
        self._configure([])
        await self._step("first sync", {"indexed": case.size})
        await self._step("nothing changed", {"unchanged": case.size, "indexed": 0, "vanished": 0})
        changes = case.mutate()
        await self._step(
            "added, changed, deleted",
            {"indexed": changes["added"] + changes["changed"], "vanished": changes["deleted"]},
        )
        rules, dropped = case.rules()
        self._configure(rules)
        await self._step("with rules", {"filtered": len(dropped), "vanished": len(dropped)}, without=dropped)
        self._configure([])
        await self._step("without rules", {"indexed": len(dropped), "filtered": 0})
        if (advanced := case.advanced()) is not None:
            queries, dropped = advanced
            self._configure([], queries)
            await self._step("with advanced rules", {"indexed": 0, "vanished": len(dropped)}, without=dropped)
            self._configure([])
            await self._step("without advanced rules", {"indexed": len(dropped)})
        if (changed := case.mutate_incrementally()) is not None:
            counters = {key: number for key, number in changed.items() if key not in {"added", "changed"}}
            await self._step(
                "incremental",
                {**counters, "indexed": changed["added"] + changed["changed"]},
                command=("sync", CONNECTOR, "--type", "incremental", "--json"),
            )
            await self._step("nothing was missed", {"indexed": 0, "vanished": 0})

    def _configure(self, rules: list[dict[str, Any]], advanced: Any = None) -> None:
        connector = {
            "id": CONNECTOR,
            "service_type": self._case.service_type,
            "index": INDEX,
            "configuration": self._case.configuration(),
            "filtering": {"rules": rules} if advanced is None else {"rules": rules, "advanced": advanced},
        }
        config: dict[str, Any] = {"service": {"data_dir": str(self._folder / "data")}, "connectors": [connector]}
        config["sources"] = dict(self._case.sources)
        if self._search is not None:
            access = {"username": self._search.user, "password": self._search.password} if self._search.user else {}
            own = {"connectors_index": f"{INDEX}-connectors", "jobs_index": f"{INDEX}-jobs"}
            config[self._search.flavour.product] = {"url": self._search.url, **access, **own}
        self._config.write_text(yaml.safe_dump(config))

    async def _step(
        self,
        name: str,
        counters: Mapping[str, int],
        without: Sequence[str] = (),
        command: Sequence[str] = ("run", "--once", "--json"),
    ) -> None:
        began = time.perf_counter()
        whole = [sys.executable, "-m", "connectors", "--config", str(self._config), *command]
        out, code, kibibytes = await asyncio.to_thread(_run, whole, self._folder / "peak")
        seconds = time.perf_counter() - began
        if code:
            raise Difference(f"{name}: the sync ended with exit code {code}")
        printed = json.loads(out)
        job = printed["jobs"][0] if "jobs" in printed else printed
        if job["status"] != "completed":
            raise Difference(f"{name}: the job is {job['status']}: {job.get('error')}")
        told = job["counters"]
        for key, number in counters.items():
            if told[key] != number:
                raise Difference(f"{name}: {key} is {told[key]}, not {number}: {told}")
        expected = {key: value for key, value in self._case.expected().items() if key not in set(without)}
        await self._compare(name, expected)
        print(  # noqa: T201 - a command
            f"{self._case.title}: {name}: {len(expected):,} documents equal, {seconds:.1f} s, "
            f"{kibibytes / 1024:.0f} MiB"
        )

    async def _compare(self, name: str, expected: Mapping[str, Expected]) -> None:
        await compare(self._config, name, expected)


async def compare(config: Path, name: str, expected: Mapping[str, Expected]) -> None:
    """Raises Difference when the index of this configuration is not what is expected; `name` stands in the message."""
    async with open_app(read_config(config)) as app:
        held = await _documents(app.destination)
    missing, surplus = sorted(expected.keys() - held.keys()), sorted(held.keys() - expected.keys())
    if missing or surplus:
        raise Difference(
            f"{name}: {len(missing)} documents are missing ({missing[:3]}), {len(surplus)} too many ({surplus[:3]})"
        )
    for document_id, wanted in expected.items():
        document = held[document_id]
        wrong = {key: document.get(key) for key, value in wanted.fields.items() if document.get(key) != value}
        if wrong or wanted.words not in str(document.get("body", "")):
            raise Difference(f"{name}: {document_id} differs: {wrong or 'its text'}; wanted {wanted}")


def _run(command: Sequence[str], peak: Path) -> tuple[bytes, int, int]:
    """Runs a command; returns what it printed, its exit code, and its peak memory in KiB."""
    measured = [sys.executable, "-I", "-S", _MEASURED, str(peak), *command]
    done = subprocess.run(measured, stdout=subprocess.PIPE, check=False)
    return done.stdout, done.returncode, int(peak.read_text("utf-8"))


async def _documents(destination: Destination) -> dict[str, dict[str, Any]]:
    """Returns every document of the index."""
    info = await destination.info(INDEX)
    if info is None:
        return {}
    handle = IndexHandle(INDEX, info.uuid, CONNECTOR, "")
    found: dict[str, dict[str, Any]] = {}
    async for page in destination.stamps(handle):
        digests = [page.digests[at : at + DIGEST_SIZE] for at in range(0, len(page.digests), DIGEST_SIZE)]
        ids = [document_id for _, document_id in await destination.find_ids(handle, digests)]
        for document_id, body in (await destination.fetch(INDEX, ids)).items():
            found[document_id] = orjson.loads(body)
    return found
