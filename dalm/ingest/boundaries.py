"""Find where a document may be cut: between sentences, rows, lines of code and items of a list."""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from dalm.ingest.loaders.loader import Block, Document
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts

COLONS = frozenset(":：﹕")
EXAMPLES = ("e.g.", "i.e.", "such as", "e.g.,", "i.e.,", "for example,", "z. B.", "z.B.")
CLOSING = "*_`'\")]»”"  # marks after a colon: "**Options:**"
CLAUSE_ENDS = frozenset(",;:，；：、،؛")
SENTENCE_ENDS = frozenset(".!?…。！？؟।;,:")
TITLE_WORDS = 12  # of a line that stands alone, without a full stop, and is the title of the next
NUMBERED_TITLE = re.compile(r"(?:\d{1,3}(?:\.\d{1,3})+|(?:Chapter|Appendix|Annex) \w{1,4})\.?\s+\S")
NUMBERED_TITLE_WORDS = 25  # of one with a section number, on however many lines
TERM_WORDS = 4  # of a term that is explained below it, in lower case and maybe two lines
TITLES = 3  # such lines after each other; more of them are a list
INTRODUCTION_WORDS = 40  # of a sentence before a table, a list or code, which stays with it


@dataclass(frozen=True, slots=True)
class Words:
    """The words at `text[starts[i]:ends[i]]`."""

    starts: list[int]
    ends: list[int]

    def at(self, offset: int) -> int:
        """Return the first word that begins at an offset or after it."""
        return bisect_left(self.starts, offset)


class Piece(NamedTuple):
    """Words `[first, last)` that stay together; at `paragraph_end` their paragraph has ended."""

    first: int
    last: int
    paragraph_end: int


@dataclass(frozen=True, slots=True)
class WordBlock:
    """A block by its words; `header` is the first word below a table's header rows, or `first`."""

    first: int
    end: int
    header: int
    units: Sequence[int]
    block: Block


