"""Spell the words of a PDF: ligatures, accents set apart, words broken at a line's end."""

import re
from collections.abc import Iterable
from unicodedata import normalize

from dalm.ingest.loaders.pdf_lines import Line

HYPHENS = "-\u2010\u00ad"
LAST_WORD = re.compile(r"\S+$")
FIRST_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
VOCABULARY_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
PREFIXES = frozenset(
    "ab ad after any auto back be co con counter de dis down en every ex extra fore hyper im in "
    "inter intra macro mega meta micro mid mini mis mono multi net non on out over para poly post "
    "pre pro pseudo re semi some sub super there trans tri ultra un under up where with".split()
)
CONJUNCTIONS = frozenset("and or und oder bzw bis sowie resp".split())
SHORT_CONJUNCTIONS = frozenset("to et ou en of y e o ed".split())
"""After a hyphen that stands for the rest of a word: "pre- and postoperative"."""
PAIR = re.compile(r"\w+ \w+-\w")  # "short-" and "to long-term"
REPLACED = str.maketrans(
    {
        "\u00ad": "",
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
    }
)
ACCENT = re.compile(r"([¨´ˆ˜ˇ˚])\s?([aeiouyıAEIOUYnNcCszSZ])")
COMBINING = dict(zip("¨´ˆ˜ˇ˚", "\u0308\u0301\u0302\u0303\u030c\u030a", strict=True))


LETTERS = {"´": "aeiouyAEIOUYı", "˜": "nNaoAO"}
"""The letters of accents that are also an apostrophe and the sign before a user's folder."""


def clean(text: str) -> str:
    """Return a text with plain letters for ligatures, letters with accents, and known signs."""
    text = text.translate(REPLACED)
    return text if text.isascii() else ACCENT.sub(_accented, text)


def _accented(match: re.Match[str]) -> str:
    """Return the letter that TeX's older fonts set as an accent before a letter."""
    accent, letter = match.groups()
    before = match.string[: match.start()][-1:]
    if letter not in LETTERS.get(accent, letter) or (accent == "˜" and not before.isalpha()):
        return match.group()
    composed = normalize("NFC", letter.replace("ı", "i") + COMBINING[accent])
    return composed if len(composed) == 1 else match.group()


class Hyphens:
    """Decide whether the hyphen of a word broken at a line's end belongs to the word."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = lines
        self._words: set[str] | None = None

    @property
    def words(self) -> set[str]:
        """Return the words of the document that are not broken; collected when first needed."""
        if self._words is None:
            self._words = set()
            for line in self._lines:
                found = VOCABULARY_WORD.findall(line.text)
                self._words.update(found[:-1] if ends_broken(line) else found)
        return self._words

    def between(self, left: str, right: str) -> str:
        """Return what is between the parts of a broken word: nothing, or a hyphen.

        A hyphen and a space stand before "and": "pre- and postoperative" is no broken word.
        """
        before, after = LAST_WORD.search(left), FIRST_WORD.match(right)
        if not before or not after:
            return "-"
        one, other = before.group().lstrip("([{\"'“‘«"), after.group()
        whole = one + other
        if any(each in self.words for each in (whole, whole.lower(), whole.capitalize())):
            return ""
        if self._is_suspended(one, other, right):
            return "- "
        if self._keeps_hyphen(one, other):
            return "-"
        last = one.rpartition("-")[2]
        both = other in self.words and (last in self.words or last.lower() in self.words)
        if both and len(last) > 2 and len(other) > 3 and last.lower() not in PREFIXES:
            return "-"
        return ""

    def _keeps_hyphen(self, one: str, other: str) -> bool:
        begin = other.partition("-")[0]
        if (len(one) == 1 or begin != other) and one + begin not in self.words:
            return True  # X-ray, state-of-the-art
        if re.search(r"[\d/@_.\\:]", one) or (other[0].isupper() and not one.isupper()):
            return True
        return f"{one}-{other}" in self.words or f"{one.lower()}-{other}" in self.words

    def _is_suspended(self, one: str, other: str, right: str) -> bool:
        """Tell whether a hyphen stands for what ends the word after the conjunction."""
        if other in SHORT_CONJUNCTIONS and one.isalpha() and len(one) > 1:
            known = one in self.words or one.lower() in self.words | PREFIXES
            return (known or PAIR.match(right) is not None) and one + other not in ("into", "onto")
        return other in CONJUNCTIONS or other in SHORT_CONJUNCTIONS


def ends_broken(line: Line) -> bool:
    """Tell whether a line's last word goes on in the next line."""
    text = line.text
    return line.hyphen or (len(text) > 1 and text[-1] in HYPHENS and not text[-2].isspace())
