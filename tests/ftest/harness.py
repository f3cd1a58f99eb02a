"""Syncs with the real command, and holds the index against the source document by document."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import yaml

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import IndexHandle

__all__ = ["Case", "Difference", "Expected", "Run"]

INDEX = "ftest"
CONNECTOR = "ftest"


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

    def __init__(self, folder: Path, *, size: int, seed: int) -> None:
        self.folder = folder
        self.size = size
        self.seed = seed

    @abstractmethod
    def prepare(self) -> None:
        """Starts the server if there is one, and loads the data set."""

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

    # What a case may add

    @classmethod
    def obstacle(cls) -> str | None:
        """Says why the source's server cannot run here; None when it can."""
        return None

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
    """One functional test."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case = case
        self._folder = folder
        self._config = folder / "config.yml"

    async def run(self) -> None:
        """Runs all steps; raises Difference at the first that is wrong."""
        try:
            await self._run()
        finally:
            self._case.close()

    async def _run(self) -> None:
        case = self._case
        case.prepare()
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
        self._config.write_text(
            yaml.safe_dump({"service": {"data_dir": str(self._folder / "data")}, "connectors": [connector]})
        )

    async def _step(
        self,
        name: str,
        counters: Mapping[str, int],
        without: Sequence[str] = (),
        command: Sequence[str] = ("run", "--once", "--json"),
    ) -> None:
        began = time.perf_counter()
        whole = [sys.executable, "-m", "connectors", "--config", str(self._config), *command]
        out, code, kibibytes = await asyncio.to_thread(_run, whole)
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
            f"{self._case.service_type}: {name}: {len(expected):,} documents equal, {seconds:.1f} s, "
            f"{kibibytes / 1024:.0f} MiB"
        )

    async def _compare(self, name: str, expected: Mapping[str, Expected]) -> None:
        backend = await EmbeddedBackend.open(self._folder / "data" / "connectors.db")
        try:
            held = await _documents(backend)
        finally:
            await backend.close()
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


def _run(command: Sequence[str]) -> tuple[bytes, int, int]:
    """Runs a command; returns what it printed, its exit code, and its peak memory in KiB."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return out, process.returncode, usage.ru_maxrss


async def _documents(backend: EmbeddedBackend) -> dict[str, dict[str, Any]]:
    """Returns every document of the index."""
    info = await backend.destination.info(INDEX)
    if info is None:
        return {}
    handle = IndexHandle(INDEX, info.uuid, CONNECTOR, "")
    found: dict[str, dict[str, Any]] = {}
    async for page in backend.destination.stamps(handle):
        digests = [page.digests[at : at + 16] for at in range(0, len(page.digests), 16)]
        ids = [document_id for _, document_id in await backend.destination.find_ids(handle, digests)]
        for document_id, body in (await backend.destination.fetch(INDEX, ids)).items():
            found[document_id] = orjson.loads(body)
    return found
