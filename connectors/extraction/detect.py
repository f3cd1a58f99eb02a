"""What kind of file is it? The content decides first, then the name and the MIME type."""

from __future__ import annotations

from enum import Enum

from connectors.extraction.text import looks_binary

__all__ = ["Kind", "detect"]


class Kind(Enum):
    """A way to get text out of a file."""

    TEXT = "text"
    MARKDOWN = "Markdown"
    HTML = "HTML"
    CSV = "CSV"
    JSON = "JSON"
    PDF = "PDF"
    ZIP = "ZIP"
    """DOCX, XLSX, PPTX or none of them; what is inside decides."""
    ENCRYPTED = "encrypted Office"


_PDF_MARK_WITHIN = 1024
"""Readers accept a PDF whose mark comes after so many bytes of something else."""

_OLE2 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")

_RTF = b"{\\rtf"
"""The one format that is made of readable characters and yet is no text without a reader of its own."""

_SUFFIXES = {
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".mdown": Kind.MARKDOWN,
    ".mkd": Kind.MARKDOWN,
    ".html": Kind.HTML,
    ".htm": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".csv": Kind.CSV,
    ".tsv": Kind.CSV,
    ".json": Kind.JSON,
    ".jsonl": Kind.JSON,
    ".ndjson": Kind.JSON,
    ".geojson": Kind.JSON,
    ".ipynb": Kind.JSON,
}
_MIME_TYPES = {
    "text/markdown": Kind.MARKDOWN,
    "text/html": Kind.HTML,
    "application/xhtml+xml": Kind.HTML,
    "text/csv": Kind.CSV,
    "text/tab-separated-values": Kind.CSV,
    "application/json": Kind.JSON,
    "application/x-ndjson": Kind.JSON,
}


def detect(content: bytes, name: str, mime_type: str | None = None) -> Kind | None:
    """Returns the kind of a file, or None for one without text that we can read, such as an image.

    Args:
        content: the whole file.
        name: its name or path, used for its suffix.
        mime_type: what the source says it is, believed last; parameters (`; charset=…`) are ignored.
    """
    head = content[:_PDF_MARK_WITHIN]
    named_pdf = name.lower().endswith(".pdf") or mime_type == "application/pdf"
    if head.lstrip().startswith(b"%PDF-") or (named_pdf and b"%PDF-" in head):
        return Kind.PDF
    if content.startswith(b"PK\x03\x04"):
        return Kind.ZIP
    if content.startswith(_OLE2):  # old Office formats have no text for us; a new one with a password is wrapped so
        return Kind.ENCRYPTED if _ENCRYPTED_PACKAGE in content else None
    if content.startswith(_RTF) or looks_binary(content):
        return None
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind.HTML
    kind = _SUFFIXES.get(_suffix(name))
    if kind is None and mime_type:
        kind = _MIME_TYPES.get(mime_type.partition(";")[0].strip().lower())
    return kind or Kind.TEXT


def _suffix(name: str) -> str:
    """Returns the suffix of a name or path as pathlib gives it, at a tenth of the cost; small letters."""
    base = name[name.rfind("/") + 1 :]
    dot = base.rfind(".")
    return base[dot:].lower() if 0 < dot < len(base) - 1 else ""
