"""Split texts into the words by which they are searched and compared, in every script.

Text search (BM25, the words of an index) takes `terms`; questions and answers are compared word by
word with `WORD`. Both build on the same classes of characters.
"""

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise

ANALYSER = "terms-1"
"""Name of what `terms` does; an index keeps it. To be changed with every change of a term."""

LONGEST_TERM = 255
"""Characters of a term; a longer run, such as an encoded file, is cut."""

# Classes of characters, to be put into a pattern's brackets

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1950-\u19ff\u1a20-\u1aaf\u1b00-\u1b7f\ua980-\ua9ff"
    f"\uaa60-\uaadf\u3005-\u3007\u3100-\u312f\u31a0-\u31bf\u31f0-\u31ff{CJK}"
)
"""Scripts without blanks between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese and others."""
HANGUL = "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"
MARKS = "".join(
    character
    for character in map(chr, range(0x300, 0x1F000))
    if unicodedata.category(character) in ("Mn", "Mc")
)
"""Accents, vowel signs and tone marks, which Python's \\w lacks."""

CHARACTER = rf"[{UNSPACED}][{MARKS}]*"
"""A letter of a script without blanks, with its marks."""
WORD = re.compile(rf"(?=\w){CHARACTER}|[^\W_{UNSPACED}]+(?:[{MARKS}]+[^\W_{UNSPACED}]*)*")
"""A word for comparison: letters and digits, or a character of a script without blanks."""

# Terms of text search

_PAIRED = UNSPACED + HANGUL
_LETTERS = rf"[^\W_{_PAIRED}]+(?:[{MARKS}]+[^\W_{_PAIRED}]*)*"
_JOINT = r"(?:['_&@/.:-]|(?<=\d),(?=\d))"
_TERM = re.compile(
    rf"(?P<word>{_LETTERS}(?:{_JOINT}{_LETTERS})*(?:[+#]+(?!\w))?)"
    rf"|(?=\w)(?:[{_PAIRED}][{MARKS}]*)+"
)
_ASCII_TERM = re.compile(rf"(?P<word>[a-z0-9]+(?:{_JOINT}[a-z0-9]+)*(?:[+#]+(?!\w))?)")
_PART = re.compile(rf"\d+(?:[.,]\d+)+(?![^\W_]*\d)|{_LETTERS}")
_PAIRED_CHARACTER = re.compile(rf"(?=\w)[{_PAIRED}][{MARKS}]*")
_NUMBER = re.compile(r"(\d+(?:[.,]\d+)*)([^\W\d_]*)")
_THOUSANDS = re.compile(r"\d{1,3}([.,])\d{3}(?:\1\d{3})*")

_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0]"
)
"""What Unicode says to ignore in comparison (soft hyphens, joiners), and Arabic's tatweel."""
_OPTIONAL_MARKS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4"
    "\u06e7\u06e8\u06ea-\u06ed"
    "\u093c\u09bc\u0a3c]"
)
"""Accents, vowel points of Hebrew and Arabic, nuktas; not the vowel signs of Indic scripts."""
_SAME = str.maketrans("’ʼ＇`´‐‑–−", "'''''----")
_BARE = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe"})


def fold(text: str) -> str:
    """Return a text as it is compared: NFKC, case folded, without what Unicode says to ignore."""
    plain = text.casefold()
    if plain.isascii():
        return plain
    plain = _INVISIBLE.sub("", unicodedata.normalize("NFKC", plain)).casefold()
    return unicodedata.normalize("NFKC", plain).translate(_SAME)


def terms(text: str) -> list[str]:
    """Return the terms of a text for search by words; query and passage are split alike.

    - Characters that look the same are the same (NFKC, case folded); invisible ones don't count.
    - A word is a run of letters, digits and their marks. Letters and digits with one of
      `' _ & @ / . : -` between them count joined, too: `AB-1234` is ab, 1234 and ab1234, so that
      `AB1234` finds it. `C++` is c and c++.
    - A number keeps its decimals (`3.5`, also of `3,5`) and is parted from a unit (`5mm`).
    - A word with accents counts as it is and without: `cafe` finds `café`, `café` finds it first.
    - In scripts without blanks, and in Hangul, whose words carry endings, characters count each and
      in overlapping pairs, as in Lucene's CJKBigramFilter with unigrams.

    No stemming and no stop words, so that no language is preferred.
    """
    plain = fold(text)
    found = (_ASCII_TERM if plain.isascii() else _TERM).finditer(plain)
    return [term[:LONGEST_TERM] for match in found for term in _terms_of(match)]


def _terms_of(match: re.Match[str]) -> Iterator[str]:
    run = match[0]
    if match["word"] is None:
        characters = _PAIRED_CHARACTER.findall(run)
        yield from characters
        yield from map("".join, pairwise(characters))
    elif run.isascii() and run.isalpha():
        yield run
    else:
        yield from _joined(run)


def _joined(run: str) -> Iterator[str]:
    """Yield the terms of words that are joined without blanks, or of one that isn't plain."""
    parts = [_digits(part) for part in _PART.findall(run)]
    for part in parts:
        yield from _forms(part)
    for pair in pairwise(parts):  # of letters alone, as in MERS-CoV, they cost recall in trials
        joined = "".join(pair)
        if any(map(str.isdecimal, joined)) and any(map(str.isalpha, joined)):
            yield joined
    if run[-1] in "+#":
        yield parts[-1] + run[len(run.rstrip("+#")) :]


def _digits(word: str) -> str:
    """Return a word with its digits in ASCII, and a decimal point instead of a comma."""
    if not word.isascii():
        word = "".join(str(unicodedata.decimal(c, c)) for c in word)
    return word.replace(",", ".")


def _forms(word: str) -> Iterator[str]:
    """Yield a word, without its accents, without its unit, without a mark of thousands."""
    yield word
    if not word.isascii():
        bare = _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFD", word)).translate(_BARE)
        bare = unicodedata.normalize("NFC", bare)
        if bare != word:
            yield bare
    elif word[0].isdigit() and (number := _NUMBER.fullmatch(word)):
        if number[2]:
            yield from number.groups()
        if _THOUSANDS.fullmatch(number[1]):
            yield number[1].replace(".", "")
