"""Hostile files and dying processes: each costs one document, and the extractor works afterwards."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from connectors.errors import SyncError
from connectors.extraction import Extracted, ExtractionError, TextExtractor
from connectors.extraction.pool import WorkerPool

pytestmark = pytest.mark.process

MEMORY = 512 * 2**20


@asynccontextmanager
async def running(*, workers: int = 1, timeout: float = 20.0, memory: int = MEMORY) -> AsyncIterator[TextExtractor]:
    extractor = TextExtractor(workers=workers, timeout=timeout, memory=memory, max_text_chars=100_000)
    await extractor.start()
    try:
        yield extractor
    finally:
        await extractor.close()


async def works(extractor: TextExtractor) -> None:
    assert await extractor.extract(b"<p>still here", name="ok.html") == Extracted("still here")


def worker_processes() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("[Content_Types].xml", "<Types/>")
        for name, content in members.items():
            opened.writestr(name.replace("__", "/") + ".xml", content)
    return out.getvalue()


def pdf(*objects: bytes) -> bytes:
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    tail = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(out))
    return out + head + table + tail


def pdf_with_stream(stream: bytes, filters: bytes = b"") -> bytes:
    return pdf(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(stream), filters, stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )


def slow_pdf(operations: int) -> bytes:
    """A PDF whose page draws a letter again and again: some twenty seconds of work for a million operations."""
    return pdf_with_stream(b"BT /F1 9 Tf (x) Tj " * operations + b"ET")


SLOW = slow_pdf(1_000_000)


def pages_in_a_circle() -> bytes:
    return pdf(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>")


BILLION_LAUGHS = b"<!DOCTYPE a [<!ENTITY b 'lol'>" + b"".join(
    b"<!ENTITY %c '%s'>" % (c, b"&%c;" % (c - 1) * 10) for c in range(ord("c"), ord("m"))
) + b"]><a>&l;</a>"  # fmt: skip

HOSTILE = {
    "zip_bomb.docx": archive(word__document=b"<a>" + b" " * 300_000_000 + b"</a>"),
    "entity_bomb.docx": archive(word__document=BILLION_LAUGHS),
    "entity_bomb.xlsx": archive(xl__workbook=BILLION_LAUGHS),
    "deep.docx": archive(word__document=b"<a>" * 1_000_000),
    "deep.json": b"[" * 100_000,
    "deep.html": b"<b><div>" * 1_000_000,
    "flate_bomb.pdf": pdf_with_stream(
        zlib.compress(zlib.compress(b"\0" * 400_000_000, 9), 9), b"/Filter [/FlateDecode /FlateDecode]"
    ),
    "circle.pdf": pages_in_a_circle(),
    "noise.pdf": b"%PDF-1.7\n" + bytes(range(256)) * 1000,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_costs_only_itself(name: str) -> None:
    async with running() as extractor:
        with suppress(ExtractionError):  # one of them may have some text after all; what counts comes after it
            extracted = await extractor.extract(HOSTILE[name], name=name)
            assert extracted is None or len(extracted.text) <= 100_000
        await works(extractor)


@pytest.mark.parametrize("name", ["zip_bomb.docx", "entity_bomb.docx", "entity_bomb.xlsx", "deep.json", "circle.pdf"])
async def test_the_plain_ones_are_named(name: str) -> None:
    async with running() as extractor:
        with pytest.raises(ExtractionError, match=f"^{name}: the "):
            await extractor.extract(HOSTILE[name], name=name)


async def test_a_file_that_takes_too_long_is_stopped() -> None:
    async with running(timeout=1.0) as extractor:
        await works(extractor)
        begun = time.monotonic()
        with pytest.raises(ExtractionError, match=r"^slow\.pdf: the text extraction took longer than 1 s$"):
            await extractor.extract(SLOW, name="slow.pdf")
        assert time.monotonic() - begun < 10
        await works(extractor)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux enforces the limit")
async def test_a_file_that_takes_too_much_memory_is_stopped() -> None:
    async with running(memory=300 * 2**20) as extractor:
        with pytest.raises(
            ExtractionError, match=r"^big\.json: the text extraction needed more than 300 MiB of memory$"
        ):
            await extractor.extract(b"[" + b"{}," * 8_000_000 + b"0]", name="big.json")
        await works(extractor)


async def test_a_worker_that_dies_over_a_file_costs_that_file() -> None:
    async with running() as extractor:
        await works(extractor)
        slow = asyncio.create_task(extractor.extract(SLOW, name="slow.pdf"))
        (worker,) = worker_processes()
        while worker.cpu_times().user < 1.0:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.05)
        worker.kill()
        with pytest.raises(ExtractionError, match=r"^slow\.pdf: the text extraction died over this file"):
            await slow
        await works(extractor)


async def test_a_worker_that_is_killed_while_idle_costs_nothing() -> None:
    async with running() as extractor:
        await works(extractor)
        (worker,) = worker_processes()
        worker.kill()
        for _ in range(20):
            await works(extractor)


async def test_files_are_worked_on_at_once_and_one_slow_file_holds_up_no_other() -> None:
    async with running(workers=2, timeout=3.0) as extractor:
        slow = asyncio.create_task(extractor.extract(SLOW, name="slow.pdf"))
        await asyncio.sleep(0)
        for _ in range(20):
            await works(extractor)
        assert not slow.done()
        assert len(worker_processes()) == 2
        with pytest.raises(ExtractionError):
            await slow


async def test_a_stream_of_files_one_by_one_keeps_a_single_process() -> None:
    async with running(workers=4) as extractor:
        for _ in range(10):
            await works(extractor)
        assert len(worker_processes()) == 1
    assert worker_processes() == []


async def test_a_cancelled_call_gives_its_worker_back() -> None:
    async with running() as extractor:
        await works(extractor)
        slow = asyncio.create_task(extractor.extract(SLOW, name="slow.pdf"))
        await asyncio.sleep(0.3)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        await works(extractor)


async def test_a_call_that_is_cancelled_while_its_process_starts_leaves_none_behind() -> None:
    async with running() as extractor:
        for _ in range(3):
            file = asyncio.create_task(extractor.extract(b"<p>x", name="a.html"))
            await asyncio.sleep(0)
            file.cancel()
            with pytest.raises(asyncio.CancelledError):
                await file
        await works(extractor)
        assert len(worker_processes()) == 1
        stopped = asyncio.create_task(extractor.extract(SLOW, name="slow.pdf"))
        await asyncio.sleep(0)
    with pytest.raises(SyncError, match="stopped in the middle"):
        await stopped
    assert worker_processes() == []


async def test_closing_while_a_process_starts_leaves_none_behind() -> None:
    async with running() as extractor:
        file = asyncio.create_task(extractor.extract(b"<p>x", name="a.html"))
        await asyncio.sleep(0)
    with pytest.raises(SyncError):
        await file
    assert worker_processes() == []


async def test_a_worker_that_cannot_be_ended_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.extraction.pool._GRACE", -19.0)  # we run out of patience before pebble does
    async with running(timeout=20.0) as extractor:
        with pytest.raises(ExtractionError, match="took longer than 20 s"):
            await extractor.extract(SLOW, name="slow.pdf")
        assert worker_processes() == []
        await works(extractor)


async def test_closing_ends_calls_that_are_under_way() -> None:
    async with running() as extractor:
        slow = asyncio.create_task(extractor.extract(SLOW, name="slow.pdf"))
        while not worker_processes():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)
        await extractor.close()
        with pytest.raises(SyncError, match="stopped in the middle"):
            await slow
    assert worker_processes() == []


async def test_workers_that_cannot_start_are_not_blamed_on_the_file() -> None:
    pool = WorkerPool(1, 20.0, 2**80)  # no such limit can be set
    try:
        with pytest.raises(SyncError, match=r"do not start, .* is `extraction\.memory` too small"):
            await pool.run(os.getpid)
    finally:
        await pool.stop()


async def test_a_worker_that_is_told_to_end_is_replaced_and_the_file_done_again() -> None:
    async with running() as extractor:
        await works(extractor)
        file = asyncio.create_task(extractor.extract(slow_pdf(50_000), name="long.pdf"))
        (worker,) = worker_processes()
        while worker.cpu_times().user < 0.5:  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.01)
        worker.terminate()
        extracted = await file
        assert extracted is not None
        assert extracted.text.startswith("xxx")


async def test_a_process_is_replaced_after_a_number_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.extraction.pool._FILES_PER_PROCESS", 3)
    pool = WorkerPool(1, 20.0, MEMORY)
    try:
        pids = [await pool.run(os.getpid) for _ in range(9)]
    finally:
        await pool.stop()
    assert len(set(pids)) == 3


DAEMON = """
import asyncio, sys
from contextlib import suppress
from connectors.extraction import ExtractionError, TextExtractor

