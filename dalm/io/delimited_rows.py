"""Read the rows of csv and tsv: find the delimiter, and go on after rows that are broken."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice

from dalm.io.text_lines import BrokenLineError, Line, Lines, UnreadableError, too_large

FIELD_LIMIT = 2**31 - 1  # characters in a csv field; the largest that every platform's long holds
MARKS = ",;\t|"
SAMPLED_LINES, SAMPLED_CHARACTERS = 60, 60_000  # from which the delimiter is found
FITTING = 0.8  # of the sampled rows have as many fields as the header
SEPARATOR_LINE = re.compile(r'"?sep=(?P<mark>[,;|\t])"?\s*', re.IGNORECASE)
"""What Excel writes and reads above the header."""


def find_delimiter(lines: Lines, default: str) -> tuple[str, Lines]:
    """Return the mark that separates the columns, and the lines from the header on.

    That is what a first line such as `sep=;` says, or the mark by which the first rows have as many
    fields as the header; `default` without columns, or if nothing tells.
    """
    sample: list[Line] = []
    size = 0
    for number, line in islice(lines, SAMPLED_LINES):
        sample.append((number, line))
        size += len(line) if isinstance(line, str) else 0
        if size > SAMPLED_CHARACTERS:
            break
    texts = [line for _, line in sample if isinstance(line, str)]
    said = SEPARATOR_LINE.fullmatch(texts[0]) if texts else None
    if said:
        return said["mark"], chain(sample[1:], lines)
    scores = {mark: _fit(texts, mark) for mark in (default, *MARKS.replace(default, ""))}
    best = max(scores, key=lambda mark: scores[mark])
    columns, fitting = scores[best]
    delimiter = best if columns > 1 and (fitting or scores[default][0] < 2) else default
    return delimiter, chain(sample, lines)


def _fit(texts: Sequence[str], mark: str) -> tuple[int, bool]:
    """Return by how many columns the first rows fit a mark: 1 if they don't."""
    limit = csv.field_size_limit(FIELD_LIMIT)
    try:
        rows = [row for row in csv.reader(texts, delimiter=mark) if any(row)]
    finally:
        csv.field_size_limit(limit)
    if not rows or len(rows[0]) < 2:
        return 1, False
    columns, others = len(rows[0]), rows[1:-1] or rows[1:]  # the sample may end within a row
    fitting = sum(len(row) == columns for row in others) >= FITTING * len(others)
    return (columns, True) if fitting else (1, False)


class BrokenRow(Exception):  # noqa: N818 - it is a row
    """Report a row that can't be told apart from the next ones: `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DelimitedRows:
    """The rows of a table of a delimiter, header included, each with the number of its last line.

    Quotes are strict, for otherwise one that is never closed swallows the rest of the file in
    silence. With `recover` a row whose quotes are broken, or with a line that can't be decoded, is
    yielded as its first line and a `BrokenRow`, and the rows after it are read: those that have as
    many fields as the header, and closed quotes.
    """

    def __init__(
        self, lines: Lines, delimiter: str, *, recover: bool, max_bytes: int | None
    ) -> None:
        self._lines, self._delimiter = lines, delimiter
        self._recover, self._max_bytes = recover, max_bytes
        self._pending: deque[Line] = deque()
        self._taken: list[Line] = []
        self.width = 0

    def __iter__(self) -> Iterator[tuple[int, list[str] | BrokenRow]]:
        """Yield the rows that aren't blank."""
        reader = self._reader()
        broken: tuple[int, str] | None = None
        last = 0
        while True:
            self._taken.clear()
            try:
                row = self._next(reader)
            except BrokenRow as error:
                if not self._recover or not self.width:
                    raise UnreadableError(error.reason) from error
                broken = broken or (self._taken[0][0], error.reason)
                last = self._taken[0][0]
                self._push_back()
                reader = self._reader()
                continue
            if broken and (row is None or self._is_whole(row)):
                yield broken[0], BrokenRow(_with_lines(broken[1], broken[0], last))
                broken = None
            if row is None:
                return
            last = self._taken[-1][0]
            if row and not broken:
                self.width = self.width or len(row)
                yield last, row

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._feed(), delimiter=self._delimiter, strict=True)

    def _next(self, reader: Iterator[list[str]]) -> list[str] | None:
        """Return the next row, None at the end.

        Raises:
            BrokenRow: its quotes are broken, or a line of it.
            BrokenLineError: the same, where nothing goes on after a line.
        """
        limit = csv.field_size_limit(FIELD_LIMIT)
        try:
            return next(reader, None)
        except csv.Error as error:
            raise BrokenRow(
                f"the quotes of a row from line {self._taken[0][0]} on are broken ({error}); quote "
                'the whole field and write a quote inside it twice: ""'
            ) from error
        finally:
            csv.field_size_limit(limit)  # the limit belongs to the process, not to this reader

    def _feed(self) -> Iterator[str]:
        """Yield the lines of the next row, and keep them."""
        size = 0
        while True:
            line = self._pending.popleft() if self._pending else next(self._lines, None)
            if line is None:
                return
            size = size if self._taken else 0
            self._taken.append(line)
            text = line[1]
            if isinstance(text, BrokenLineError):
                raise BrokenRow(str(text)) if self._recover else text
            size += len(text)
            if self._max_bytes is not None and size > self._max_bytes:
                what = f"the row from line {self._taken[0][0]}"
                raise BrokenRow(str(too_large(self._max_bytes, what)))
            yield text

    def _push_back(self) -> None:
        """Have the lines after the first one of a broken row read again."""
        self._pending.extendleft(reversed(self._taken[1:]))

    def _is_whole(self, row: Sequence[str]) -> bool:
        """Tell whether a row after a broken one is no part of that."""
        quotes = sum(line.count('"') for _, line in self._taken if isinstance(line, str))
        return len(row) == self.width and quotes % 2 == 0


def _with_lines(reason: str, first: int, last: int) -> str:
    return reason if last <= first else f"lines {first} to {last} are left out: {reason}"
