"""Titles in the metadata of files, most of which nobody wrote on purpose."""

from __future__ import annotations

import re
from typing import Final

from connectors.extraction.text import clean_title

__all__ = ["title_of_metadata"]

# What programs write where nobody gave a title; compared without capitals.
_PLACEHOLDERS: Final = frozenset({
    "untitled", "untitled document", "untitled presentation", "untitled spreadsheet", "untitled-1", "untitled 1",
    "document", "document1", "new document", "book1", "workbook1", "presentation", "presentation1",
    "powerpoint presentation", "powerpoint-präsentation", "présentation powerpoint", "slide 1", "no slide title",
    "unknown", "none", "null", "default",
})  # fmt: skip

# "Microsoft Word - report.doc", as its printer driver wrote it for years.
_PRINTED = re.compile(r"Microsoft (?:Office )?(?:Word|PowerPoint|Excel|Publisher) ?- ", re.IGNORECASE)
_FILE_NAME = re.compile(
    r"\S+\.(?:docx?|dotx?|odt|rtf|pptx?|potx?|odp|xlsx?|xltx?|ods|pdf|indd|qxd|dvi|tex|ps|eps|ai|fm|pub|pages|html?|txt|md)",
    re.IGNORECASE,
)


def title_of_metadata(title: str | None) -> str | None:
    """Returns a clean title, None for what a program put there by itself: a placeholder or the name of a file."""
    line = clean_title(title)
    if line is None or line.casefold() in _PLACEHOLDERS or _PRINTED.match(line) or _FILE_NAME.fullmatch(line):
        return None
    return line
