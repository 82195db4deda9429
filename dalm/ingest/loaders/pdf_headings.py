"""Find the headings of a PDF: from its outline, or else from the size and weight of its fonts."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dalm.ingest.loaders.pdf_lines import Line

LENGTH, WORDS = 150, 18  # characters and words of a heading, at most
LARGER = 1.12  # times the body's size
SMALLER = 0.85  # times the body's size: a bold line may be so small
SHARE = 0.25  # of a document's lines, from `FEW_LINES` on: a style of more is no heading's
FEW_LINES = 20
TEXT_SHARE, LARGE_SHARE = 0.1, 0.4  # of a document's letters: a style of more is the text's
ROWS = 3  # lines that a heading takes, at most
MATCHED = 3  # entries of an outline that have to be found for it to be trusted
LEVELS = 6
NUMBERING = re.compile(
    r"(?:(?:chapter|section|part|appendix|kapitel|abschnitt|teil|anhang)\s+)?"
    r"(?:\d{1,3}(?:\.\d{1,3})*|[A-Z](?:\.\d{1,3})*|[IVX]{1,6})[.:)]{0,2}(?:\s+|$)",
    re.IGNORECASE,
)
NUMBERED = re.compile(r"\d{1,2}(?:\.\d{1,2})*\.?\s+[^\W\d_a-z]")
ENDS_SENTENCE = re.compile(r"[.,;]$")
CAPTION = re.compile(
    r"(?:fig(?:ure|\.)?|table|listing|algorithm|abb(?:ildung|\.)?|tab(?:elle|\.)|tableau|figura|tabla)"
    r"\s*[A-Z]?[\d.-]+",
    re.IGNORECASE,
)
LIST_MARK = re.compile(r"[•◦▪‣●○■□–—*·-]\s|[•◦▪‣●○■□]")
LETTER = re.compile(r"[^\W\d_]{2}|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

Style = tuple[float, str]


class Entry(NamedTuple):
    """An entry of the outline: its title, its level from 1, the page it leads to, its height."""

    title: str
    level: int
    page: int
    height: float | None


class Found(NamedTuple):
    """The lines of a heading, and its level."""

    lines: tuple[Line, ...]
    level: int


def mark_headings(pages: Sequence[Sequence[Line]], outline: Iterable[Entry]) -> None:
    """Set the level of the lines that are headings; lines of one heading follow each other."""
    found = _of_outline(pages, outline)
    styles = _body_styles(pages)
    if len(found) >= MATCHED:
        levels = _style_levels(found, styles)
    else:
        levels = _levels_by_size(pages, styles)
    marked = {line for heading in found for line in heading.lines}
    for heading in found:
        for line in heading.lines:
            line.level = min(heading.level, LEVELS)
    body = body_size(pages)
    for page in pages:
        for above, line in zip([None, *page], page, strict=False):
            level = levels.get((line.size, line.font))
            if not level or line in marked or not _may_be_heading(line):
                continue
            if line.size >= LARGER * body or not _goes_on(above, line):
                line.level = min(level, LEVELS)


# The outline


def _of_outline(pages: Sequence[Sequence[Line]], outline: Iterable[Entry]) -> list[Found]:
    """Return the lines at which the entries lead, by their texts, on their pages or the next."""
    found: list[Found] = []
    taken: set[Line] = set()
    for entry in outline:
        wanted = plain_title(entry.title)
        if not wanted:
            continue
        for page in (entry.page, entry.page + 1, entry.page - 1):
            lines = pages[page] if 0 <= page < len(pages) else ()
            candidates = _matches(lines, wanted, taken)
            if candidates:
                best = min(candidates, key=lambda lines: _distance(lines, entry.height))
                taken |= set(best)
                found.append(Found(best, entry.level))
                break
    return found


def _matches(lines: Sequence[Line], wanted: str, taken: set[Line]) -> list[tuple[Line, ...]]:
    found = []
    for i, first in enumerate(lines):
        if first in taken or not _begins(wanted, first.text):
            continue
        for rows in range(1, ROWS + 1):
            some = tuple(lines[i : i + rows])
            if plain_title(" ".join(line.text for line in some)) == wanted:
                found.append(some)
                break
    return found


def _begins(wanted: str, text: str) -> bool:
    plain = plain_title(text)
    return (bool(plain) and wanted.startswith(plain)) or not plain


def plain_title(title: str) -> str:
    """Return a title's letters and digits, without its number."""
    title = title.strip()
    numbering = NUMBERING.match(title)
    stripped = title[numbering.end() :] or title if numbering else title
    return "".join(filter(str.isalnum, stripped.casefold()))


