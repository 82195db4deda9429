"""Find the tables, lists and code in lines of text, and what of Markdown's structure lies between.

Markdown is read as CommonMark and GitHub define it, as far as cutting needs; besides, tables drawn
with `+---+` or with rules of dashes are tables in a plain text, too.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

from dalm.ingest.loaders.loader import Block

FENCE = re.compile(r"\s*(`{3,}(?=[^`]*$)|~{3,})")
ITEM = re.compile(r"\s*(?:[-*+•–‣◦▪]|(\d{1,9})[.)]|\(?[a-zA-Z0-9]\))(?:\s+\S|\s*$)")
RULE = re.compile(r" {0,3}([-*_=])(?:[ \t]*\1){2,}[ \t]*$")
_DELIMITER = re.compile(r"\s*\|?\s*:?-+:?\s*(?:[|+]\s*:?-+:?\s*)*[|+]?\s*$")
_GRID_RULE = re.compile(r"\s*\+(?:[-=:]+\+)+\s*$")
_COLUMN_RULE = re.compile(r"\s*(?:-{2,}|={2,})(?:[ \t]+(?:-{2,}|={2,}))+[ \t]*$")
TITLE_WORDS = 12  # of an item that is the title of the list within it
STATEMENT_LINES = 15  # of code that is cut between statements alone
CLOSING = re.compile(r"[\])}>]|(?:else|elif|except|finally|end|fi|done|esac)\b")
ROW_LENGTH = 20_000  # characters; a longer line is no row of a table


class Lines:
    """The lines of `text[begin:]`, by number."""

    def __init__(self, text: str, begin: int) -> None:
        self.text = text
        self.lines = text[begin:].split("\n")
        self.starts = list(accumulate((len(line) + 1 for line in self.lines), initial=begin))
        """Where they begin, and where the one after the last would."""

    def __len__(self) -> int:
        """Return their number."""
        return len(self.lines)

    def indent(self, number: int) -> int:
        """Return by how many characters a line is indented."""
        return len(self.lines[number]) - len(self.lines[number].lstrip())

    def number_at(self, offset: int) -> int:
        """Return the number of the line that holds an offset."""
        return bisect_right(self.starts, offset) - 1

    def __getitem__(self, number: int) -> str:
        """Return a line; one that isn't there is empty."""
        return self.lines[number] if 0 <= number < len(self.lines) else ""

    def block(self, first: int, last: int, units: Sequence[int], below: int | None = None) -> Block:
        """Return the lines `[first, last)` as a block; the header rows end before line `below`."""
        end = min(self.starts[last], len(self.text))
        header = min(self.starts[below], end) if below is not None else 0
        return Block(self.starts[first], end, tuple(self.starts[unit] for unit in units), header)

    def while_(self, first: int, holds: Callable[[str], object]) -> int:
        """Return the number of the first line from there on for which something doesn't hold."""
        number = first
        while number < len(self.lines) and holds(self.lines[number]):
            number += 1
        return number


def plain_blocks(text: str) -> list[Block]:
    """Return the tables and lists of a plain text."""
    lines = Lines(text, 0)
    blocks = list[Block]()
    number = 0
    while number < len(lines):
        found = table_at(lines, number) or list_at(lines, number, in_paragraph=False)
        if found is None:
            number += 1
        else:
            number, block = found
            blocks += [block] if block else []
    return blocks


# Tables


def table_at(lines: Lines, first: int) -> tuple[int, Block] | None:
    """Return the table that begins in a line, with the number of the line after it."""
    line, below = lines[first], lines[first + 1]
    if len(line) + len(below) > ROW_LENGTH:
        return None
    if "|" in line and "-" in below and ("|" in below or "+" in below) and _DELIMITER.match(below):
        last = lines.while_(first + 2, _is_row)
        rows = range(first + 2, last)
        return last, lines.block(first, last, (first, *rows), first + 2 if rows else None)
    if line.lstrip().startswith("+") and _GRID_RULE.match(line):
        return _grid_at(lines, first)
    if _is_piped(line) and _is_piped(below):
        last = lines.while_(first, _is_piped)
        return last, lines.block(first, last, range(first, last))
    return _columns_at(lines, first, line, below)


def _is_row(line: str) -> bool:
    return "|" in line and bool(line.strip())


def _is_piped(line: str) -> bool:
    bare = line.strip()
    return bare.startswith("|") and bare.count("|") > 1 and not bare.startswith("||")


def _grid_at(lines: Lines, first: int) -> tuple[int, Block] | None:
    """Return a table drawn with `+---+`: a row ends at such a line, or each line is a row."""
    last = lines.while_(first, lambda line: line.lstrip().startswith(("|", "+")))
    rules = [n for n in range(first, last) if _GRID_RULE.match(lines[n])]
    if last - first < 3 or len(rules) < 2:
        return None
    if len(rules) <= 3:  # as databases print them: rules around the header row and at the end
        rows = [n for n in range(first + 1, last) if n not in rules]
        below = rules[1] + 1 if len(rules) == 3 else None
        return last, lines.block(first, last, (first, *rows), below)
    header = next((n for n in rules if "=" in lines[n]), None)
    units = [n + 1 for n in rules if n + 1 < last]
    return last, lines.block(first, last, (first, *units), header + 1 if header else None)


