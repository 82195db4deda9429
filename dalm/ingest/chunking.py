"""Cut a document into passages: headings, then paragraphs, then sentences, then words."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from dalm.ingest import sentences
from dalm.ingest.document import Document, Heading
from dalm.ingest.length_limit import Budget
from dalm.records import Passage

Headings = tuple[str, ...]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class PlacedPassage:
    """A passage and its place: `text[start:end]` of its document, below `headings`, on `page`."""

    passage: Passage
    start: int
    end: int
    headings: Headings
    page: int | None


@dataclass(frozen=True, slots=True)
class Unit:
    """Words `[first, last)` that a passage holds together; `paragraph` is where theirs ends."""

    first: int
    last: int
    paragraph: int


@dataclass(frozen=True, slots=True)
class Section:
    """Words `[first, last)` below one path of headings."""

    first: int
    last: int
    path: Headings


class Splitter:
    """Cut documents into passages of at most `budget.limit`, none of fewer than `min_words`.

    A passage stays within a section; a section of fewer than `min_words` goes along with the next
    one. In a section it is filled up sentence by sentence, and ends with a paragraph where it is
    at least half full and the next paragraph doesn't fit. A sentence over the budget is cut
    between words. Up to `overlap` of a passage's end is repeated by the next one of the section,
    in whole sentences if one fits. Without overlap, passages hold every word of a document once.
    """

    def __init__(self, budget: Budget, *, overlap: int = 0, min_words: int = 1) -> None:
        self.budget = budget
        self.overlap = overlap
        self.min_words = min_words

    def split(self, document: Document) -> list[PlacedPassage]:
        """Return a document's passages in their order; none if it is shorter than `min_words`."""
        words = self._words(document)
        if len(words.starts) < max(self.min_words, 1):
            return []
        cost = self.budget.costs(document.text, words.starts)
        words, cost = self._cuttable(document.text, words, cost)
        cuts = _Cuts(document.text, words.starts)
        found = []
        for section in self._sections(document, words):
            for start, end in self._pack(document.text, words, cost, cuts.units(section)):
                page = bisect_right(document.pages, start) or None
                passage = Passage.of(document.text[start:end], document.title)
                found.append(PlacedPassage(passage, start, end, section.path, page))
        return found

    def _words(self, document: Document) -> "_Words":
        return _Words(*sentences.words(document.text, document.begin))

    def _cuttable(
        self, text: str, words: "_Words", cost: Sequence[int]
    ) -> tuple["_Words", Sequence[int]]:
        """Part words that alone cost more than a passage may into their characters."""
        if isinstance(cost, range):
            return words, cost
        room = self.budget.limit - self.overlap
        long = {i for i in range(len(words.starts)) if cost[i + 1] - cost[i] > room}
        if not long:
            return words, cost
        starts, ends = list[int](), list[int]()
        for i, (start, end) in enumerate(zip(words.starts, words.ends, strict=True)):
            starts += range(start, end) if i in long else [start]
            ends += range(start + 1, end + 1) if i in long else [end]
        return _Words(starts, ends), self.budget.costs(text, starts)

    def _sections(self, document: Document, words: "_Words") -> list[Section]:
        """Return the sections, short ones together with the next, under what they have in common.

        A heading without a text of its own goes along with the section below it.
        """
        found: list[Section] = []
        first, path, mixed = 0, Headings(), False
        for section in _raw_sections(document.headings, words.starts):
            mixed = mixed or section.path[: len(path)] != path
            path = _common(path, section.path) if mixed else section.path
            if section.last - first >= self.min_words and not section.bare:
                found.append(Section(first, section.last, path))
                first, path, mixed = section.last, Headings(), False
        if first < len(words.starts):  # too short to stand alone, and nothing comes after it
            if found:
                last = found.pop()
                found.append(Section(last.first, len(words.starts), last.path))
            else:
                found.append(Section(first, len(words.starts), path))
        return found

    def _pack(
        self, text: str, words: "_Words", cost: Sequence[int], units: Sequence[Unit]
    ) -> list[Range]:
        """Return the offsets of a section's passages, each within the budget to the token."""
        limit = self.budget.limit
        while True:
            ranges = pack(units, cost, limit, self.overlap)
            spans = [(words.starts[a], words.ends[b - 1]) for a, b in ranges]
            excess = self.budget.excess([text[start:end] for start, end in spans])
            if excess <= 0 or limit == 1:
                return spans
            limit = max(1, limit - excess)


@dataclass(frozen=True, slots=True)
class _Words:
    starts: list[int]
    ends: list[int]


