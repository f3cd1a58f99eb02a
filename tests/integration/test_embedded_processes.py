"""The embedded index under several processes, and under `kill -9`. Run as a script, this file is the writing child."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import Final

import orjson
import pytest

from connectors.backends.embedded import EmbeddedBackend
from connectors.backends.ports import IndexHandle, IndexSpec, Operation

ROOT: Final = Path(__file__).parents[2]
BATCH: Final = 120


def batch_of(writer: str, number: int) -> list[Operation]:
    """A batch of writes; each third batch writes the documents of the one before anew and deletes some of them."""
    again = number % 3 == 2
    operations = []
    for n in range(BATCH):
        id_ = f"{writer}/{number - again}/{n}"
        body = orjson.dumps({"title": f"batch {number}", "path": id_, "body": f"common words {n} " * 30})
        digest = blake2b(id_.encode(), digest_size=16).digest()
        content_hash = blake2b(body, digest_size=8).digest()
        operations.append(Operation(id_, digest, content_hash, number + 1, None if again and n % 4 == 0 else body))
    return operations


async def write(path: Path, writer: str, batches: int) -> None:
    """Writes batches and prints the number of each once it is acknowledged."""
    backend = await EmbeddedBackend.open(path)
    info = await backend.destination.prepare(IndexSpec("things"))
    handle = IndexHandle("things", info.uuid, writer, "fingerprint")
    for number in range(batches):
        result = await backend.destination.write(handle, batch_of(writer, number))
        assert not result.failures
        os.write(1, f"{number}\n".encode())
    await backend.close()


def start(path: Path, writer: str, batches: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, __file__, str(path), writer, str(batches)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def expected(writer: str, acknowledged: int) -> dict[str, bytes]:
    """What the first batches leave of the documents that later ones do not touch."""
    held: dict[str, bytes] = {}
    for number in range(acknowledged):
        for operation in batch_of(writer, number):
            if operation.body is None:
                del held[operation.id]
            else:
                held[operation.id] = operation.body
    return held


def assert_sound(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        database.execute("INSERT INTO text_1 (text_1) VALUES ('integrity-check')")
        for difference in (
            "SELECT pk FROM documents EXCEPT SELECT rowid FROM text_1",
            "SELECT rowid FROM text_1 EXCEPT SELECT pk FROM documents",
        ):
            assert database.execute(difference).fetchall() == []


@pytest.mark.process
async def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    """Both start on a file that is not there yet, while this process opens it too."""
    path = tmp_path / "index.db"
    writers = {name: start(path, name, 15) for name in ("one", "two")}
    backend = await EmbeddedBackend.open(path)
    info = await backend.destination.prepare(IndexSpec("things"))
    counts: list[int] = []
    while any(process.poll() is None for process in writers.values()):
        counts.append(await backend.destination.count("things"))
        page = await backend.destination.search("things", "common", limit=1)
        # A batch of this size is one transaction, and is seen whole or not at all.
        assert counts[-1] % (BATCH // 4) == page.total % (BATCH // 4) == 0
    for name, process in writers.items():
        output, _ = process.communicate()
        assert process.returncode == 0
        assert output.split() == [str(number).encode() for number in range(15)]
        held = expected(name, 15)
        assert await backend.destination.fetch("things", list(held)) == held
        handle = IndexHandle("things", info.uuid, name, "fingerprint")
        stamps = [len(stamp.digests) // 16 async for stamp in backend.destination.stamps(handle)]
        assert sum(stamps) == await backend.destination.count("things", name) == len(held)
    await backend.close()
    assert len(set(counts)) > 2  # it read while they wrote
    assert_sound(path)


@pytest.mark.process
def test_killed_at_any_instant_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "index.db"
    instants = random.Random(3)
    for round_ in range(8):
        writer = f"writer {round_}"
        child = start(path, writer, 10_000)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(instants.randint(1, 20))]
        asyncio.run(asyncio.sleep(instants.uniform(0, 0.02)))  # into the middle of a transaction
        child.send_signal(signal.SIGKILL)
        rest, _ = child.communicate()
        assert child.returncode == -signal.SIGKILL
        acknowledged = len(lines) + rest.count(b"\n")
        asyncio.run(verify(path, writer, acknowledged))
        assert_sound(path)


async def verify(path: Path, writer: str, acknowledged: int) -> None:
    backend = await EmbeddedBackend.open(path)
    held = expected(writer, acknowledged)
    # The batch that was under way may be there too, whole or in part; it may have changed the batch before it.
    touched = {operation.id for operation in batch_of(writer, acknowledged)}
    certain = {id_: body for id_, body in held.items() if id_ not in touched}
    found = await backend.destination.fetch("things", list(held))
    assert {id_: body for id_, body in found.items() if id_ not in touched} == certain
    count = await backend.destination.count("things", writer)
    assert len(certain) <= count <= len(held) + BATCH
    await backend.close()


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
