"""Text and titles out of files: plain text in any encoding, Markdown, HTML, CSV, JSON, PDF, DOCX, XLSX and PPTX."""

from __future__ import annotations

from connectors.extraction.errors import ExtractionError
from connectors.extraction.extractor import TextExtractor
from connectors.extraction.text import Extracted

__all__ = ["Extracted", "ExtractionError", "TextExtractor"]
