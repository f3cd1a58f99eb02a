"""Errors of text extraction."""

from __future__ import annotations

from connectors.errors import SkippableError

__all__ = ["ExtractionError", "UnreadableFileError"]


class ExtractionError(SkippableError):
    """The text of one file cannot be had; the message names the file and says why in plain words."""


class UnreadableFileError(Exception):
    """Raised by the parsers, which do not know the file's name: the message goes on behind "the file …"."""