@dataclass(frozen=True, slots=True)
class _RawSection:
    first: int
    last: int
    path: Headings
    bare: bool
    """It has no text but its heading."""


def _raw_sections(headings: Sequence[Heading], starts: Sequence[int]) -> Iterator[_RawSection]:
    """Yield what stands before the first heading, and each heading with what follows it."""
    above: list[Heading] = []
    first, body = 0, 0
    for heading in headings:
        here = bisect_left(starts, heading.start)
        if here > first:
            yield _RawSection(first, here, _path(above), bare=here <= body)
        above = [each for each in above if each.level < heading.level] + [heading]
        first, body = here, bisect_left(starts, heading.end)
    if first < len(starts):
        yield _RawSection(first, len(starts), _path(above), bare=len(starts) <= body)


def _common(one: Headings, other: Headings) -> Headings:
    pairs = zip(one, other, strict=False)
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _path(above: Sequence[Heading]) -> Headings:
    return tuple(heading.text for heading in above)


class _Cuts:
    """The places between a text's words at which sentences and paragraphs begin."""

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        self.paragraphs = [bisect_left(starts, at) for at in sentences.paragraph_starts(text)]
        found = (bisect_left(starts, at) for at in sentences.sentence_starts(text))
        self.sentences = sorted({*found, *self.paragraphs})

    def units(self, section: Section) -> list[Unit]:
        """Return a section's sentences."""
        first, last = section.first, section.last
        ends = self.sentences[
            bisect_right(self.sentences, first) : bisect_left(self.sentences, last)
        ]
        units = []
        for end in (*ends, last):
            here = bisect_left(self.paragraphs, end)
            paragraph = min(self.paragraphs[here], last) if here < len(self.paragraphs) else last
            units.append(Unit(first, end, paragraph))
            first = end
        return units


def pack(units: Sequence[Unit], cost: Sequence[int], limit: int, overlap: int = 0) -> list[Range]:
    """Put units, one after the other, into ranges of words that cost at most `limit`.

    A last range of less than a quarter of the limit shares with the one before it.
    """
    units = _within(units, cost, max(1, limit - overlap))
    ranges: list[Range] = []
    begin, fresh = units[0].first, 0
    for place, unit in enumerate(units):
        size = cost[unit.first] - cost[begin]
        if place > fresh and _closes(units[place - 1], unit, cost, size, limit):
            ranges.append((begin, unit.first))
            room = min(overlap, limit - (cost[unit.last] - cost[unit.first]))
            begin, fresh = _back(units[fresh:place], cost, room), place
    ranges.append((begin, units[-1].last))
    if len(ranges) > 1 and not overlap:
        ranges[-2:] = _balanced(ranges[-2], ranges[-1], units, cost, limit)
    return ranges


def _closes(before: Unit, unit: Unit, cost: Sequence[int], size: int, limit: int) -> bool:
    if size + cost[unit.last] - cost[unit.first] > limit:
        return True
    new_paragraph = before.paragraph <= unit.first
    whole = cost[unit.paragraph] - cost[unit.first]
    return new_paragraph and 2 * size >= limit and size + whole > limit


def _within(units: Sequence[Unit], cost: Sequence[int], limit: int) -> list[Unit]:
    """Cut units that cost more than the limit between words."""
    found = []
    for unit in units:
        first = unit.first
        while cost[unit.last] - cost[first] > limit:
            end = bisect_right(cost, cost[first] + limit, first + 1, unit.last) - 1
            end = max(end, first + 1)  # a word of more than the limit stands alone
            found.append(Unit(first, end, unit.paragraph))
            first = end
        found.append(Unit(first, unit.last, unit.paragraph))
    return found


def _back(units: Sequence[Unit], cost: Sequence[int], room: int) -> int:
    """Return the word from which a passage's end is repeated: whole units if one fits."""
    end = units[-1].last
    fitting = [unit.first for unit in units if cost[end] - cost[unit.first] <= room]
    if fitting:
        return fitting[0]
    return bisect_left(cost, cost[end] - room, units[0].first, end)


def _balanced(
    one: Range, other: Range, units: Sequence[Unit], cost: Sequence[int], limit: int
) -> list[Range]:
    (first, middle), (_, last) = one, other
    if 4 * (cost[last] - cost[middle]) >= limit:
        return [one, other]

    def larger(cut: int) -> int:
        return max(cost[cut] - cost[first], cost[last] - cost[cut])

    cuts = [unit.first for unit in units if first < unit.first < last]
    middle = min(cuts, key=larger)
    return [(first, middle), (middle, last)]
