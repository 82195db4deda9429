"""Pack the pieces of a section into passages within the limit, from the first to the last."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dalm.ingest.boundaries import Boundaries, Piece, WordBlock


class Packed(NamedTuple):
    """Words `[first, last)` of a passage, below the header rows of `table` if there is one."""

    first: int
    last: int
    table: WordBlock | None


class Packer:
    """Fill passages of at most `limit`; each repeats up to `overlap` of the one before it.

    A passage that begins below the header rows of a table repeats these, unless they take more than
    half of it.
    """

    def __init__(
        self, boundaries: Boundaries, lengths: Sequence[int], limit: int, overlap: int = 0
    ) -> None:
        """Take the boundaries of a document, and sums of its words' lengths."""
        self.boundaries, self.lengths = boundaries, lengths
        self.limit, self.overlap = limit, overlap

    def pack(self, first: int, last: int) -> list[Packed]:
        """Return the passages of a section.

        A last one of less than a quarter of the limit is balanced with the one before it.
        """
        lengths = self.lengths
        pieces = list(self._split_long(self.boundaries.pieces(first, last)))
        starts: list[tuple[int, int]] = []  # of passages, with where they end
        begin, first_new, header = first, 0, self._header_length(first)
        for i, piece in enumerate(pieces):
            size = header + lengths[piece.first] - lengths[begin]
            if (
                i > first_new
                and 3 * (size + lengths[piece.last] - lengths[piece.first]) > self.limit
                and self._closes(pieces[i - 1], piece, size)
            ):
                starts.append((begin, piece.first))
                begin, first_new = self._overlap_start(pieces[first_new:i], piece), i
                header = self._header_length(begin)
        starts.append((begin, last))
        if len(starts) > 1 and not self.overlap:
            starts[-2:] = self._balance(starts[-2][0], starts[-1][0], last, pieces)
        return [Packed(begin, end, self._table(begin)) for begin, end in starts]

    def _table(self, word: int) -> WordBlock | None:
        """Return the table whose header rows a passage that begins there repeats."""
        table = self.boundaries.block_at(word)
        if table is None or not table.first < table.header <= word:
            return None
        return table if 2 * self._length(table.first, table.header) <= self.limit else None

    def _header_length(self, word: int) -> int:
        table = self._table(word)
        return self._length(table.first, table.header) if table else 0

    def _length(self, first: int, last: int) -> int:
        return self.lengths[last] - self.lengths[first]

    def _closes(self, previous: Piece, piece: Piece, size: int) -> bool:
        """Tell whether a passage of this size ends before the piece."""
        if size + self._length(piece.first, piece.last) > self.limit:
            return True
        if previous.paragraph_end > piece.first:
            return False
        paragraph = self._length(piece.first, piece.paragraph_end)
        whole = paragraph <= self.limit and not self.overlap
        enough = 3 if whole else 2  # a third of a passage, if the paragraph stays whole for it
        return enough * size >= self.limit and size + paragraph > self.limit

    def _split_long(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Split pieces over the limit where it hurts least, at the latest between words."""
        lengths, short = self.lengths, self.limit // 2 - self.overlap  # fits below header rows, too
        for piece in pieces:
            first = piece.first
            if lengths[piece.last] - lengths[first] <= short:
                yield piece
                continue
            while piece.last - first > 1 and self._length(first, piece.last) > self._room(first):
                end = self._end_within(first, piece.last, self._room(first))
                yield Piece(first, end, piece.paragraph_end)
                first = end
            yield Piece(first, piece.last, piece.paragraph_end)

    def _room(self, first: int) -> int:
        """Return how long a piece that begins there may be."""
        return max(1, self.limit - self.overlap - self._header_length(first))

    def _end_within(self, first: int, last: int, room: int) -> int:
        """Return where the first part of a piece over the limit ends: within the limit."""
        lengths = self.lengths
        most = bisect_right(lengths, lengths[first] + room, first + 1, last) - 1
        most = max(most, first + 1)  # a word over the limit is a part of its own
        for places, share in self.boundaries.within(first, most + 1):
            least = lengths[first] + share * room
            if places and lengths[places[-1]] >= least:
                return places[-1]
        return most

    def _overlap_start(self, pieces: Sequence[Piece], following: Piece) -> int:
        """Return the word from which a passage's end is repeated: whole pieces if one fits."""
        end = following.first
        for piece in pieces if self.overlap else ():
            whole = self._header_length(piece.first) + self._length(piece.first, following.last)
            if self._length(piece.first, end) <= self.overlap and whole <= self.limit:
                return piece.first
        if not self.overlap or self.boundaries.block_at(pieces[-1].first):
            return end
        room = min(self.overlap, self.limit - self._length(end, following.last))
        return bisect_left(self.lengths, self.lengths[end] - room, pieces[0].first, end)

    def _balance(
        self, first: int, middle: int, last: int, pieces: Sequence[Piece]
    ) -> list[tuple[int, int]]:
        """Move the boundary of the last two passages so that the longer one is short."""

        def longer(boundary: int) -> int:
            below = self._header_length(boundary) + self._length(boundary, last)
            return max(self._header_length(first) + self._length(first, boundary), below)

        if 4 * self._length(middle, last) < self.limit:
            middle = min((p.first for p in pieces if first < p.first < last), key=longer)
        return [(first, middle), (middle, last)]
