"""Text out of files: plain text in any encoding, Markdown, HTML, CSV, JSON, PDF, DOCX, XLSX and PPTX."""

from __future__ import annotations

from connectors.extraction.errors import ExtractionError
from connectors.extraction.extractor import TextExtractor

__all__ = ["ExtractionError", "TextExtractor"]
