"""Find the dotted lines of a table of contents, which look like text and say nothing.

"1.2 Pumps ........ 14" is one. "Weight ........ 14 kg", "Flow ........ 12.5" and "Voltage .... 230"
look much the same and are data, so that a line alone is not enough to tell.
"""

import math
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice, pairwise

from dalm.ingest.sentence_boundaries import ENDS

LINE_LENGTH = 300  # characters; a longer line is a paragraph
LEADER = 4  # dots of at least one leader of a table of contents; a long title leaves room for two
RUN = 5  # lines that their rising page numbers alone make a table of contents
INDEX = 8  # lines whose alphabetical order makes an index, if several are on one page
LISTED = 3  # titles that stand in the text again, below "Contents"
TITLES = 5  # like "Contents" that are looked at: of contents, figures, tables
TITLES_WITHIN = 20_000  # characters from the beginning
BETWEEN = 2  # lines without a leader between two that have one: a title that takes two lines
AGAIN = 0.25  # of the titles, below "Contents" or with section numbers, stand in the text again
SIMILAR = 8  # lines that begin with a title and are looked at
SAMPLE = 50  # entries of an index that are looked for in the text
FALLING = 0.2  # of the pages of a table of contents may be before the one above
ABOVE = 3  # lines above the first one, of which one may be "Contents"

_DOTS = re.compile(r"\.[^\S\n]{0,3}\.|…|·[^\S\n]?·|‥|․․")
"""Of which every leader has one."""
_LEADERS = re.compile(r"(?:[.·‥․…]\s?){2,}")
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

    Lines that follow each other are a table of contents if the pages rise and lines below begin
    with the titles again: half of them in at least `RUN` lines, a quarter if they are numbered.
    Nothing has to come again below "Contents" (in some language), which then belongs to them, with
    at least `RUN` lines, nor with section numbers (1.2) in at least `INDEX`. An index is one, too,
    if half of its words are in the text. Other lists are known from nowhere else: prices, parts.
    """
    runs: list[list[_Line]] = []
    for line in _dotted(text):
        if runs and _follows(text, runs[-1][-1], line):
            runs[-1].append(line)
        else:
            runs.append([line])
    found = []
    titles = _Titles(text)
    for run in runs:
        title = _title_above(text, run[0])
        if _is_contents(titles, run, titled=title is not None):
            start, end = title or (run[0].start, run[0].start)
            between = text[end : run[0].start].strip()
            apart = between.endswith(ENDS)  # a sentence, and not what a title begins with
            found += (
                [(start, end), (run[0].start, run[-1].end)] if apart else [(start, run[-1].end)]
            )
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


def _title_above(text: str, line: _Line) -> tuple[int, int] | None:
    """Return the span of a title like "Contents" above the line, with its line end."""
    end = line.start
    for _ in range(ABOVE):
        least = max(0, end - LINE_LENGTH)
        end = least + len(text[least:end].rstrip())
        start = text.rfind("\n", 0, end) + 1
        if end <= start or end - start > LINE_LENGTH:
            return None
        if _TITLE.fullmatch(text, start, end):
            return start, min(end + 1, len(text))
        end = start
    return None


def _is_contents(titles: "_Titles", run: Sequence[_Line], *, titled: bool) -> bool:
    paged = [line for line in run if line.page]
    if not paged or max(line.dots for line in run) < LEADER:
        return False
    pages = [int(line.page) for line in paged if line.page.isdigit()]
    falling = sum(one > other for one, other in pairwise(pages))
    if titled and falling <= FALLING * len(pages):  # else quantities of what is in a box
        return len(paged) >= RUN or titles.again(run) >= AGAIN * len(run)
    if len(paged) >= INDEX and _is_index([line.text for line in paged], pages):
        return titles.are_words(paged)
    return not falling and titles.again(run) >= _least(run)


def _least(run: Sequence[_Line]) -> float:
    """Return how many titles of lines with rising pages have to come again."""
    sections = sum(bool(_NUMBERED.match(line.text)) for line in run)
    counted = sections + sum(bool(_COUNTED.match(line.text)) for line in run)
    if 2 * sections >= len(run):
        return 0 if len(run) >= INDEX else AGAIN * len(run)
    if len(run) > 2 and 2 * counted >= len(run):
        return AGAIN * len(run)
    return len(run) / 2 if len(run) >= RUN else math.inf


class _Titles:
    """Find the titles of a table of contents in the text below it; lines are read when needed."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def lines(self) -> list[tuple[str, int]]:
        """Return the letters and digits of the lines, and where they end, in alphabetical order."""
        lines = self.text.split("\n")
        ends = accumulate(len(line) + 1 for line in lines)
        return sorted((_plain(line), end) for line, end in zip(lines, ends, strict=True))

    def again(self, run: Sequence[_Line]) -> int:
        """Return how many of the titles are the beginning of a line further on."""
        below = run[-1].end + 1
        return sum(any(end > below for end in self._ends(_first_title(line))) for line in run)

    def _ends(self, title: str) -> Iterator[int]:
        first = bisect_left(self.lines, (title, 0)) if title else len(self.lines)
        for name, end in self.lines[first : first + SIMILAR]:
            if name.startswith(title):
                yield end

    def are_words(self, run: Sequence[_Line]) -> bool:
        """Tell whether half of an index's entries, or of a sample, are in the text."""
        sample = run[:: max(1, len(run) // SAMPLE)]
        text = self.folded
        return 2 * sum(text.count(_word(line.text)) > 1 for line in sample) >= len(sample)

    @cached_property
    def folded(self) -> str:
        """Return the text in lower case."""
        return self.text.casefold()


def _first_title(line: _Line) -> str:
    return _plain(_LEADERS.split(line.text, maxsplit=1)[0])


def _word(entry: str) -> str:
    """Return the word of an index's entry, without what follows after a comma."""
    return entry.partition(",")[0].strip(" \t.·-*").casefold()


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
        if (not found or start >= found[-1][1]) and (listed := _listed(text, below)):
            found += [(start, below + 1), *listed]
    return found


def _listed(text: str, start: int) -> list[tuple[int, int]]:
    """Return the lines that stand in the text below them again; none if they are few."""
    counts = Counter(map(_plain, text[start:].split("\n")))
    seen, missed, at = dict[str, tuple[int, int]](), list[tuple[str, int]](), start
    for line in text[start:].split("\n"):
        begin, at = at, at + len(line) + 1
        name = _plain(line)
        if not name:
            continue
        missed.append((name, begin))
        names = [name, *("".join(one for one, _ in missed[i:]) for i in range(len(missed) - 1))]
        name = next((each for each in names if counts[each] > (each == name)), "")
        if name in seen:  # the text begins
            break
        if name:  # of a title over several lines from the first one on
            first = len(missed) - 1 if name == names[0] else names.index(name) - 1
            seen[name] = missed[first][1], min(at, len(text))
            missed = []
        elif len(missed) > BETWEEN:
            break
    return list(seen.values()) if len(seen) >= LISTED else []


def _plain(line: str) -> str:
    """Return a line's letters and digits in lower case, without the number that it begins with."""
    return "".join(filter(str.isalnum, line.lstrip("0123456789.-*•#| \t"))).casefold()
