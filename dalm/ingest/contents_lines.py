"""Find the dotted lines of a table of contents, which look like text and say nothing.

"1.2 Pumps ........ 14" is one. "Weight ........ 14 kg", "Flow ........ 12.5" and "Voltage .... 230"
look much the same and are data, so that a line alone is not enough to tell.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise

LINE_LENGTH = 300  # characters; a longer line is a paragraph
LEADER = 4  # dots of at least one leader of a table of contents; a long title leaves room for two
RUN = 5  # lines that their rising page numbers alone make a table of contents
INDEX = 8  # lines whose alphabetical order makes an index, if several are on one page
LISTED = 3  # titles that stand in the text again, below "Contents"
TITLES = 5  # like "Contents" that are looked at: of contents, figures, tables
TITLES_WITHIN = 20_000  # characters from the beginning
BETWEEN = 2  # lines without a leader between two that have one: a title that takes two lines
FALLING = 0.2  # of the pages of a table of contents may be before the one above
ABOVE = 3  # lines above the first one, of which one may be "Contents"

_DOTS = re.compile(r"\.[^\S\n]{0,3}\.|…|·[^\S\n]?·|‥|․․")
"""Of which every leader has one."""
_PAGE = r"\d{1,4}|[ivxlc]{1,7}|[IVXLC]{1,7}|[A-Z]{1,2}[-–.]?\d{1,3}|\d{1,3}[-–]\d{1,3}"
_LEADER = re.compile(
    rf"(?P<leader>(?:[.·‥․…][^\S\n]{{0,3}}){{2,}}|…)[^\S\n]*(?P<page>(?:{_PAGE})(?:,\s?(?:{_PAGE}))*)?[|\s]*$"
)
_NUMBERED = re.compile(
    r"\W*(?:\d{1,3}(?:\.\d{1,3}){1,5}\.?|[A-Z](?:\.\d{1,3})+\.?)\s+\S"
    r"|\W*(?:chapter|section|part|appendix|annex|figure|table|kapitel|abschnitt|anhang|abbildung"
    r"|tabelle|chapitre|annexe|tableau|capítulo|anexo|tabla|capitolo|hoofdstuk)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(r"\W*(?:\d{1,3}\.?|[IVX]{1,5}\.|[A-Z]\.)\s+\S")
_TITLE = re.compile(
    r"[#*_=\s]*(?:table of contents|(?:brief |detailed )?contents|(?:list of )?(?:figures|tables)"
    r"|inhalt|(?:inhalts|abbildungs|tabellen)verzeichnis|sommaire|table des matières|índice"
    r"|contenido|tabla de contenidos?|indice|sommario|inhoud|inhoudsopgave|sumário|spis treści"
    r"|содержание|оглавление|目次|目录|目錄|차례|목차)[#*_:.\s]*(?:page|seite)?[#*_\s]*",
    re.IGNORECASE,
)
_TITLE_LINE = re.compile(r"^[^\S\n]*[^\W\d][^\n]{1,60}$|^#[^\n]{3,60}$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line that ends in a leader, with or without a page, at `text[start:end]`."""

    start: int
    end: int
    dots: int
    page: str
    text: str


def contents_lines(text: str) -> list[tuple[int, int]]:
    """Return the spans of a text's dotted contents lines in order, with their line ends.

    Lines that follow each other are a table of contents if "Contents" (in some language) stands
    above them, which then belongs to them; or if they have section numbers; or if they are at least
    `RUN` and half of them stand in the text again, as headings. The pages have to rise. An index is
    one, too. A line alone needs a section number of two parts, or a word like "Figure".
    """
    runs: list[list[_Line]] = []
    for line in _dotted(text):
        if runs and _follows(text, runs[-1][-1], line):
            runs[-1].append(line)
        else:
            runs.append([line])
    found = []
    last_lines = _LastLines(text)
    for run in runs:
        title = _title_above(text, run[0])
        if _is_contents(last_lines, run, titled=title is not None):
            found.append((run[0].start if title is None else title, run[-1].end))
    return found


def is_contents_title(line: str) -> bool:
    """Tell whether a line says "Contents", in some language, and nothing else."""
    return len(line) <= LINE_LENGTH and bool(_TITLE.fullmatch(line))