class Boundaries:
    """The words before which a passage may end.

    They begin a sentence or a paragraph, or within a block one of its units. No passage ends after
    a heading, a line like "Options:", a title, the sentence before a block, or a table's header
    rows: `held` has the words that follow them.
    """

    def __init__(
        self, document: Document, text: str, words: Words, fits: Callable[[int, int], bool]
    ) -> None:
        """Find them in `text`; a block that `fits` into a passage is one paragraph."""
        self.text, self.words = text, words
        self.blocks = list(_word_blocks(document.blocks, words))
        self.paragraphs = sorted({words.at(at) for at in paragraph_starts(text)})
        sentences = {words.at(at) for at in sentence_starts(text)}
        headings = [words.at(heading.start) for heading in document.headings]
        self.below_headings = {words.at(heading.end) for heading in document.headings}
        self.held = set(self.below_headings)
        self.cuts = sorted(sentences.union(self.paragraphs, headings))
        self.fine = self.cuts
        """Where a piece over the limit may be cut: at sentences within rows and items, too."""
        self._hold_titles()
        if self.blocks:
            units = (unit for block in self.blocks for unit in block.units)
            self.fine = sorted({*self.cuts, *units})
            self.cuts = list(dict.fromkeys(self._block_cuts()))
            self._join_blocks(fits)
        self.held.update(at for at in self.cuts if self._after_colon(at))
        outside = (at for at in self.paragraphs if self.block_at(at) is None)
        self.held.update(at for at in outside if self._goes_on(at))
        self.cuts = [at for at in self.cuts if at not in self.held]
        self.paragraphs = [at for at in self.paragraphs if at not in self.held]

    def pieces(self, first: int, last: int) -> Iterator[Piece]:
        """Yield the pieces of a section."""
        cuts = self.cuts[bisect_right(self.cuts, first) : bisect_left(self.cuts, last)]
        place, paragraph_end = bisect_right(self.paragraphs, first), first
        for end in (*cuts, last):
            while paragraph_end < end:
                known = place < len(self.paragraphs)
                paragraph_end = min(self.paragraphs[place], last) if known else last
                place += 1
            yield Piece(first, end, paragraph_end)
            first = end

    def lead_start(self, first: int, last: int) -> int:
        """Return where the title or the line with a colon begins that ends words; else `last`."""
        if last not in self.held or last in self.below_headings:
            return last
        place = bisect_left(self.cuts, last) - 1
        return max(first, self.cuts[place]) if place >= 0 else last

    def within(self, first: int, last: int) -> Iterator[tuple[list[int], float]]:
        """Yield places to cut words that are over the limit, the better ones first.

        They are sentences and units; then what is held, headings last; then lines and cells, then
        clauses. Each comes with the share of a passage that has to be before it.
        """
        fine = self.fine[bisect_right(self.fine, first) : bisect_left(self.fine, last)]
        yield [at for at in fine if at not in self.held], 0.25
        yield [at for at in fine if at in self.held and at not in self.below_headings], 0.25
        yield [at for at in fine if at in self.held], 0.5
        text, starts, ends = self.text, self.words.starts, self.words.ends
        gaps = ((at, text[ends[at - 1] : starts[at] + 1]) for at in range(first + 1, last))
        lines = [at for at, gap in gaps if "\n" in gap or "\t" in gap or gap[-1] == "|"]
        yield [at for at in lines if at not in self.held], 0.25
        yield [at for at in range(first + 1, last) if text[ends[at - 1] - 1] in CLAUSE_ENDS], 0.5

    def block_at(self, word: int) -> WordBlock | None:
        """Return the block that holds a word, unless it is the first of the block."""
        if not self.blocks:
            return None
        place = bisect_left(self.blocks, word, key=lambda block: block.first) - 1
        return self.blocks[place] if place >= 0 and word < self.blocks[place].end else None

    def _hold_titles(self) -> None:
        """Hold what follows a line that stands alone like a title."""
        count = len(self.words.starts)
        ranges = pairwise([0, *self.paragraphs, count]) if count else ()
        for titles, run in groupby(ranges, key=lambda each: self._is_title(*each)):
            ends = [end for _, end in run] if titles else []
            if len(ends) <= TITLES:
                self.held.update(ends)

    def _is_title(self, first: int, last: int) -> bool:
        if not 0 < last - first <= NUMBERED_TITLE_WORDS or last == len(self.words.starts):
            return False
        start, end = self.words.starts[first], self.words.ends[last - 1]
        text = self.text[start:end]
        if NUMBERED_TITLE.match(text) and text[-1] not in ".;,":
            return self.block_at(first + 1) is None
        if last - first > TITLE_WORDS:
            return False
        lines = [line for line in text.split("\n") if any(map(str.isalnum, line))]
        is_title = len(lines) == 1 and not text[0].islower()
        is_term = lines and last - first <= TERM_WORDS
        if not (is_title or is_term) or text.rstrip(CLOSING)[-1:] in SENTENCE_ENDS:
            return False
        return self.block_at(first + 1) is None

    def _block_cuts(self) -> Iterator[int]:
        """Yield the cuts with those of units in place of those within blocks; may repeat some."""
        place, previous = 0, 0
        for block in self.blocks:
            start = bisect_left(self.cuts, block.first)
            yield from self.cuts[place:start]
            before = max(self.cuts[start - 1] if start else 0, previous)
            if 0 < block.first - before <= INTRODUCTION_WORDS:
                self.held.add(block.first)
                self.paragraphs.append(before)
            self.held.update(unit for unit in block.units if block.first < unit <= block.header)
            yield block.first
            yield from (unit for unit in block.units if unit > block.header)
            yield block.end
            place, previous = bisect_left(self.cuts, block.end), block.end
        yield from self.cuts[place:]

    def _join_blocks(self, fits: Callable[[int, int], bool]) -> None:
        """Make a paragraph of a block; of a long one several, where there are empty lines."""
        self.paragraphs = sorted({*self.paragraphs, *(block.end for block in self.blocks)})
        found = set(self.paragraphs)
        for block in self.blocks:
            low = bisect_right(self.paragraphs, block.first)
            inner = self.paragraphs[low : bisect_left(self.paragraphs, block.end)]
            keep = () if fits(block.first, block.end) else block.units
            found.difference_update(set(inner).difference(keep))
        self.paragraphs = sorted(found.union(block.first for block in self.blocks))

    def _after_colon(self, word: int) -> bool:
        """Tell whether the words before this one end in a colon, or in "e.g."."""
        end = self.words.ends[word - 1] if word else 0
        last = self.text[end - 1 : end]
        if last == "." and self.text[end - 3 : end - 2].isalpha():  # not "e.g." or "z. B."
            return False
        if last in CLOSING:
            last = self.text[max(0, end - 5) : end].rstrip(CLOSING)[-1:]
        return last in COLONS or self.text.endswith(EXAMPLES, 0, end)

    def _goes_on(self, word: int) -> bool:
        """Tell whether a paragraph's first word goes on with the sentence before it."""
        if (
            not 0 < word < len(self.words.starts)
            or not self.text[self.words.starts[word]].islower()
        ):
            return False
        last = self.text[self.words.ends[word - 1] - 1]
        return last == "," or last not in SENTENCE_ENDS


def _word_blocks(blocks: Iterable[Block], words: Words) -> Iterator[WordBlock]:
    """Yield the blocks that hold words; one that begins within another is passed over."""
    after = 0
    for block in sorted(blocks, key=lambda block: block.start):
        first, end = words.at(block.start), words.at(block.end)
        if after <= first < end:
            units = sorted({words.at(unit) for unit in block.units})
            units = units[bisect_right(units, first) : bisect_left(units, end)]
            header = words.at(block.header_end) if block.header_end > block.start else first
            yield WordBlock(first, end, min(header, end), units, block)
            after = end