async def keep_busy(extractor: TextExtractor, slow: bytes) -> None:
    while True:
        with suppress(ExtractionError):  # after some seconds its library gives the file up
            await extractor.extract(slow, name="slow.pdf")

async def main() -> None:
    extractor = TextExtractor(workers=2, timeout=600, memory=2**30, max_text_chars=1000)
    await extractor.start()
    slow = open(sys.argv[1], "rb").read()
    tasks = [asyncio.create_task(keep_busy(extractor, slow))]
    await extractor.extract(b"<p>x", name="a.html")
    print("ready", flush=True)
    try:
        await asyncio.gather(*tasks)
    finally:
        await extractor.close()

if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("bye", flush=True)
"""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process with one worker that is always busy and one that is idle."""
    (tmp_path / "slow.pdf").write_bytes(SLOW)
    script = tmp_path / "daemon.py"
    script.write_text(DAEMON)
    command = [sys.executable, str(script), str(tmp_path / "slow.pdf")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_no_worker_outlives_a_daemon_that_is_killed(daemon: subprocess.Popen[str]) -> None:
    children = psutil.Process(daemon.pid).children(recursive=True)
    assert len(children) >= 2
    daemon.kill()
    gone, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert len(gone) >= 2


def test_ctrl_c_prints_no_traceback_of_a_worker(daemon: subprocess.Popen[str]) -> None:
    children = psutil.Process(daemon.pid).children(recursive=True)
    os.killpg(daemon.pid, signal.SIGINT)  # as a terminal does: to all processes in the foreground
    assert daemon.communicate(timeout=20) == ("bye\n", "")
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
