"""Load Excel workbooks (xlsx): each sheet is a heading and its tables."""

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import number
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.xlsx_formats import (
    FIRST_DAY,
    FIRST_DAY_1904,
    read_formats,
    shown_number,
)
from dalm.ingest.loaders.zipped_xml import Attributes, ZippedXml, attribute

WORKBOOK = "xl/workbook.xml"
COLUMN = re.compile(r"[A-Z]{1,3}")
MERGED = re.compile(r"([A-Z]{1,3})(\d+):([A-Z]{1,3})(\d+)")
WIDE = 20  # times as many columns as cells: of such a row the empty cells are left out
MERGED_ROWS, MERGED_LENGTH = 1000, 80


def load_xlsx(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a workbook's visible sheets: a row a line, cells parted by a tab, as they are shown.

    Empty rows part tables; a row with one cell between them is a paragraph. Of formulas the values
    that were stored last are read.

    Raises:
        UnreadableError: not a workbook, encrypted, broken, or too large once unpacked.
    """
    archive = ZippedXml(data, "an Excel workbook", ".xlsx", options.max_bytes)
    workbook = archive.target("", "officeDocument", WORKBOOK)
    archive.need(workbook)
    parts = archive.targets(workbook)
    by_kind = dict(parts.values())
    strings = _shared_strings(archive, by_kind.get("sharedStrings", ""))
    formats = read_formats(archive, by_kind.get("styles", ""))
    builder = DocumentBuilder()
    sheets, first_day = _sheets(archive, workbook)
    for name, sheet_id in sheets:
        sheet = _Sheet(strings, formats, first_day, builder)
        archive.parse(parts.get(sheet_id, ("", ""))[1], sheet.start, sheet.end, sheet.data)
        rows = sheet.table()
        texts = _drawn_texts(archive, parts.get(sheet_id, ("", ""))[1], builder)
        if any(map(any, rows)) or texts:
            builder.page()
            if len(sheets) > 1:
                builder.heading(name, 2)  # no title: `Sheet1` says less than the file's name
            _write(rows, builder)
            for text in texts:
                builder.paragraph(text)
    return builder.document(archive.core_title(), source)


def _sheets(archive: ZippedXml, workbook: str) -> tuple[list[tuple[str, str]], datetime]:
    """Return the visible sheets' names and ids, and the day from which dates are counted."""
    found: list[tuple[str, str]] = []
    first_day = FIRST_DAY

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal first_day
        name = tag.rpartition(" ")[2]
        if name == "sheet" and not attributes.get("state", "").endswith("idden"):
            found.append((attributes.get("name", ""), attribute(attributes, "id")))
        elif name == "workbookPr" and attributes.get("date1904", "0") in ("1", "true"):
            first_day = FIRST_DAY_1904

    archive.bytes_left += len(archive.read(workbook))  # it is read for the second time
    archive.parse(workbook, start)
    return found, first_day


def _drawn_texts(archive: ZippedXml, sheet: str, builder: DocumentBuilder) -> list[str]:
    """Return the paragraphs of the text boxes and shapes on a sheet; charts are reported."""
    found: list[str] = []
    parts: list[str] = []
    reading, again = False, 0

    def start(tag: str, _: Attributes) -> None:
        nonlocal reading, again
        name = tag.rpartition(" ")[2]
        again += again > 0 or name == "Fallback"  # for older programs, the same once more
        if again:
            return
        reading = name == "t"
        if name == "br":
            parts.append("\n")
        elif name == "chart":
            builder.lose("chart", "its labels and figures are not read")
        elif name == "relIds":
            builder.lose("SmartArt diagram", "its text is not read")

    def end(tag: str) -> None:
        nonlocal reading, again
        reading = False
        if again:
            again -= 1
        elif tag.rpartition(" ")[2] == "p":
            found.append("".join(parts).strip())
            parts.clear()

    for kind, part in archive.targets(sheet).values() if sheet else ():
        if kind == "drawing":
            archive.parse(part, start, end, lambda text: parts.append(text) if reading else None)
    return [text for text in found if text]


def _shared_strings(archive: ZippedXml, part: str) -> list[str]:
    found: list[str] = []
    reading = skipped = False

    def start(tag: str, _: Attributes) -> None:
        nonlocal reading, skipped
        name = tag.rpartition(" ")[2]
        if name == "si":
            found.append("")
        reading = name == "t" and not skipped
        skipped = skipped or name == "rPh"  # how to pronounce it

    def end(tag: str) -> None:
        nonlocal reading, skipped
        reading = False
        skipped = skipped and not tag.endswith(" rPh")

    def data(text: str) -> None:
        if reading and found:
            found[-1] += text

    archive.parse(part, start, end, data)
    return found


def _column(reference: str, default: int) -> int:
    found = COLUMN.match(reference)
    if not found:
        return default
    place = 0
    for letter in found.group():
        place = place * 26 + ord(letter) - ord("A") + 1
    return place - 1


class _Sheet:
    """Collect a sheet's cells by row and column."""

    def __init__(
        self, strings: list[str], formats: list[str], first_day: datetime, builder: DocumentBuilder
    ) -> None:
        self.strings, self.formats, self.first_day = strings, formats, first_day
        self.builder = builder
        self.rows: dict[int, dict[int, str]] = {}
        self.row = self.column = -1
        self.kind, self.style = "n", 0
        self.value = ""
        self.reading = self.has_formula = False
        self.merged: list[str] = []

    def start(self, tag: str, attributes: Attributes) -> None:
        name = tag.rpartition(" ")[2]
        if name == "row":
            self.row = number(attributes.get("r", ""), self.row + 2) - 1
            self.column = -1
        elif name == "c":
            self.column = _column(attributes.get("r", ""), self.column + 1)
            self.kind = attributes.get("t", "n")
            self.style = number(attributes.get("s", ""))
            self.value, self.has_formula = "", False
        elif name in ("v", "t"):
            self.reading = True
        elif name == "f":
            self.has_formula = True
        elif name == "mergeCell":
            self.merged.append(attributes.get("ref", ""))

    def data(self, text: str) -> None:
        if self.reading:
            self.value += text

    def end(self, tag: str) -> None:
        name = tag.rpartition(" ")[2]
        if name in ("v", "t"):
            self.reading = False
        elif name == "c":
            if shown := " ".join(self._shown().split()):
                self.rows.setdefault(self.row, {})[self.column] = shown
            elif self.has_formula and self.kind == "n":
                remedy = "open it in a spreadsheet program and save it"
                self.builder.lose("formula without a stored value", remedy)

    def _shown(self) -> str:
        value = self.value
        match self.kind:
            case "s":
                place = number(value, -1)
                return self.strings[place] if 0 <= place < len(self.strings) else ""
            case "b":
                return {"1": "TRUE", "0": "FALSE"}.get(value, value)
            case "n":
                form = self.formats[self.style] if self.style < len(self.formats) else ""
                return shown_number(value, form, self.first_day)
        return value

    def table(self) -> list[list[str]]:
        """Return the rows, empty ones between them; merged cells have their text in each row."""
        for reference in self.merged:
            if found := MERGED.fullmatch(reference):
                left, top, _, bottom = found.groups()
                column, first = _column(left, 0), int(top) - 1
                text = self.rows.get(first, {}).get(column, "")
                for row in range(first + 1, min(int(bottom), first + MERGED_ROWS)):
                    if text and len(text) <= MERGED_LENGTH and row in self.rows:
                        self.rows[row].setdefault(column, text)
        found_rows: list[list[str]] = []
        last = -1
        for row in sorted(self.rows):
            if row > last + 1 and found_rows:
                found_rows.append([])
            cells = self.rows[row]
            width = max(cells) + 1
            if width > WIDE and width > WIDE * len(cells):
                found_rows.append([cells[place] for place in sorted(cells)])
            else:
                found_rows.append([cells.get(place, "") for place in range(width)])
            last = row
        return found_rows


def _write(rows: list[list[str]], builder: DocumentBuilder) -> None:
    for filled, group in groupby(rows, any):
        if filled:
            for piece in _pieces(list(group)):
                if len(piece) == 1:
                    builder.paragraph(" ".join(filter(None, piece[0])))
                else:
                    builder.table(_without_margin(piece))


def _pieces(rows: list[list[str]]) -> Iterator[list[list[str]]]:
    """Yield the rows above a table that have one cell, then the table."""
    while rows and sum(map(bool, rows[0])) == 1 and any(sum(map(bool, r)) > 1 for r in rows):
        yield [rows.pop(0)]
    if rows:
        yield rows


def _without_margin(rows: list[list[str]]) -> list[list[str]]:
    """Leave out the columns before the first one that is used."""
    first = min(next(i for i, cell in enumerate(row) if cell) for row in rows if any(row))
    return [row[first:] for row in rows]


XLSX = Loader("xlsx", "xlsx", (".xlsx", ".xlsm", ".xltx", ".xltm"), load_xlsx)
