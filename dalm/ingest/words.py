"""Find the words of a text.

Words are taken as they are written, to measure length, or normalised, to compare. In scripts
without blanks between words a character of Chinese and Japanese is a word; of Thai, Lao, Khmer and
Burmese four letters with their signs are one by length, and each is one when compared.
"""

import re

from dalm.analyser import CJK, MARKS, UNSPACED, WORD, fold
from dalm.ingest.languages import FUNCTION_WORDS

WORD_LENGTH = 100  # characters; a longer run counts as several words, so that it can be split

SYLLABLES = 4  # in a word of Thai, Lao, Khmer or Burmese, about

_UNSPACED_CHARACTER = re.compile(rf"[{UNSPACED}]")
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
    spans = [match.span() for match in _pattern(text).finditer(text, begin)]
    return [start for start, _ in spans], [end for _, end in spans]


def split_words(text: str) -> list[str]:
    """Return the words as they are written: runs without blanks, CJK characters, Thai letters.

    No word begins with a vowel sign or tone mark of the letter before it.
    """
    return _pattern(text).findall(text)


def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern for a text; the one for such scripts is several times slower."""
    unspaced = not text.isascii() and _UNSPACED_CHARACTER.search(text)
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
