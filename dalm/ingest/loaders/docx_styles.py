"""Read what Word keeps beside a document's text: its styles and the numbering of its lists."""

import re
from dataclasses import dataclass, field

from dalm.ingest.loaders.zipped_xml import Attributes, ZippedXml, attribute

HEADING_STYLE = re.compile(r"heading (\d)", re.IGNORECASE)
CONTENTS_STYLE = re.compile(r"(?:toc|index) (?:\d|heading)|table of figures", re.IGNORECASE)
CODE_STYLE = re.compile(
    r"html preformatted|preformatted text|source code|code|macro text", re.IGNORECASE
)
BODY_LEVEL = 9  # of `outlineLvl`: no heading
HIGHEST_LEVEL = 9
LEVEL_NUMBER = re.compile(r"%(\d)")
ROMAN = dict(zip((1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
                 "m cm d cd c xc l xl x ix v iv i".split(), strict=True))  # fmt: skip


@dataclass(slots=True)
class Style:
    """What a style says of the paragraphs or runs that have it, or of the styles based on it."""

    name: str = ""
    based_on: str = ""
    outline: int | None = None
    hidden: bool | None = None
    font: str = ""
    list_id: str = ""
    list_level: int | None = None

    level: int | None = None
    """Level of its headings from 1; 0: none; None if the style doesn't say."""
    is_code: bool = False
    is_contents: bool = False
    """Whether it is for a table of contents."""

    def settle(self) -> None:
        """Find out what its name and outline level say of it."""
        if found := HEADING_STYLE.fullmatch(self.name):
            self.level = int(found.group(1))
        elif self.outline is not None:
            self.level = self.outline + 1 if self.outline < BODY_LEVEL else 0
        elif self.name.lower() == "title":
            self.level = 1
        self.is_code = bool(CODE_STYLE.fullmatch(self.name))
        self.is_contents = bool(CONTENTS_STYLE.fullmatch(self.name))


def is_on(attributes: Attributes) -> bool:
    """Tell whether a switch such as `w:vanish` is on: without a value it is."""
    return attribute(attributes, "val", "1") not in ("0", "false", "off")


def number(text: str, default: int = 0) -> int:
    """Return a whole number; the default for anything else."""
    return int(text) if text.isdecimal() and len(text) < 9 else default


class Styles:
    """The styles of a document by id, each with what it takes from those it is based on."""

    def __init__(self, archive: ZippedXml, part: str) -> None:
        self.of: dict[str, Style] = {}
        self.style = Style()
        archive.parse(part, self._start)
        for level in range(1, HIGHEST_LEVEL + 1):  # for a file without styles
            self.of.setdefault(f"Heading{level}", Style(name=f"heading {level}"))
        self.of.setdefault("Title", Style(name="title"))
        for style in self.of.values():
            style.settle()
        for style_id in self.of:
            self._inherit(style_id)

    def _start(self, tag: str, attributes: Attributes) -> None:
        style, value = self.style, attribute(attributes, "val")
        match tag.rpartition(" ")[2]:
            case "style":
                self.style = self.of[attribute(attributes, "styleId")] = Style()
            case "name":
                style.name = value
            case "basedOn":
                style.based_on = value
            case "outlineLvl":
                style.outline = number(value, BODY_LEVEL)
            case "vanish":
                style.hidden = is_on(attributes)
            case "rFonts":
                style.font = attribute(attributes, "ascii")
            case "numId":
                style.list_id = value
            case "ilvl":
                style.list_level = number(value)

    def _inherit(self, style_id: str) -> None:
        """Take from the styles that a style is based on what it doesn't say itself."""
        style, seen = self.of[style_id], {style_id}
        based_on = style.based_on
        while (base := self.of.get(based_on)) and based_on not in seen:
            seen.add(based_on)
            if style.level is None and base.name.lower() != "title":  # authors have its style
                style.level = base.level
            style.hidden = base.hidden if style.hidden is None else style.hidden
            style.font = style.font or base.font
            style.list_id = style.list_id or base.list_id
            style.list_level = base.list_level if style.list_level is None else style.list_level
            based_on = base.based_on

    def get(self, style_id: str) -> Style:
        """Return a style; one that says nothing if there is none of this id."""
        return self.of.get(style_id) or Style()


@dataclass(slots=True)
class _Level:
    start: int = 1
    form: str = "decimal"
    text: str = ""


@dataclass(slots=True)
class _List:
    """A list's definition: its levels, and how far each has counted."""

    levels: dict[int, _Level] = field(default_factory=dict)
    counts: list[int | None] = field(default_factory=lambda: [None] * (HIGHEST_LEVEL + 1))


class Numbering:
    """The lists of a document, and the marks of their items in the order they are asked for."""

    def __init__(self, archive: ZippedXml, part: str) -> None:
        self.abstract: dict[str, _List] = {}
        self.lists: dict[str, _List] = {}
        self.style_levels: dict[tuple[int, str], int] = {}
        self.level = _Level()
        self.list_ = _List()
        self.list_id, self.place = "", 0
        archive.parse(part, self._start)

    def _start(self, tag: str, attributes: Attributes) -> None:
        value = attribute(attributes, "val")
        match tag.rpartition(" ")[2]:
            case "abstractNum":
                name = attribute(attributes, "abstractNumId")
                self.list_ = self.abstract[name] = _List()
            case "num":
                self.list_id = attribute(attributes, "numId")
            case "abstractNumId":
                self.lists[self.list_id] = self.list_ = self.abstract.get(value, _List())
            case "lvlOverride":  # a list that counts for itself
                self.place = number(attribute(attributes, "ilvl"))
                self.list_ = self.lists[self.list_id] = _List(dict(self.list_.levels))
            case "startOverride":
                old = self.list_.levels.get(self.place, _Level())
                self.list_.levels[self.place] = _Level(number(value, 1), old.form, old.text)
            case "lvl":
                self.place = number(attribute(attributes, "ilvl"))
                self.level = self.list_.levels[self.place] = _Level()
            case "start":
                self.level.start = number(value, 1)
            case "numFmt":
                self.level.form = value
            case "lvlText":
                self.level.text = value
            case "pStyle":
                self.style_levels[id(self.list_), value] = self.place

    def level_of_style(self, list_id: str, style_id: str) -> int:
        """Return the level of a list that belongs to a style of paragraphs."""
        return self.style_levels.get((id(self.lists.get(list_id)), style_id), 0)

    def mark(self, list_id: str, place: int) -> str:
        """Count a list's next item at this level, and return its mark: `2.1`, `b)` or `-`."""
        list_ = self.lists.get(list_id)
        if list_ is None or place not in list_.levels:
            return ""
        count = list_.counts[place]
        list_.counts[place] = list_.levels[place].start if count is None else count + 1
        list_.counts[place + 1 :] = [None] * (HIGHEST_LEVEL - place)
        level = list_.levels[place]
        if level.form == "bullet":
            return "-" if level.text.strip() else ""
        if level.form == "none" and "%" not in level.text:
            return level.text.strip()

        def shown(found: re.Match[str]) -> str:
            at = int(found.group(1)) - 1
            of = list_.levels.get(at, _Level())
            count = list_.counts[at] if at >= 0 else None
            return format_number(of.start if count is None else count, of.form)

        return LEVEL_NUMBER.sub(shown, level.text).strip()


def format_number(count: int, form: str) -> str:
    """Return a number as `w:numFmt` and HTML's `type` want it: letters, Roman, else decimal."""
    match form:
        case "lowerLetter" | "a" if count > 0:
            return chr(ord("a") + (count - 1) % 26) * ((count - 1) // 26 + 1)
        case "lowerRoman" | "i" if 0 < count < 4000:
            out = ""
            for value, letters in ROMAN.items():
                out += letters * (count // value)
                count %= value
            return out
        case "upperLetter" | "A":
            return format_number(count, "a").upper()
        case "upperRoman" | "I":
            return format_number(count, "i").upper()
        case "none":
            return ""
    return f"{count:02}" if form == "decimalZero" else str(count)
