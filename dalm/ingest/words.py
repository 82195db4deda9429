"""Find the words of a text.

Words are taken as they are written, to measure length, or normalised, to compare. In scripts
without blanks between words a character of Chinese and Japanese is a word; of Thai, Lao, Khmer and
Burmese four letters with their signs are one by length, and each is one when compared.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from dalm.analyser import CJK, MARKS, UNSPACED, WORD, fold
from dalm.ingest.languages import FUNCTION_WORDS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WORD_LENGTH = 100  # characters; a longer run counts as several words, so that it can be split
LONG_TEXT = 4_000  # characters from which numpy finds words faster than a regular expression

SYLLABLES = 4  # in a word of Thai, Lao, Khmer or Burmese, about

UNSPACED_CHARACTER = re.compile(rf"[{UNSPACED}]")
# A vowel that is written before its consonant, a consonant, its marks, consonants stacked below it
_SYLLABLE = (
    rf"[\u0e40-\u0e44\u0ec0-\u0ec4]*[{UNSPACED}][{MARKS}]*"
    rf"(?:(?<=[\u17d2\u1039])[{UNSPACED}][{MARKS}]*)*"
)
_ASCII_WORD = re.compile("[a-z0-9]+")  # of those in lower case
_WRITTEN_WORD = re.compile(rf"\S{{1,{WORD_LENGTH}}}")
_WRITTEN_WORD_OR_SIGN = re.compile(
    rf"[{CJK}][{MARKS}]*|(?:(?![{CJK}]){_SYLLABLE}){{1,{SYLLABLES}}}"
    rf"|[^\s{UNSPACED}]{{1,{WORD_LENGTH}}}"
)


def word_spans(text: str, begin: int = 0) -> tuple[list[int], list[int]]:
    """Return the offsets at which words start and end (see `split_words`)."""
    pattern = _pattern(text)
    if pattern is _WRITTEN_WORD and len(text) > LONG_TEXT:
        return _runs_without_spaces(text, begin)
    spans = [match.span() for match in pattern.finditer(text, begin)]
    return [start for start, _ in spans], [end for _, end in spans]


def _runs_without_spaces(text: str, begin: int) -> tuple[list[int], list[int]]:
    """Return what `_WRITTEN_WORD` finds, five times as fast."""
    import numpy as np

    codes = np.frombuffer(text[begin:].encode("utf-32-le", "surrogatepass"), np.uint32)
    edge = np.ones(len(codes) + 2, bool)
    _spaces().take(codes, mode="clip", out=edge[1:-1])
    bounds = np.flatnonzero(edge[1:] != edge[:-1]) + begin
    starts, ends = bounds[::2], bounds[1::2]
    long = np.flatnonzero(ends - starts > WORD_LENGTH)
    if len(long):
        cuts = [range(starts[i] + WORD_LENGTH, ends[i], WORD_LENGTH) for i in long]
        within = np.concatenate([np.asarray(each) for each in cuts])
        starts, ends = (np.sort(np.concatenate([each, within])) for each in (starts, ends))
    return starts.tolist(), ends.tolist()


@cache
def _spaces() -> "NDArray[np.bool_]":
    """Return which characters are white space; the last one stands for all that are above."""
    import numpy as np

    return np.array([chr(code).isspace() for code in range(0x3002)])


def split_words(text: str) -> list[str]:
    """Return the words as they are written: runs without blanks, CJK characters, Thai letters.

    No word begins with a vowel sign or tone mark of the letter before it.
    """
    return _pattern(text).findall(text)


def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern for a text; the one for such scripts is several times slower."""
    unspaced = not text.isascii() and UNSPACED_CHARACTER.search(text)
    return _WRITTEN_WORD_OR_SIGN if unspaced else _WRITTEN_WORD


def words(text: str) -> list[str]:
    """Return the words for comparison: runs of letters and digits, folded (`analyser.fold`).

    In scripts without blanks each letter with its signs is a word.

    >>> words("Mother-to-child, 2.5 mg")
    ['mother', 'to', 'child', '2', '5', 'mg']
    """
    plain = fold(text)
    return (_ASCII_WORD if plain.isascii() else WORD).findall(plain)


def content_words(text: str) -> list[str]:
    """Return the normalised words without English function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]
