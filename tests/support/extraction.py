"""What the extraction makes of a file, in the process of the test."""

from __future__ import annotations

from typing import Final

from connectors.extraction.detect import Kind
from connectors.extraction.worker import extract_in_worker, read_file

__all__ = ["LIMIT", "refusal", "text_of"]

#: Characters.
LIMIT: Final = 100_000


def text_of(content: bytes | str, kind: Kind, limit: int = LIMIT) -> str:
    """Returns the text of a file that has one."""
    extracted = read_file(content.encode() if isinstance(content, str) else content, kind, limit)
    assert extracted is not None
    return extracted.text


def refusal(content: bytes, kind: Kind) -> str:
    """Returns why a file is refused."""
    outcome = extract_in_worker(content, kind, LIMIT)
    assert isinstance(outcome, str)
    return outcome
