"""PDF files as layout programs make them: text at places and in fonts, pictures, an outline."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

FONTS = {
    "F1": "/Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding",
    "F2": "/Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding",
    "F3": "/Type1 /BaseFont /Courier /Encoding /WinAnsiEncoding",
    "F4": "/Type1 /BaseFont /ABCDEF+Odd /Encoding << /Differences [1 "
    + " ".join(f"/g{n}" for n in range(1, 32))
    + "] >> /FirstChar 1 /LastChar 31 /Widths ["
    + " 600" * 31
    + "]",
}


@dataclass(frozen=True)
class At:
    """A line of text at a place on the page, in points from its lower left corner."""

    x: float
    y: float
    text: str
    size: float = 10
    font: str = "F1"
    matrix: str = ""
    """That turns it, instead of its place: `0 1 -1 0 72 700` reads upwards."""


@dataclass(frozen=True)
class Picture:
    """A picture that covers the page, as a scanner makes one."""


Item = At | Picture


def column(lines: Sequence[str], x: float = 72, y: float = 700, size: float = 10) -> list[Item]:
    """Return lines below each other."""
    return [At(x, y - 1.2 * size * number, line, size) for number, line in enumerate(lines)]


def make(
    *pages: Sequence[Item],
    title: str = "",
    outline: Sequence[tuple[str, int, float]] = (),
    rotate: int = 0,
    catalog: str = "",
) -> bytes:
    """Return a PDF; `outline` has titles with their page and height, `catalog` further entries."""
    objects: list[bytes] = []

    def add(content: str | bytes) -> int:
        objects.append(content.encode("latin-1") if isinstance(content, str) else content)
        return len(objects)

    add("")  # the catalog and the pages come first
    add("")
    fonts = " ".join(
        f"/{name} {add(f'<< /Type /Font /Subtype {font} >>')} 0 R" for name, font in FONTS.items()
    )
    image = add(
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray "
        b"/BitsPerComponent 8 /Length 1 >>\nstream\n\xc0\nendstream"
    )
    numbers = []
    for items in pages:
        drawn = "\n".join(map(_drawn, items)).encode("cp1252")
        content = add(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
        numbers.append(
            add(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Rotate {rotate} /Contents "
                f"{content} 0 R /Resources << /Font << {fonts} >> /XObject << /I {image} 0 R >> >> "
                ">>"
            )
        )
    objects[1] = (
        f"<< /Type /Pages /Kids [{' '.join(f'{n} 0 R' for n in numbers)}] /Count {len(numbers)} >>"
    ).encode()
    entries = len(objects) + 2
    root = add("")
    for number, (name, page, height) in enumerate(outline):
        following = f"/Next {entries + number + 1} 0 R" if number + 1 < len(outline) else ""
        target = f"/Dest [{numbers[page]} 0 R /XYZ 0 {height} 0]"
        add(f"<< /Title ({name}) /Parent {root} 0 R {target} {following} >>")
    if outline:
        objects[root - 1] = (
            f"<< /Type /Outlines /First {entries} 0 R /Last {len(objects)} 0 R >>".encode()
        )
    objects[0] = f"<< /Type /Catalog /Pages 2 0 R /Outlines {root} 0 R >>".encode()
    if not outline:
        objects[0], objects[root - 1] = b"<< /Type /Catalog /Pages 2 0 R >>", b"null"
    objects[0] = objects[0].removesuffix(b">>") + f"{catalog} >>".encode()
    info = add(f"<< /Title ({title}) >>")
    return file_of(objects, info)


def _drawn(item: Item) -> str:
    if isinstance(item, Picture):
        return "q 580 0 0 760 16 16 cm /I Do Q"
    text = item.text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    place = f"{item.matrix} Tm" if item.matrix else f"{item.x} {item.y} Td"
    return f"BT /{item.font} {item.size} Tf {place} ({text}) Tj ET"


def file_of(objects: Sequence[bytes], info: int | None = None) -> bytes:
    """Return a file of objects, the first its catalog; `info` is the number of its properties."""
    out = io.BytesIO()
    out.write(b"%PDF-1.4\n")
    places = []
    for number, content in enumerate(objects, 1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1))
    out.writelines(b"%010d 00000 n \n" % place for place in places)
    properties = f"/Info {info} 0 R " if info else ""
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R {properties}>>"
    out.write(f"trailer\n{trailer}\nstartxref\n{start}\n%%EOF\n".encode())
    return out.getvalue()
