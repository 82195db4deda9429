"""Tell which pages of a PDF have no text, or text that can't be read, and say so."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dalm.ingest.loaders.pdf_lines import Line

OCR = "OCR them first, for example with ocrmypdf"
NO_TEXT = f"no text; {OCR}"
GARBLED = f"garbled text, for its fonts have no map to Unicode; {OCR} --force-ocr"
UNMAPPED = "characters without a code in Unicode are left out, such as signs of formulas"
RANGES = 12  # of pages that a reason names

GARBLED_SHARE = 0.3  # of a page's characters have no code in Unicode: the page can't be read
FEW, FEW_SHARE = 5, 0.005  # characters without a code that are left out in silence
SAMPLED = 200  # characters of a page that are asked for a code
LITTLE_TEXT = 30  # letters beside a picture that fills the page
PICTURE_SHARE = 0.7  # of a page's area
DRAWN = 30  # paths on a page without text: more than the rules of an empty form

SUSPICIOUS = re.compile("[\x01\x03-\x08\x0e-\x1f\x7f-\x9f\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]")
BULLETS = re.compile(rf"(?:^|\n){SUSPICIOUS.pattern}[ \t]")
LONG_WORD = re.compile("[a-z\u0370-\u052f\u0300-\u036f]{5,}")
LEADERS = frozenset(".-_·=*#/|•…")
VOWELS = frozenset("aeiouyаеёиоуыэюяєіїαεηιουω")
LEAST_LETTERS = 200
MANY_VOWELS = 0.2  # of all characters: the text needs no closer look
LEAST_VOWELS, FEW_VOWELS = 0.1, 0.27  # of the letters; languages have 0.33 to 0.5


@dataclass(slots=True)
class Page:
    """A page's lines in reading order, and what could not be read of it."""

    number: int
    lines: list[Line] = field(default_factory=list)
    unmapped: int = 0
    """Characters that have no code in Unicode."""
    garbled: bool = False
    broken: str = ""
    """Why it could not be read at all."""
    picture: float = 0.0
    """The share of the page that its largest picture covers; known of pages with little text."""
    drawn: int = 0
    """Its paths; known of pages with little text."""


# Garbled text


def count_unmapped(text: str) -> int:
    """Return how many of a page's characters have no code, bullets at a line's start left out."""
    return len(SUSPICIOUS.findall(text)) - len(BULLETS.findall(text))


def is_garbled(text: str, text_page: Any) -> bool:
    """Tell whether a page's text is not what it shows, for want of a map from fonts to Unicode.

    A font without a map may have letters as codes all the same: its text tells.
    """
    import pypdfium2.raw as pdfium

    unmapped = count_unmapped(text)
    if unmapped > GARBLED_SHARE * len(text) or is_implausible(text):
        return True
    sample = range(0, len(text), max(1, len(text) // SAMPLED))
    failed = sum(pdfium.FPDFText_HasUnicodeMapError(text_page.raw, i) == 1 for i in sample)
    if failed <= GARBLED_SHARE * len(sample):
        return False
    return unmapped > FEW_SHARE * len(text) or is_implausible(text, FEW_VOWELS)


def is_implausible(text: str, least_vowels: float = LEAST_VOWELS) -> bool:
    """Tell whether a text is that of fonts whose codes are no letters: no language looks so.

    It is made of signs, or has no vowels.
    """
    if len(text) < LEAST_LETTERS or sum(map(text.count, "aeiou")) > MANY_VOWELS * len(text):
        return False
    plain = unicodedata.normalize("NFD", text.casefold())
    signs = [each for each in plain if not each.isspace() and not unicodedata.combining(each)]
    alphabetic = sum(map(str.isalpha, signs))
    others = sum(not each.isalnum() and each not in LEADERS for each in signs)
    if 2 * others > len(signs) and 10 * alphabetic < 3 * len(signs):
        return True
    letters = "".join(LONG_WORD.findall(plain))  # codes and units have no vowels, either
    if len(letters) < LEAST_LETTERS or 2 * len(letters) < len(signs):
        return False
    return sum(each in VOWELS for each in letters) < least_vowels * len(letters)


# What is not in the text


def unread_reasons(pages: Sequence[Page], lines: Sequence[Sequence[Line]]) -> tuple[str, ...]:
    """Return which pages are not in the text, and why; `lines` are those without running heads."""
    found: dict[str, list[int]] = defaultdict(list)
    unmapped = 0
    for page, rest in zip(pages, lines, strict=True):
        letters = sum(len(line.text) for line in rest)
        if page.broken:
            found[f"damaged ({page.broken}); save the file again"].append(page.number)
        elif page.garbled:
            found[GARBLED].append(page.number)
        elif not letters and (page.picture or page.drawn > DRAWN):
            found[NO_TEXT].append(page.number)
        elif letters < LITTLE_TEXT and page.picture > PICTURE_SHARE:
            found[f"a picture with hardly any text; {OCR}"].append(page.number)
        elif page.unmapped >= FEW and page.unmapped > FEW_SHARE * letters:
            found[UNMAPPED].append(page.number)
            unmapped += page.unmapped
    return tuple(
        f"{page_ranges(numbers)}: {f'{unmapped:,} ' if reason == UNMAPPED else ''}{reason}"
        for reason, numbers in found.items()
    )


def page_ranges(numbers: Iterable[int]) -> str:
    """Return page numbers, which count from 0, as people write them: `pages 2-4, 7`."""
    ranges = [f"{a + 1}" if a == b else f"{a + 1}-{b + 1}" for a, b in _ranges(numbers)]
    more = f" and {len(ranges) - RANGES} other ranges" if len(ranges) > RANGES else ""
    shown = ", ".join(ranges[:RANGES])
    return f"{'page' if shown.isdigit() else 'pages'} {shown}{more}"


def _ranges(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = -2
    for number in sorted(numbers):
        if number != last + 1:
            if last >= 0:
                yield first, last
            first = number
        last = number
    yield first, last
