"""Find the words of a text.

Words are taken as they are written, to measure length, or normalised, to compare. In scripts
without spaces between words each character counts as a word.
"""

import re

from dalm.analyser import CJK, WORD
from dalm.ingest.languages import FUNCTION_WORDS

WORD_LENGTH = 100  # characters; a longer run counts as several words, so that it can be split

_CJK_CHARACTER = re.compile(rf"[{CJK}]")
_WRITTEN_WORD = re.compile(rf"\S{{1,{WORD_LENGTH}}}")
_WRITTEN_WORD_OR_CJK = re.compile(rf"[{CJK}]|[^\s{CJK}]{{1,{WORD_LENGTH}}}")


def word_spans(text: str, begin: int = 0) -> tuple[list[int], list[int]]:
    """Return the offsets at which words start and end: a run without spaces, or a CJK character."""
    spans = [match.span() for match in _pattern(text).finditer(text, begin)]
    return [start for start, _ in spans], [end for _, end in spans]


def split_words(text: str) -> list[str]:
    """Return the words as they are written: runs without spaces, and CJK characters."""
    return _pattern(text).findall(text)


def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern for a text; the one for CJK is several times slower."""
    has_cjk = not text.isascii() and _CJK_CHARACTER.search(text)
    return _WRITTEN_WORD_OR_CJK if has_cjk else _WRITTEN_WORD


def words(text: str) -> list[str]:
    """Return the words for comparison: runs of letters and digits, case folded.

    Thai, Lao, Burmese and Khmer are compared by the character, too.

    >>> words("Mother-to-child, 2.5 mg")
    ['mother', 'to', 'child', '2', '5', 'mg']
    """
    return WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """Return the normalised words without English function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]