def _distance(lines: Sequence[Line], height: float | None) -> float:
    return abs(lines[0].top - height) if height is not None else 0.0


def _style_levels(found: Sequence[Found], body: set[Style]) -> dict[Style, int]:
    """Return the levels of the styles in which most of the outline's headings are set."""
    styles = Counter(((h.lines[0].size, h.lines[0].font), h.level) for h in found)
    levels: dict[Style, int] = {}
    for (style, level), count in styles.most_common():
        if count > 1 and style not in body:
            levels.setdefault(style, level)
    return levels


# Fonts


def _body_styles(pages: Sequence[Sequence[Line]]) -> set[Style]:
    """Return the styles of the text: of more than a tenth of it, or much more if it is large."""
    sizes = Counter[Style]()
    for page in pages:
        for line in page:
            sizes[line.size, line.font] += len(line.text)
    total = sizes.total()
    large = LARGER * body_size(pages)
    return {
        style
        for style, count in sizes.items()
        if count > (LARGE_SHARE if style[0] >= large else TEXT_SHARE) * total
    }


def body_size(pages: Sequence[Sequence[Line]]) -> float:
    """Return the size in which most of a document is set."""
    sizes = Counter[float]()
    for page in pages:
        for line in page:
            sizes[line.size] += len(line.text)
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _levels_by_size(pages: Sequence[Sequence[Line]], body_styles: set[Style]) -> dict[Style, int]:
    """Return the levels of the styles that are larger or bolder than the text, largest first."""
    body = body_size(pages)
    counts: Counter[Style] = Counter()
    bold: dict[Style, bool] = {}
    last_page: dict[Style, int] = {}
    total = 0
    for page in pages:
        for line in page:
            total += 1
            style = (line.size, line.font)
            large = line.size >= LARGER * body
            marked = line.bold or (style not in body_styles and NUMBERED.match(line.text))
            if (large or (marked and line.size >= SMALLER * body)) and _may_be_heading(line):
                counts[style] += 1
                bold[style] = bold.get(style, True) and line.bold
                last_page[style] = line.page
    most = SHARE * total if total >= FEW_LINES else total
    kept = [s for s, count in counts.items() if s not in body_styles and count <= most]
    if len(pages) > 2 and kept:  # authors and dates on a title page
        largest = max(kept)[0]
        kept = [style for style in kept if last_page[style] > 0 or style[0] == largest]
    ranks = sorted({(size, bold[size, font]) for size, font in kept}, reverse=True)
    return {style: ranks.index((style[0], bold[style])) + 1 for style in kept}


def _goes_on(above: Line | None, line: Line) -> bool:
    """Tell whether a line in the text's own size goes on with the sentence of the one above it."""
    if above is None or above.level or abs(above.size - line.size) > 0.15 * line.size:
        return False
    down = above.bottom - line.bottom
    return 0 < down < 1.4 * line.size and re.search(r"[.!?:]$", above.text) is None


def _may_be_heading(line: Line) -> bool:
    text = line.text
    return (
        len(text) <= LENGTH
        and text.count(" ") < WORDS
        and not line.turned
        and not line.hyphen
        and line.uniform
        and (len(line.cells) == 1 or NUMBERING.fullmatch(line.cells[0].text) is not None)
        and LETTER.search(text) is not None
        and not ENDS_SENTENCE.search(text)
        and not LIST_MARK.match(text)
        and not CAPTION.match(text)
    )
