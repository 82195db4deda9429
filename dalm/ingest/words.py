"""Find words, sentences and paragraphs in a text.

Words are taken as they are written, to measure length, or normalised, to compare. In scripts
without spaces between words each character counts as a word.
"""

import re
from collections.abc import Iterator

from dalm.analyser import CJK, WORD

WORD_LENGTH = 100  # characters; a longer run counts as several words, so that it can be split

_CJK_CHARACTER = re.compile(rf"[{CJK}]")
_WRITTEN_WORD = re.compile(rf"\S{{1,{WORD_LENGTH}}}")
_WRITTEN_WORD_OR_CJK = re.compile(rf"[{CJK}]|[^\s{CJK}]{{1,{WORD_LENGTH}}}")

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those such some any each every both all no not nor neither either other
    another same own and or but if then than so as of in on at by for from to into onto with without
    within about over under between among through during before after since until against per via
    is are was were be been being am has have had having do does did done doing can could may might
    must shall should will would it its itself he him his she her hers they them their theirs we us
    our ours you your yours i me my mine one ones there here what which who whom whose when where
    why how many much more most less least very too also only just often usually s t
    """.split()
)


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


# Sentences and paragraphs

PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
SENTENCE_END = re.compile(
    r"""[.!?…]+["'”’»)\]]*\s+(?=["'“‘«‹(\[¿¡]*[^\W_a-z])"""
    r"""|[。！？]+[”’」』）]*"""
    r"""|\n\s*(?=(?:[-*•+–]|\d{1,3}[.)]|\(\w\))\s)"""  # a list item
)
ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“])(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Hon|Rev|Gen|Col|Lt|Capt|Sgt|vs|cf|al|approx"
    r"|e\.g|i\.e|ca|viz|Fig|Figs|fig|figs|Eq|Eqs|eq|Ref|Refs|No|Nos|no|Vol|vol|pp|p|Sec|sec|Ch|ch"
    r"|Inc|Ltd|Co|Corp|Dept|Univ|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|U\.S|U\.K)\.\s*$"
)
ABBREVIATION_LENGTH = 12  # characters: the longest abbreviation with what surrounds it


def paragraph_starts(text: str) -> Iterator[int]:
    """Yield the offsets at which a paragraph begins, except the first; empty lines separate."""
    return (match.end() for match in PARAGRAPH_END.finditer(text))


def sentence_starts(text: str) -> Iterator[int]:
    """Yield the offsets at which a sentence begins, except the first.

    A sentence ends in a full stop, exclamation or question mark followed by white space and no
    lower-case letter, but not after a common English abbreviation or an initial. A list item
    begins a sentence.
    """
    for match in SENTENCE_END.finditer(text):
        start = match.start()
        full_stop = text[start] == "." and not text.startswith("..", start)
        before = text[max(0, start - ABBREVIATION_LENGTH) : start + 1]
        if full_stop and ABBREVIATION.search(before):
            continue
        yield match.end()
