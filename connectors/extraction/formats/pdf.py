"""PDF to text, by pypdf."""

from __future__ import annotations

import io

from connectors.extraction.errors import UnreadableFileError
from connectors.extraction.text import TextCollector, TextLimitReachedError

__all__ = ["pdf_to_text"]

# What the library lets through, besides its own errors, when objects of a file are not what they should be.
_MALFORMED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, NotImplementedError)


def pdf_to_text(content: bytes, limit: int) -> str:
    """Returns the text of all pages, an empty line between them; a scanned page has none.

    A page that cannot be read is left out as long as another one has text.

    Raises:
        UnreadableFileError: the PDF needs a password, or nothing of it can be read.
    """
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    out = TextCollector(limit)
    failure: Exception | None = None
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):  # many need a password for changing only
            raise UnreadableFileError("is encrypted: it cannot be read without its password")
        for page in reader.pages:
            try:
                out.add(page.extract_text() + "\n\n")
            except (
                PyPdfError,
                ValueError,
                LookupError,
                TypeError,
                AttributeError,
                ArithmeticError,
                NotImplementedError,
            ) as error:
                failure = failure or error  # the library lets these through for malformed objects
    except TextLimitReachedError:
        pass
    except DependencyError:
        raise UnreadableFileError("is encrypted in a way that needs the Python package cryptography") from None
    if failure is not None and not out.text().strip():
        raise failure
    return out.text()
