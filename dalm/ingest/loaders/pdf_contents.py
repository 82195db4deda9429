"""Find the lines of a table of contents in a PDF, with and without dots."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, pairwise

from dalm.ingest.contents_lines import contents_lines
from dalm.ingest.loaders.pdf_headings import plain_title
from dalm.ingest.loaders.pdf_lines import Line

RUN = 4  # lines with rising page numbers, at least
BETWEEN = 2  # lines without a number between two with one: a title that takes two lines
SAME_EDGE = 3.0  # points
ENDS_IN_PAGE = re.compile(r"[^\W\d_].*\s(?:\d{1,4}|[ivxlc]+)$")
SHARE = 0.5  # of the titles are found again in the document


def find_contents(pages: Sequence[Sequence[Line]]) -> set[Line]:
    """Return the lines of tables of contents."""
    lines = [line for page in pages for line in page]
    found = _dotted(lines) | _bare(lines, len(pages))
    for one, other in [*pairwise(lines), *pairwise(reversed(lines))]:  # those without dots
        same_edge = abs(one.right - other.right) <= SAME_EDGE
        if one in found and same_edge and ENDS_IN_PAGE.search(other.text):
            found.add(other)
    return found


def _dotted(lines: Sequence[Line]) -> set[Line]:
    texts = [line.text for line in lines]
    starts = [0, *accumulate(len(text) + 1 for text in texts)]
    spans = contents_lines("\n".join(texts))
    found: set[Line] = set()
    i = 0
    for start, end in spans:
        while i < len(lines) and starts[i] < end:
            if starts[i] >= start:
                found.add(lines[i])
            i += 1
    return found


def _bare(lines: Sequence[Line], pages: int) -> set[Line]:
    """Find titles with page numbers in a column at the right, which are headings further on."""
    found: set[Line] = set()
    run: list[int] = []
    titles: Counter[str] | None = None
    for i, line in enumerate([*lines, None]):
        number = _page_number(line) if line is not None else None
        if number is not None and number <= pages + 20:
            if run and _follows(lines[run[-1]], lines[i]) and i - run[-1] <= BETWEEN + 1:
                run.append(i)
                continue
        elif line is not None and run and i - run[-1] <= BETWEEN:
            continue
        if len(run) >= RUN:
            titles = titles or Counter(plain_title(each.text) for each in lines)
            if _are_titles([lines[at] for at in run], titles):
                found |= set(lines[run[0] : run[-1] + 1])
        run = [i] if number is not None else []
    return found


def _follows(one: Line, other: Line) -> bool:
    """Tell whether the page numbers of two lines stand below each other and rise."""
    first, second = _page_number(one), _page_number(other)
    assert first is not None
    assert second is not None
    return first <= second and abs(one.right - other.right) <= SAME_EDGE


def _are_titles(run: Sequence[Line], titles: Counter[str]) -> bool:
    names = (" ".join(cell.text for cell in line.cells[:-1]) for line in run)
    return sum(titles[plain_title(name)] > 0 for name in names) >= SHARE * len(run)


def _page_number(line: Line) -> int | None:
    last = line.cells[-1].text
    if len(line.cells) < 2 or not last.isascii() or not last.isdigit() or len(last) > 4:
        return None
    return int(last)
