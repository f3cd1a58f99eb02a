"""A small PDF writer: lines of text in the standard fonts, and filled boxes, on A4 pages."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["HEIGHT", "WIDTH", "Page", "write_pdf"]

#: Points of an A4 page.
WIDTH: Final = 595
HEIGHT: Final = 842
FONTS: Final = {"plain": "Helvetica", "bold": "Helvetica-Bold", "code": "Courier"}


@dataclass(slots=True)
class Page:
    """What is drawn on a page. The origin is its lower left corner; lengths are in points, colours RGB from 0 to 1."""

    commands: list[str] = field(default_factory=list)

    def box(self, x: float, y: float, width: float, height: float, colour: Sequence[float]) -> None:
        """Fills a rectangle."""
        self.commands.append(f"{_numbers(*colour)} rg {_numbers(x, y, width, height)} re f")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        font: str = "plain",
        size: float = 9,
        colour: Sequence[float] = (0, 0, 0),
    ) -> None:
        """Writes one line of Latin text; `font` is plain, bold or code."""
        escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        self.commands.append(
            f"{_numbers(*colour)} rg BT /{font} {_numbers(size)} Tf {_numbers(x, y)} Td ({escaped}) Tj ET"
        )

    def content(self) -> bytes:
        """Returns the page's content stream."""
        return "\n".join(self.commands).encode("cp1252")


def write_pdf(pages: Sequence[Page], *, title: str, author: str) -> bytes:
    """Returns the file; the same pages give the same bytes."""
    fonts = " ".join(f"/{name} {number} 0 R" for number, name in enumerate(FONTS, 4))
    kids = [4 + len(FONTS) + 2 * number for number in range(len(pages))]
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>".encode(),
        f"<< /Title ({title}) /Author ({author}) /CreationDate (D:20260101000000Z) >>".encode("cp1252"),
        *(
            f"<< /Type /Font /Subtype /Type1 /BaseFont /{font} /Encoding /WinAnsiEncoding >>".encode()
            for font in FONTS.values()
        ),
    ]
    for page, number in zip(pages, kids, strict=True):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Resources << /Font << {fonts} >> >> "
            f"/Contents {number + 1} 0 R >>".encode()
        )
        stream = zlib.compress(page.content(), 9)
        head = f"<< /Length {len(stream)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + stream + b"\nendstream")
    return _file(objects)


def _file(objects: Sequence[bytes]) -> bytes:
    """Returns header, numbered objects, table of their places, and trailer. Object 1 is the catalogue, 3 the info."""
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n".encode() + content + b"\nendobj\n"
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 3 0 R >>\nstartxref\n{start}\n%%EOF\n".encode()
    return bytes(out)


def _numbers(*values: float) -> str:
    return " ".join(f"{value:.3f}".rstrip("0").rstrip(".") for value in values)