def _dotted(text: str) -> Iterator[_Line]:
    """Yield the lines that end in a leader and maybe a page."""
    end = -1
    for found in _DOTS.finditer(text):
        if found.start() < end:
            continue
        start, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
        end = len(text) if end < 0 else end
        if end - start > LINE_LENGTH:
            continue
        line = text[start:end]
        if match := _LEADER.search(line):
            leader, page = match["leader"], match["page"] or ""
            dots = len("".join(leader.split())) + 2 * leader.count("…")
            if page or dots >= LEADER:
                yield _Line(start, min(end + 1, len(text)), dots, page, line[: match.start()])


def _follows(text: str, previous: _Line, line: _Line) -> bool:
    between = text[previous.end : line.start]
    if len(between) > BETWEEN * LINE_LENGTH:
        return False
    return sum(bool(each.strip()) for each in between.split("\n")) <= BETWEEN


def _title_above(text: str, line: _Line) -> int | None:
    """Return where a title like "Contents" above the line begins."""
    end = line.start
    for _ in range(ABOVE):
        least = max(0, end - LINE_LENGTH)
        end = least + len(text[least:end].rstrip())
        start = text.rfind("\n", 0, end) + 1
        if end <= start or end - start > LINE_LENGTH:
            return None
        if _TITLE.fullmatch(text, start, end):
            return start
        end = start
    return None


def _is_contents(last_lines: "_LastLines", run: Sequence[_Line], *, titled: bool) -> bool:
    paged = [line for line in run if line.page]
    if not paged or max(line.dots for line in run) < LEADER:
        return False
    pages = [int(line.page) for line in paged if line.page.isdigit()]
    falling = sum(one > other for one, other in pairwise(pages))
    if titled:
        return falling <= FALLING * len(pages)  # else they are quantities of what is in a box
    if len(paged) >= INDEX and _is_index([line.text for line in paged], pages):
        return True
    if falling:
        return False
    sections = sum(bool(_NUMBERED.match(line.text)) for line in run)
    counted = sections + sum(bool(_COUNTED.match(line.text)) for line in run)
    return (
        2 * sections >= len(run)
        or (len(run) > 2 and 2 * counted >= len(run))
        or (len(paged) >= RUN and last_lines.come_again(run))
    )


class _LastLines:
    """Where each line of a text stands last, by its letters and digits; found when needed."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def places(self) -> dict[str, int]:
        """Return the offsets at which the lines end."""
        lines = self.text.split("\n")
        ends = accumulate(len(line) + 1 for line in lines)
        return {_plain(line): end for line, end in zip(lines, ends, strict=True)}

    def come_again(self, run: Sequence[_Line]) -> bool:
        """Tell whether half of the titles are lines further on: what a list of prices has not."""
        below = run[-1].end + 1
        return 2 * sum(self.places.get(_plain(line.text), 0) > below for line in run) >= len(run)


def _is_index(titles: Sequence[str], pages: Sequence[int]) -> bool:
    """Tell an index, in alphabetical order, from a list of telephone numbers."""
    names = ["".join(filter(str.isalnum, title)).casefold() for title in titles]
    rising = sum(one <= other for one, other in pairwise(names))
    return rising >= 0.8 * (len(names) - 1) and 10 * len(set(pages)) <= 7 * len(titles)


# Without dots


def contents_lists(text: str) -> list[tuple[int, int]]:
    """Return the spans of tables of contents without dots or pages, with the title above them.

    Below a title like "Contents" near the beginning, most lines stand there again further on.
    """
    found = list[tuple[int, int]]()
    lines = _TITLE_LINE.finditer(text, 0, TITLES_WITHIN)
    titles = (line.span() for line in lines if _TITLE.fullmatch(line.group()))
    for start, below in islice(titles, TITLES):
        if not found or start >= found[-1][1]:
            end = _listed_until(text, below)
            found += [(start, end)] if end else []
    return found


def _listed_until(text: str, start: int) -> int:
    """Return where the lines end that stand in the text below them again; 0 if they are few."""
    counts = Counter(map(_plain, text[start:].split("\n")))
    seen, missed, end, at = set[str](), 0, 0, start
    for line in text[start:].split("\n"):
        at += len(line) + 1
        name = _plain(line)
        if name and counts[name] > 1:
            if name in seen:  # the text begins
                break
            seen.add(name)
            end, missed = at, 0
        elif name:
            missed += 1
            if missed > BETWEEN:
                break
    return min(end, len(text)) if len(seen) >= LISTED else 0


def _plain(line: str) -> str:
    """Return a line's letters and digits in lower case, without the number that it begins with."""
    return "".join(filter(str.isalnum, line.lstrip("0123456789.-*•# \t"))).casefold()
