"""Split a document into passages: by headings, paragraphs, sentences, rows and lines, words."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dalm.ingest.boundaries import Boundaries, Words
from dalm.ingest.greedy_packing import Packer
from dalm.ingest.length_limit import LengthLimit
from dalm.ingest.loaders.loader import Document, Heading
from dalm.ingest.words import word_spans
from dalm.records import Passage

HeadingPath = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """Words `[first, last)` below a path of headings; `empty` without text below its heading."""

    first: int
    last: int
    path: HeadingPath
    empty: bool = False


class Chunker:
    """Split documents into chunks of at most `length_limit`, none of fewer than `min_words`.

    A chunk stays within a section; a section of fewer than `min_words` is merged with the next
    one. Within a section a chunk is filled sentence by sentence, in tables, lists and code row by
    row, item by item and line by line, and ends at the end of a paragraph when it is at least half
    full and the next paragraph doesn't fit. A sentence or row over the limit is split between
    words. Up to `overlap` of a chunk's end is repeated by the next one of the section, in whole
    sentences if one fits; a chunk that begins below the header rows of a table repeats these.
    Without overlap, the chunks hold every word of the document once that is not omitted, besides
    header rows.
    """

    def __init__(self, length_limit: LengthLimit, *, overlap: int = 0, min_words: int = 1) -> None:
        self.length_limit = length_limit
        self.overlap = overlap
        self.min_words = min_words

    def split(self, document: Document) -> list[Passage]:
        """Return a document's passages in order; none if it is shorter than `min_words`."""
        text = document.blanked()
        words = Words(*word_spans(text, document.begin))
        if len(words.starts) < max(self.min_words, 1):
            return []
        lengths = self.length_limit.cumulative(text, words.starts)
        words, lengths = self._split_long_words(text, words, lengths)
        room = self.length_limit.maximum
        boundaries = Boundaries(document, text, words, lambda a, b: lengths[b] - lengths[a] <= room)
        document_id = document.id  # once: a hash of the whole text
        passages = []
        sections = self._sections(document, words)
        for section in self._with_leads(sections, boundaries):
            for start, end, passage_text in self._pack(document, boundaries, lengths, section):
                passage = Passage.of(
                    passage_text,
                    document.title,
                    document=document_id,
                    source=document.source,
                    headings=section.path,
                    page=bisect_right(document.pages, start) or None,
                    start=start,
                    end=end,
                )
                passages.append(passage)
        return passages

    def _split_long_words(
        self, text: str, words: Words, lengths: Sequence[int]
    ) -> tuple[Words, Sequence[int]]:
        """Split words that are longer than a chunk into characters."""
        if isinstance(lengths, range):
            return words, lengths
        room = self.length_limit.maximum - self.overlap
        long = {i for i in range(len(words.starts)) if lengths[i + 1] - lengths[i] > room}
        if not long:
            return words, lengths
        starts, ends = list[int](), list[int]()
        for i, (start, end) in enumerate(zip(words.starts, words.ends, strict=True)):
            starts += range(start, end) if i in long else [start]
            ends += range(start + 1, end + 1) if i in long else [end]
        return Words(starts, ends), self.length_limit.cumulative(text, starts)

    def _sections(self, document: Document, words: Words) -> list[Section]:
        """Return the sections, short ones merged with the next under their common headings.

        A heading without text of its own is merged with the section below it.
        """
        found: list[Section] = []
        first, path, merged = 0, HeadingPath(), False
        for section in _heading_sections(document.headings, words.starts):
            merged = merged or section.path[: len(path)] != path
            path = _common_path(path, section.path) if merged else section.path
            if section.last - first >= self.min_words and not section.empty:
                found.append(Section(first, section.last, path))
                first, path, merged = section.last, HeadingPath(), False
        if first < len(words.starts):  # too short, and there is no next section
            if found:
                last = found.pop()
                found.append(Section(last.first, len(words.starts), last.path))
            else:
                found.append(Section(first, len(words.starts), path))
        return found

    def _with_leads(self, sections: Sequence[Section], boundaries: Boundaries) -> Iterator[Section]:
        """Yield the sections; what leads to the next one, such as "Options:", belongs to that."""
        first = 0
        for section in sections:
            last = section.last
            if section is not sections[-1]:
                lead = boundaries.lead_start(first, last)
                last = lead if lead - first >= self.min_words else last
            yield replace(section, first=first, last=last)
            first = last

    def _pack(
        self, document: Document, boundaries: Boundaries, lengths: Sequence[int], section: Section
    ) -> list[tuple[int, int, str]]:
        """Return the offsets and texts of a section's chunks, each within the limit."""
        limit, words = self.length_limit.maximum, boundaries.words
        least = max(1, limit // 2)
        while True:
            packer = Packer(boundaries, lengths, limit, self.overlap)
            found = []
            for first, last, table in packer.pack(section.first, section.last):
                start, end = words.starts[first], words.ends[last - 1]
                header = ""
                if table is not None:
                    rows = words.starts[table.first], words.ends[table.header - 1]
                    header = document.excerpt(*rows) + "\n"
                found.append((start, end, header + document.excerpt(start, end)))
            excess = self.length_limit.excess([text for _, _, text in found])
            if excess <= 0:
                return found
            if limit == least:
                return [part for each in found for part in self._halved(document, *each)]
            limit = max(least, limit - excess)

    def _halved(
        self, document: Document, start: int, end: int, text: str
    ) -> Iterator[tuple[int, int, str]]:
        """Yield parts within the limit of a chunk whose tokens can't be counted by its words.

        A WordPiece tokenizer takes a word of over 100 characters for one unknown token, and half of
        it for fifty.
        """
        if self.length_limit.excess([text]) <= 0 or end - start < 2:
            yield start, end, text
            return
        middle = (start + end) // 2
        space = max(document.text.rfind(mark, start + 1, middle + 1) for mark in " \n\t")
        middle = space if space > start else middle
        for begin, stop in ((start, middle), (middle, end)):
            part = document.text[begin:stop].rstrip()
            low = begin + len(part) - len(part.lstrip())
            text = document.excerpt(low, begin + len(part))
            if text.strip():
                yield from self._halved(document, low, begin + len(part), text)


def _heading_sections(headings: Sequence[Heading], starts: Sequence[int]) -> Iterator[Section]:
    """Yield the words before the first heading, and each heading with the words below it."""
    above: list[Heading] = []
    first, body = 0, 0
    for heading in headings:
        last = bisect_left(starts, heading.start)
        if last > first:
            yield Section(first, last, _path(above), empty=last <= body)
        above = [each for each in above if each.level < heading.level] + [heading]
        first, body = last, bisect_left(starts, heading.end)
    if first < len(starts):
        yield Section(first, len(starts), _path(above), empty=len(starts) <= body)


def _common_path(one: HeadingPath, other: HeadingPath) -> HeadingPath:
    pairs = zip(one, other, strict=False)
    return tuple(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _path(above: Sequence[Heading]) -> HeadingPath:
    return tuple(heading.text for heading in above)