def _columns_at(lines: Lines, first: int, line: str, below: str) -> tuple[int, Block] | None:
    """Return a table whose columns stand below rules of dashes, up to an empty line."""
    if ("--" in below or "==" in below) and line.strip() and _COLUMN_RULE.match(below):
        row = first + 2
    elif ("--" in line or "==" in line) and below.strip() and _COLUMN_RULE.match(line):
        rule = lines.while_(first + 1, lambda each: each.strip() and not _COLUMN_RULE.match(each))
        row = rule + 1
        if not _COLUMN_RULE.match(lines[rule]):
            return None
    else:
        return None
    last = lines.while_(row, str.strip)
    rows = [number for number in range(row, last) if not _COLUMN_RULE.match(lines[number])]
    return (last, lines.block(first, last, (first, *rows), row)) if rows else None


# Lists


def list_at(lines: Lines, first: int, *, in_paragraph: bool) -> tuple[int, Block | None] | None:
    """Return the list that begins in a line, with the number of the line after it.

    An item has its lines below it: indented ones, and what follows without an empty line. An item
    alone is no block: it may be a numbered heading.
    """
    marker = ITEM.match(lines[first])
    if marker is None or RULE.match(lines[first]):
        return None
    if in_paragraph and marker.group(1) not in (None, "1"):
        return None  # "in\n1999. It" is a sentence
    units, item, last, fence, after_empty = [first], first, first + 1, "", False
    for number in range(first + 1, len(lines)):
        line = lines[number]
        if fence:
            fence = "" if closes(fence, line) else fence
        elif not line.strip():
            after_empty = True
            continue
        elif RULE.match(line) or line.startswith(("# ", "## ", "### ", "```", "~~~")):
            break
        elif ITEM.match(line):
            if not _leads_to(lines[item], line):
                units.append(number)
            item = number
        elif line[0] in " \t":
            opening = FENCE.match(line)
            fence = opening.group(1) if opening else ""
        elif after_empty:
            break
        last, after_empty = number + 1, False
    return last, lines.block(first, last, units) if len(units) > 1 else None


def _leads_to(item: str, below: str) -> bool:
    """Tell whether an item is the title of the list within it that begins in the line below."""
    indent = len(below) - len(below.lstrip())
    short = len(item.split()) <= TITLE_WORDS and item.rstrip()[-1:] not in ".!?;"
    return short and indent > len(item) - len(item.lstrip())


def closes(fence: str, line: str) -> bool:
    """Tell whether a line ends code that began with this fence."""
    bare = line.strip()
    return bare.startswith(fence) and not bare.strip(fence[0])


# Code


def fenced_code_at(lines: Lines, first: int) -> tuple[int, Block] | None:
    """Return the fenced code that begins in a line, with the number of the line after it.

    The fences stay with the code's first and last line.
    """
    opening = FENCE.match(lines[first])
    if opening is None:
        return None
    fence = opening.group(1)
    last = lines.while_(first + 1, lambda line: not closes(fence, line))
    units = _statements(lines, range(first + 1, last))
    last = min(last + 1, len(lines))
    return last, lines.block(first, last, (first, *units[1:]))


def indented_code_at(lines: Lines, first: int) -> tuple[int, Block] | None:
    """Return the indented code that begins in a line, with the number of the line after it."""
    last = lines.while_(first, lambda line: not line.strip() or line.startswith(("    ", "\t")))
    units = [number for number in range(first, last) if lines[number].strip()]
    if not units or units[0] != first:
        return None
    last = units[-1] + 1
    return last, lines.block(first, last, _statements(lines, range(first, last)))


def _statements(lines: Lines, numbers: Sequence[int], levels: int = 4) -> list[int]:
    """Return the lines of code at which a statement begins that is indented least.

    Of a statement of more than `STATEMENT_LINES` lines those within are returned, too: the methods
    of a class, the lines of a long function, to so many levels.
    """
    full = [number for number in numbers if lines[number].strip()]
    begins = [number for number in full[1:] if not CLOSING.match(lines[number].lstrip())]
    least = min(map(lines.indent, begins), default=0)
    starts = [number for number in begins if lines.indent(number) == least]
    if not starts or not levels or len(starts) == len(full) - 1:
        return full
    found = list[int]()
    for start, end in pairwise((*full[:1], *starts, numbers[-1] + 1)):
        long = end - start > STATEMENT_LINES and found
        found += _statements(lines, range(start, end), levels - 1) if long else [start]
    return found
