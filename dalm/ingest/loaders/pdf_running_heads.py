"""Find the running heads, feet and page numbers of a PDF by their repetition."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from dalm.ingest.loaders.pdf_columns import rows_of
from dalm.ingest.loaders.pdf_lines import Line

ROWS = 3  # rows at the top and the bottom of a page that are looked at
PAGES = 3  # pages on which a line has to be
NEAR = 2  # pages from one to the next: heads alternate between left and right pages
LARGE = 1.25  # times the body's size: a title of a slide, unless it is on most pages
APART = 0.8  # of the font's size, between a running head and the text
TOGETHER = 30.0  # points at most between two rows of a running head
SAME_HEIGHT = 4.0  # points
LETTERS = 3  # that a line has at least unless it is a page number
MANY_LETTERS = 10  # of a line that is on two pages only: on every other one, or with their numbers
NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
ROMAN = re.compile(r"(?=[ivxlc])(x[cl]|l?x{0,3})(i[xv]|v?i{0,3})")
VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

Rows = list[list[Line]]


class Edge(NamedTuple):
    """A line at the top (1) or the bottom (−1) of a page, with its numbers masked."""

    line: Line
    side: int
    masked: str
    is_outermost: bool

    @property
    def is_number(self) -> bool:
        """Tell whether there is hardly more in it than a number."""
        return sum(map(str.isalpha, self.masked)) < LETTERS


def find_running_heads(pages: Sequence[Sequence[Line]], body: float) -> set[Line]:
    """Return the lines that repeat at the top or bottom of the pages, apart from the text.

    A line repeats if it is on at least `PAGES` pages near each other, at the same height, and is
    the same, or counts with the pages. What else is in its place and font is a running head, too:
    the name of a chapter of one page. Where there is nothing else, they are the text. `body` is the
    size of the text's font.
    """
    sides = [(side, rows) for page in pages for side, rows in _sides(page)]
    edges = [edge for side, rows in sides for edge in _edges(side, rows)]
    groups: dict[tuple[int, str], list[Edge]] = defaultdict(list)
    for edge in edges:
        groups[edge.side, edge.masked].append(edge)
    found: set[Line] = set()
    places = Counter[tuple[int, int, str, float]]()
    for same in (same for group in groups.values() for same in _repeated(group)):
        if _page_count(same) >= _least(same, len(pages), body):
            found |= {edge.line for edge in same}
            places.update(map(_place, same))
    known = {place for place, count in places.items() if count >= max(PAGES, len(pages) // 5)}
    found |= {edge.line for edge in edges if _place(edge) in known}
    heads = {line for _, rows in sides for line in _heads(rows, found)}
    return heads if any(line not in heads for page in pages for line in page) else set()


def _sides(page: Sequence[Line]) -> Iterator[tuple[int, Rows]]:
    """Yield the rows of a page from the top down, and from the bottom up."""
    rows = rows_of([line for line in page if not line.turned])
    if rows:
        yield 1, rows
        yield -1, rows[::-1]


def _edges(side: int, rows: Rows) -> Iterator[Edge]:
    for row in rows[:ROWS]:
        for line in row:
            masked = NUMBER.sub("#", " ".join(line.text.casefold().split()))
            yield Edge(line, side, masked.strip("# |•·-–—"), row is rows[0])


def _heads(rows: Rows, found: set[Line]) -> Iterator[Line]:
    """Yield the lines of a page's outer rows that are heads, up to where the text begins."""
    count = 0
    while count < min(ROWS, max(1, len(rows) // 2)) and not found.isdisjoint(rows[count]):
        if count and abs(rows[count][0].bottom - rows[0][0].bottom) > TOGETHER * count:
            break
        count += 1
    while count and not _stands_apart(rows[count - 1], rows[count : count + 2]):
        count -= 1
    for row in rows[:count]:
        yield from row


def _stands_apart(row: Sequence[Line], inner: Rows) -> bool:
    """Tell whether a row is no part of the text that is next to it."""
    if not inner:
        return True
    line, other = row[0], inner[0][0]
    usual = _gap(other, inner[1][0]) if len(inner) > 1 else 0.0
    if _gap(line, other) > max(APART * line.size, 1.5 * min(usual, line.size)):
        return True
    return (line.font, line.size) != (other.font, other.size)


def _gap(one: Line, other: Line) -> float:
    return max(one.bottom - other.top, other.bottom - one.top)


# What repeats


def _repeated(group: Sequence[Edge]) -> Iterator[list[Edge]]:
    """Yield the lines of a group that are at one height, on pages near each other, and equal.

    Equal are also lines in which a number counts with the pages; other numbers are of headings.
    """
    for level in _levels(group):
        near = _near(level)
        offsets = Counter(n - e.line.page for e in near for n in set(_numbers(e.line.text)))
        offset, count = offsets.most_common(1)[0] if offsets else (0, 0)
        if 2 * count > len(near):
            counting = [
                e for e in near if offset in {n - e.line.page for n in _numbers(e.line.text)}
            ]
            yield near if near[0].is_number else counting
            continue
        texts: dict[str, list[Edge]] = defaultdict(list)
        for edge in near:
            if not edge.is_number:
                texts[edge.line.text].append(edge)
        yield from (_near(same) for same in texts.values())


def _levels(group: Sequence[Edge]) -> Iterator[list[Edge]]:
    """Part the lines of one text by their heights."""
    level: list[Edge] = []
    for edge in sorted(group, key=lambda edge: edge.line.bottom):
        if level and edge.line.bottom - level[-1].line.bottom > SAME_HEIGHT:
            yield level
            level = []
        level.append(edge)
    yield level


def _near(edges: Sequence[Edge]) -> list[Edge]:
    """Return those that have another of them on one of the next pages."""
    edges = sorted(edges, key=lambda edge: edge.line.page)
    pairs = [(a, b) for a, b in pairwise(edges) if 0 < b.line.page - a.line.page <= NEAR]
    near = {edge for pair in pairs for edge in pair}
    return [edge for edge in edges if edge in near]


def _page_count(edges: Sequence[Edge]) -> int:
    return len({edge.line.page for edge in edges})


def _least(edges: Sequence[Edge], pages: int, body: float) -> int:
    """Return on how many pages lines have to be."""
    if not edges:
        return 1
    first = edges[0]
    if first.line.size > LARGE * body:
        return max(PAGES, pages // 2)
    alternate = all(
        edge.is_outermost and (edge.line.page - first.line.page) % 2 == 0 for edge in edges
    )
    counts = any(edge.line.text != first.line.text for edge in edges)
    long = sum(map(str.isalpha, first.masked)) >= MANY_LETTERS
    return 2 if long and (alternate or counts or pages <= 2) else PAGES


def _numbers(text: str) -> Iterator[int]:
    for match in NUMBER.findall(text.casefold()):
        if match.isdigit():
            yield int(match[:9])
        elif ROMAN.fullmatch(match):
            signs = [VALUES[sign] for sign in match]
            yield sum(-a if a < b else a for a, b in pairwise([*signs, 0]))


def _place(edge: Edge) -> tuple[int, int, str, float]:
    line = edge.line
    return edge.side, round(line.bottom / SAME_HEIGHT), line.font, line.size
