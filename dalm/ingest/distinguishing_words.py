"""Find the numbers, codes and names by which texts differ that are otherwise alike."""

import re
from itertools import chain

from dalm.analyser import UNSPACED
from dalm.ingest.languages import FUNCTION_WORDS_OF
from dalm.ingest.words import UNSPACED_CHARACTER, words

_CASELESS = re.compile(
    "[\u0590-\u1c7f\u2e80-\ua63f\ua8e0-\ud7ff\uf900-\ufdff\ufe70-\ufefe\uff66-\uffdc]"
)
"""A letter of a script without capitals; Georgian counts as one."""
_DIGIT = re.compile(r"\d")
_FIGURE = re.compile(rf"[^{UNSPACED}，。；：！？、（）「」]*\d[^{UNSPACED}，。；：！？、（）「」]*")
"""A word with a digit; in a script without blanks the digits and what stands beside them."""
_PUNCTUATION = ".,;:!?…()[]{}\"'“”„‘’«»‹›*_`|·•"
_FUNCTION_WORDS = frozenset(chain.from_iterable(FUNCTION_WORDS_OF.values()))
_WEIGHTY = frozenset(
    """
    two three four five six seven eight nine ten eleven twelve twenty thirty hundred thousand half
    zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig hundert tausend halb
    deux trois quatre cinq sept huit neuf dix douze vingt cent mille demi dos tres cuatro cinco seis
    siete ocho nueve diez doce veinte cien mil medio due tre quattro cinque sei sette otto nove
    dieci dodici venti cento mille mezzo twee drie vier vijf zes zeven acht negen tien
    not never no none without cannot nicht nie kein keine keinen ohne pas jamais sans nunca sin
    non mai senza não nunca sem niet nooit geen zonder
    """.split()
)
"""Numbers written out, and what turns a statement into its opposite."""


CACHED = 1 << 18  # words whose marks are kept; few are new in a long text


class _Cache(dict[str, tuple[str, ...]]):
    """The marks of written words: their figures, or a blank and the name that they may be."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        bare = word.strip(_PUNCTUATION)
        marks: tuple[str, ...] = ()
        if not bare.isalpha() and _DIGIT.search(bare):
            marks = tuple(_FIGURE.findall(bare.casefold()))
        elif bare != bare.lower() and bare.casefold() not in _FUNCTION_WORDS:
            marks = (" ", bare.casefold())
        if len(self) >= CACHED:
            self.clear()
        self[word] = marks
        return marks


_marks_of = _Cache().__getitem__


def compared_words(text: str, written: list[str] | None = None) -> list[str]:
    """Return the words by which passages are compared: as written, or single unspaced letters.

    `written` is the text, split at white space, if that is known.
    """
    written = text.split() if written is None else written
    if text.isascii() or not UNSPACED_CHARACTER.search(text):
        return written
    parts = (words(word) if UNSPACED_CHARACTER.search(word) else [word] for word in written)
    return list(chain.from_iterable(parts))


def marked_words(text: str) -> list[bool]:
    """Return which of a text's `compared_words` are numbers, codes or names, or may be.

    In a text with letters of a script without capitals they all may.
    """
    written = compared_words(text)
    if not text.isascii() and _CASELESS.search(text):
        return [True] * len(written)
    known = set(written)
    return [
        word in _WEIGHTY or bool(marks and not (marks[0] == " " and marks[1] in known))
        for word, marks in zip(written, map(_marks_of, written), strict=True)
    ]


def distinguishing_words(text: str, written: list[str] | None = None) -> tuple[str, ...]:
    """Return a text's names, codes and number words, sorted, and its figures in their order.

    Two texts with other ones speak of other things, however alike they are. A name is a word with
    a capital letter, wherever it stands, unless it is a function word or stands in lower case,
    too. In a script without capitals every word may be a name. `written` is the text, split at
    white space, if that is known.
    """
    written = text.split() if written is None else written
    found = _WEIGHTY.intersection(written)
    figures: list[str] = []
    names = set[str]()
    for marks in filter(None, map(_marks_of, written)):
        if marks[0] == " ":
            names.add(marks[1])
        else:
            figures += marks
    found |= names.difference(written)
    if not text.isascii() and _CASELESS.search(text):
        found |= {word for word in words(text) if _CASELESS.match(word)}
    return (*sorted(found), *figures)
