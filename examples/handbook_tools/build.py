"""Makes the binary documents of the handbook: `python -m examples.handbook_tools.build`, from the repository's root.

They are kept in the repository; a test tells when one of them is older than its text here. The same text gives the same
bytes with the same libraries.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from examples.handbook_tools.pdf import HEIGHT, WIDTH, Page, write_pdf
from examples.handbook_tools.texts import CAPACITY_NOTES, CAPACITY_ROWS, CARD, REVIEW, SLIDES

__all__ = ["DOCUMENTS", "build"]

HANDBOOK: Final = Path(__file__).parent.parent / "handbook"
AUTHOR: Final = "The operations team"
MOMENT: Final = datetime(2026, 1, 1, tzinfo=UTC)
INK: Final = (0.11, 0.24, 0.35)
NAVY: Final = "1C3D5A"
"""`INK` in hexadecimal."""
QUIET: Final = (0.35, 0.4, 0.45)
PALE: Final = (0.9, 0.94, 0.96)


def quick_reference() -> bytes:
    """The card: one page, two columns."""
    page = Page()
    page.box(0, HEIGHT - 84, WIDTH, 84, INK)
    page.text(40, HEIGHT - 44, "Quick reference", font="bold", size=22, colour=(1, 1, 1))
    page.text(40, HEIGHT - 64, "Operating the search: commands, queries, schedules, exit codes", size=10, colour=PALE)
    page.box(40, 46, WIDTH - 80, 0.7, INK)
    page.text(40, 32, "Replace NAME by the id of a connector in config.yml.", size=8.5, colour=QUIET)
    for column, sections in enumerate(CARD):
        left, y = 40 + 265 * column, HEIGHT - 114
        for heading, rows in sections:
            page.box(left, y - 5, 250, 18, PALE)
            page.text(left + 6, y, heading, font="bold", size=11, colour=INK)
            y -= 22
            for word, meaning in rows:
                page.text(left + 6, y, word, font="code", size=9.5)
                page.text(left + 6, y - 11, meaning, size=8.5, colour=QUIET)
                y -= 25
            y -= 8
    return write_pdf([page], title="Quick reference", author=AUTHOR)


def review_template() -> bytes:
    """The form for looking back at an incident."""
    from docx import Document
    from docx.shared import Pt

    document = Document()
    document.styles["Normal"].font.name = "Calibri"
    document.styles["Normal"].font.size = Pt(11)
    document.add_heading("Incident review", 0)
    document.add_paragraph(
        "Written within a week, by the person who was on call, together with everybody who took part. "
        "We look for causes in the system, not for culprits."
    )
    table = document.add_table(rows=0, cols=2, style="Table Grid")
    for label in (
        "Incident",
        "Begin and end (UTC)",
        "Connectors concerned",
        "Jobs (ids)",
        "Runbook that was used",
        "Present",
    ):
        cells = table.add_row().cells
        cells[0].text = label
    for heading, hint, lines in REVIEW:
        document.add_heading(heading, 1)
        document.add_paragraph().add_run(hint).italic = True
        for _ in range(lines):
            document.add_paragraph("_" * 78)
    document.add_heading("What we change", 1)
    actions = document.add_table(rows=1, cols=4, style="Table Grid")
    for cell, label in zip(actions.rows[0].cells, ("Action", "Who", "Until", "Done"), strict=True):
        cell.text = label
    for _ in range(4):
        actions.add_row()
    document.add_paragraph()
    document.add_paragraph(
        "Afterwards: correct the runbook, add the words that were searched for in vain, and put this review where the "
        "next person finds it."
    )
    _describe(document.core_properties, "Incident review")
    return _saved(document.save)


def onboarding() -> bytes:
    """The slides for new colleagues."""
    from pptx import Presentation
    from pptx.dml.color import RGBColor
    from pptx.util import Inches, Pt

    ink = RGBColor.from_string(NAVY)  # type: ignore[no-untyped-call]  # python-pptx leaves it unannotated
    deck = Presentation()
    deck.slide_width, deck.slide_height = Inches(13.333), Inches(7.5)
    for title, bullets, notes in SLIDES:
        slide = deck.slides.add_slide(deck.slide_layouts[5])  # a title, and room
        heading = slide.shapes.title
        heading.left, heading.top, heading.width, heading.height = Inches(0.8), Inches(0.6), Inches(11.7), Inches(1.2)
        heading.text = title
        first = heading.text_frame.paragraphs[0]
        first.font.size, first.font.bold, first.font.color.rgb = Pt(40), True, ink
        frame = slide.shapes.add_textbox(Inches(0.9), Inches(2.1), Inches(11.5), Inches(4.8)).text_frame
        frame.word_wrap = True
        for number, bullet in enumerate(bullets):
            paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()
            paragraph.text = f"•  {bullet}"
            paragraph.font.size, paragraph.space_after = Pt(26), Pt(14)
        slide.notes_slide.notes_text_frame.text = notes
    _describe(deck.core_properties, "Onboarding")
    return _saved(deck.save)


def capacity() -> bytes:
    """The sheet for planning disk, memory and time."""
    from openpyxl import Workbook
    from openpyxl.styles import Alignment, Font, PatternFill

    workbook = Workbook()
    workbook.remove(workbook["Sheet"])
    sheet = workbook.create_sheet("Capacity")
    sheet.append(("What", "Unit", "Value", "Where the number comes from"))
    for row in CAPACITY_ROWS:
        sheet.append((row[0], row[1], row[2], row[3]))
    for cell in sheet[1]:
        cell.font = Font(bold=True, color="FFFFFF")
        cell.fill = PatternFill("solid", fgColor=NAVY)
    for cell in sheet["C"][1:]:
        cell.number_format = "#,##0.0" if cell.row == len(CAPACITY_ROWS) + 1 else "#,##0"
        if cell.value is None:
            cell.fill = PatternFill("solid", fgColor="FFF4C2")
    for column, width in zip("ABCD", (48, 12, 20, 62), strict=True):
        sheet.column_dimensions[column].width = width
    sheet.freeze_panes = "A2"
    notes = workbook.create_sheet("How to use it")
    notes.column_dimensions["A"].width = 100
    for note in CAPACITY_NOTES:
        notes.append((note,))
        notes.cell(notes.max_row, 1).alignment = Alignment(wrap_text=True, vertical="top")
    properties = workbook.properties
    properties.title, properties.creator, properties.created = "Capacity", AUTHOR, MOMENT.replace(tzinfo=None)
    return _saved(workbook.save)


DOCUMENTS: Final[Mapping[str, Callable[[], bytes]]] = {
    "incidents/review-template.docx": review_template,
    "operate/capacity.xlsx": capacity,
    "reference/quick-reference.pdf": quick_reference,
    "start/onboarding.pptx": onboarding,
}


def build(folder: Path = HANDBOOK) -> None:
    """Writes all of them below `folder`."""
    for name, make in DOCUMENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make())


def _describe(properties: Any, title: str) -> None:
    properties.title, properties.author, properties.last_modified_by = title, AUTHOR, AUTHOR
    properties.created = properties.modified = MOMENT.replace(tzinfo=None)
    properties.comments = properties.keywords = ""


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    """Returns the Office file with a fixed time in place of each present one."""
    saved, out = io.BytesIO(), io.BytesIO()
    save(saved)
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as fixed:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "docProps/core.xml":
                content = re.sub(rb"(<dcterms:modified[^>]*>)[^<]*", rb"\g<1>2026-01-01T00:00:00Z", content)
            fixed.writestr(zipfile.ZipInfo(name, MOMENT.timetuple()[:6]), content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


if __name__ == "__main__":
    build()
