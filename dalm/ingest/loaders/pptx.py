"""Load PowerPoint presentations (pptx): each slide is a page, its title a heading."""

from dalm.ingest.loaders.document_builder import DocumentBuilder
from dalm.ingest.loaders.docx_styles import number
from dalm.ingest.loaders.linear_math import LinearMath
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.ingest.loaders.zipped_xml import Attributes, ZippedXml

PRESENTATION = "ppt/presentation.xml"
TITLES = ("title", "ctrTitle")
REPEATED = ("sldNum", "ftr", "dt", "hdr", "sldImg")
"""Placeholders that stand on every slide."""
BULLETED = ("body", "obj", "")
"""Placeholders whose paragraphs have bullets unless they say otherwise."""


def load_pptx(data: bytes, source: str, options: LoaderOptions) -> Document:
    """Load a presentation's visible slides in order: title, texts, tables, then the notes.

    Raises:
        UnreadableError: not a presentation, encrypted, broken, or too large once unpacked.
    """
    archive = ZippedXml(data, "a PowerPoint presentation", ".pptx", options.max_bytes)
    presentation = archive.target("", "officeDocument", PRESENTATION)
    archive.need(presentation)
    slides = archive.targets(presentation)
    builder = DocumentBuilder()
    for slide_id in _order(archive, presentation):
        part = slides.get(slide_id, ("", ""))[1]
        if part not in archive.names:
            builder.lose("slide that is missing from the file", "save it again")
            continue
        slide = _Slide(builder)
        archive.parse(part, slide.start, slide.end, slide.data)
        if slide.is_hidden:
            continue
        builder.page()
        slide.write()
        notes = _Slide(builder)
        archive.parse(archive.target(part, "notesSlide"), notes.start, notes.end, notes.data)
        if text := "\n".join(text for _, text, *_ in notes.lines):
            builder.paragraph(f"Notes: {text}")
    return builder.document(archive.core_title(), source)


def _order(archive: ZippedXml, presentation: str) -> list[str]:
    found: list[str] = []

    def start(tag: str, attributes: Attributes) -> None:
        if tag.endswith(" sldId"):  # its other `id` has no namespace
            found.extend(v for n, v in attributes.items() if n.endswith(" id"))

    archive.bytes_left += len(archive.read(presentation))  # it is read for the second time
    archive.parse(presentation, start)
    return found


def _is_automatic(attributes: Attributes) -> bool:
    """Tell whether a field is the slide's number or the date."""
    return attributes.get("type", "").startswith(("slidenum", "datetime"))


class _Slide:
    """Collect a slide's texts from a parser's events; titles come first."""

    def __init__(self, builder: DocumentBuilder) -> None:
        self.builder = builder
        self.is_hidden = False
        self.lines: list[tuple[str, str, int]] = []  # kind, text, level (or which table)
        self.tables: list[list[list[str]]] = []
        self.placeholder = "none"
        self.parts: list[str] = []
        self.level, self.bullet = 0, ""
        self.reading = False
        self.in_table = False
        self.math: LinearMath | None = None
        self.skipped = 0

    def start(self, tag: str, attributes: Attributes) -> None:
        if self.skipped:
            self.skipped += 1
            return
        name = tag.rpartition(" ")[2]
        if self.math is not None:
            local = {n.rpartition(" ")[2]: value for n, value in attributes.items()}
            self.math.start(name, local)
            return
        if name == "Fallback" or (name == "fld" and _is_automatic(attributes)):
            self.skipped = 1
        elif name == "oMath":
            self.math = LinearMath()
            self.math.start(name, {})
        else:
            self._begin_text(name, attributes)
            self._begin_table(name)
            self._lose(name, attributes)

    def _begin_text(self, name: str, attributes: Attributes) -> None:
        match name:
            case "sld":
                self.is_hidden = attributes.get("show", "1") in ("0", "false")
            case "sp" | "graphicFrame":
                self.placeholder = "none"
            case "cNvPr" if attributes.get("hidden", "0") in ("1", "true"):
                self.placeholder = "ftr"
            case "ph":
                self.placeholder = attributes.get("type", "")
            case "p":
                self.level, self.bullet = 0, ""
            case "pPr":
                self.level = min(number(attributes.get("lvl", "")), 8)
            case "buNone" | "buChar" | "buAutoNum" | "buBlip":
                self.bullet = name
            case "t":
                self.reading = True
            case "br":
                self.parts.append("\n")

    def _begin_table(self, name: str) -> None:
        match name:
            case "tbl":
                self.in_table = True
                self.tables.append([])
                self.lines.append(("table", "", len(self.tables) - 1))
            case "tr" if self.in_table:
                self.tables[-1].append([])
            case "tc" if self.in_table and self.tables[-1]:
                self.tables[-1][-1].append("")

    def _lose(self, name: str, attributes: Attributes) -> None:
        match name:
            case "chart":
                self.builder.lose("chart", "its labels and figures are not read")
            case "relIds":
                self.builder.lose("SmartArt diagram", "its text is not read")
            case "oleObj":
                program = attributes.get("progId", "a program without a name")
                remedy = "save it as a document or table of its own"
                self.builder.lose(f"embedded object of {program}", remedy)

    def data(self, text: str) -> None:
        if self.skipped:
            return
        if self.math is not None:
            self.math.data(text)
        elif self.reading:
            self.parts.append(text)

    def end(self, tag: str) -> None:
        if self.skipped:
            self.skipped -= 1
            return
        name = tag.rpartition(" ")[2]
        if self.math is not None:
            text = self.math.end()
            if not self.math.depth:
                self.math = None
                self.parts.append(text)
            return
        match name:
            case "t":
                self.reading = False
            case "tbl":
                self.in_table = False
            case "p":
                self._end_paragraph()

    def _end_paragraph(self) -> None:
        text = "".join(self.parts).replace("\v", "\n").strip()
        self.parts = []
        if not text or self.placeholder in REPEATED:
            return
        if self.in_table:
            if self.tables[-1] and self.tables[-1][-1]:
                cell = self.tables[-1][-1][-1]
                self.tables[-1][-1][-1] = f"{cell} {text}".strip()
        elif self.placeholder in TITLES:
            self.lines.insert(sum(kind == "title" for kind, *_ in self.lines), ("title", text, 0))
        else:
            is_item = self.bullet != "buNone" and (self.bullet or self.placeholder in BULLETED)
            self.lines.append(("item" if is_item else "text", text, self.level))

    def write(self) -> None:
        """Add the texts to the document."""
        if title := " ".join(text for kind, text, _ in self.lines if kind == "title"):
            self.builder.heading(title, 1)
        items: list[str] = []
        for kind, text, place in [*self.lines, ("end", "", 0)]:
            if kind == "item":
                items.append(f"{'  ' * place}- {text}")
                continue
            if len(items) == 1:
                self.builder.paragraph(items[0].strip().removeprefix("- "))
            else:
                self.builder.items(items)
            items = []
            if kind == "table":
                self.builder.table(self.tables[place])
            elif kind == "text":
                self.builder.paragraph(text)


PPTX = Loader("pptx", "pptx", (".pptx", ".pptm", ".ppsx", ".potx"), load_pptx)
