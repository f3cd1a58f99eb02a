"""PDF to text and title, by pypdf."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.formats.titles import title_of_metadata
from connectors.extraction.text import Extracted, TextCollector, TextLimitReachedError

if TYPE_CHECKING:
    from pypdf import PdfReader

__all__ = ["read_pdf"]

# What the library lets through, besides its own errors, when objects of a file are not what they should be.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NotImplementedError)


def read_pdf(content: bytes, limit: int) -> Extracted:
    """Returns the title of the metadata and the text of all pages, an empty line between them; a scanned page has none.

    A page that cannot be read is left out as long as another one has text.

    Raises:
        UnreadableFileError: the PDF needs a password, or nothing of it can be read.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    out = TextCollector(limit)
    failure: Exception | None = None
    title: str | None = None
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):  # many need a password for changing only
            raise UnreadableFileError("is encrypted: it cannot be read without its password")
        title = _title(reader)
        for page in reader.pages:
            try:
                out.add(page.extract_text() + "\n\n")
            except (PyPdfError, *_MALFORMED) as error:
                failure = failure or error
    except TextLimitReachedError:
        pass
    except DependencyError:
        raise UnreadableFileError("is encrypted in a way that needs the Python package cryptography") from None
    if failure is not None and not out.text().strip():
        raise failure
    return Extracted(out.text(), title)


def _title(reader: PdfReader) -> str | None:
    """Returns the title; metadata that is damaged is no reason to do without the pages."""
    from pypdf.errors import PyPdfError

    try:
        title = reader.metadata.title if reader.metadata is not None else None
    except (PyPdfError, *_MALFORMED):
        return None
    return title_of_metadata(title) if isinstance(title, str) else None
