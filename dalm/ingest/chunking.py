"""Split a document into passages: by headings, then paragraphs, then sentences, then words."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from dalm.ingest.length_limit import LengthLimit
from dalm.ingest.loaders.loader import Document, Heading
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts
from dalm.ingest.words import word_spans
from dalm.records import Passage

HeadingPath = tuple[str, ...]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sentence:
    """Words `[first, last)`; `paragraph_end` is the word at which the paragraph has ended."""

    first: int
    last: int
    paragraph_end: int


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
    one. Within a section a chunk is filled sentence by sentence, and ends at the end of a paragraph
    when it is at least half full and the next paragraph doesn't fit. A sentence over the limit is
    split between words. Up to `overlap` of a chunk's end is repeated by the next one of the
    section, in whole sentences if one fits. Without overlap, the chunks hold every word of the
    document once.
    """

    def __init__(self, length_limit: LengthLimit, *, overlap: int = 0, min_words: int = 1) -> None:
        self.length_limit = length_limit
        self.overlap = overlap
        self.min_words = min_words

    def split(self, document: Document) -> list[Passage]:
        """Return a document's passages in order; none if it is shorter than `min_words`."""
        words = _Words(*word_spans(document.text, document.begin))
        if len(words.starts) < max(self.min_words, 1):
            return []
        lengths = self.length_limit.cumulative(document.text, words.starts)
        words, lengths = self._split_long_words(document.text, words, lengths)
        boundaries = _Boundaries(document.text, words.starts)
        document_id = document.id  # once: a hash of the whole text
        passages = []
        for section in self._sections(document, words):
            sentences = boundaries.sentences(section)
            for start, end in self._pack(document.text, words, lengths, sentences):
                passage = Passage.of(
                    document.text[start:end],
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
        self, text: str, words: "_Words", lengths: Sequence[int]
    ) -> tuple["_Words", Sequence[int]]:
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
        return _Words(starts, ends), self.length_limit.cumulative(text, starts)

    def _sections(self, document: Document, words: "_Words") -> list[Section]:
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

    def _pack(
        self, text: str, words: "_Words", lengths: Sequence[int], sentences: Sequence[Sentence]
    ) -> list[Range]:
        """Return the offsets of a section's chunks, each within the limit to the token."""
        limit = self.length_limit.maximum
        while True:
            ranges = pack(sentences, lengths, limit, self.overlap)
            spans = [(words.starts[a], words.ends[b - 1]) for a, b in ranges]
            excess = self.length_limit.excess([text[start:end] for start, end in spans])
            if excess <= 0 or limit == 1:
                return spans
            limit = max(1, limit - excess)


@dataclass(frozen=True, slots=True)
class _Words:
    starts: list[int]
    ends: list[int]


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


class _Boundaries:
    """The words at which the sentences and paragraphs of a text begin."""

    def __init__(self, text: str, starts: Sequence[int]) -> None:
        self.paragraphs = [bisect_left(starts, at) for at in paragraph_starts(text)]
        found = (bisect_left(starts, at) for at in sentence_starts(text))
        self.all = sorted({*found, *self.paragraphs})

    def sentences(self, section: Section) -> list[Sentence]:
        """Return a section's sentences."""
        first, last = section.first, section.last
        ends = self.all[bisect_right(self.all, first) : bisect_left(self.all, last)]
        found = []
        for end in (*ends, last):
            at = bisect_left(self.paragraphs, end)
            paragraph_end = min(self.paragraphs[at], last) if at < len(self.paragraphs) else last
            found.append(Sentence(first, end, paragraph_end))
            first = end
        return found


def pack(
    sentences: Sequence[Sentence], lengths: Sequence[int], limit: int, overlap: int = 0
) -> list[Range]:
    """Pack consecutive sentences into ranges of words with a length of at most `limit`.

    A last range of less than a quarter of the limit is balanced with the one before it.
    """
    sentences = _split_long_sentences(sentences, lengths, max(1, limit - overlap))
    ranges: list[Range] = []
    begin, first_new = sentences[0].first, 0
    for i, sentence in enumerate(sentences):
        size = lengths[sentence.first] - lengths[begin]
        if i > first_new and _closes_chunk(sentences[i - 1], sentence, lengths, size, limit):
            ranges.append((begin, sentence.first))
            room = min(overlap, limit - (lengths[sentence.last] - lengths[sentence.first]))
            begin, first_new = _overlap_start(sentences[first_new:i], lengths, room), i
    ranges.append((begin, sentences[-1].last))
    if len(ranges) > 1 and not overlap:
        ranges[-2:] = _balance(ranges[-2], ranges[-1], sentences, lengths, limit)
    return ranges


def _closes_chunk(
    previous: Sentence, sentence: Sentence, lengths: Sequence[int], size: int, limit: int
) -> bool:
    """Tell whether a chunk of this size ends before the sentence."""
    if size + lengths[sentence.last] - lengths[sentence.first] > limit:
        return True
    new_paragraph = previous.paragraph_end <= sentence.first
    paragraph = lengths[sentence.paragraph_end] - lengths[sentence.first]
    return new_paragraph and 2 * size >= limit and size + paragraph > limit


def _split_long_sentences(
    sentences: Sequence[Sentence], lengths: Sequence[int], limit: int
) -> list[Sentence]:
    """Split sentences over the limit between words."""
    found = []
    for sentence in sentences:
        first = sentence.first
        while lengths[sentence.last] - lengths[first] > limit:
            end = bisect_right(lengths, lengths[first] + limit, first + 1, sentence.last) - 1
            end = max(end, first + 1)  # a word over the limit is a sentence of its own
            found.append(Sentence(first, end, sentence.paragraph_end))
            first = end
        found.append(Sentence(first, sentence.last, sentence.paragraph_end))
    return found


def _overlap_start(sentences: Sequence[Sentence], lengths: Sequence[int], room: int) -> int:
    """Return the word from which a chunk's end is repeated: whole sentences if one fits."""
    end = sentences[-1].last
    fitting = [each.first for each in sentences if lengths[end] - lengths[each.first] <= room]
    if fitting:
        return fitting[0]
    return bisect_left(lengths, lengths[end] - room, sentences[0].first, end)


def _balance(
    one: Range, other: Range, sentences: Sequence[Sentence], lengths: Sequence[int], limit: int
) -> list[Range]:
    """Move the boundary of the last two ranges so that the longer one is as short as possible."""
    (first, middle), (_, last) = one, other
    if 4 * (lengths[last] - lengths[middle]) >= limit:
        return [one, other]

    def longer(boundary: int) -> int:
        return max(lengths[boundary] - lengths[first], lengths[last] - lengths[boundary])

    boundaries = [each.first for each in sentences if first < each.first < last]
    middle = min(boundaries, key=longer)
    return [(first, middle), (middle, last)]
