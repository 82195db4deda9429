"""Where a text may be cut: words, and the ends of sentences and paragraphs."""

import re
from collections.abc import Iterator

# Scripts without blanks between words: each sign counts as a word.
SIGN = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
LONGEST_WORD = 100  # characters; what is longer counts as several words, so that it can be cut
SIGN_OR_WORD = re.compile(rf"[{SIGN}]|[^\s{SIGN}]{{1,{LONGEST_WORD}}}")
WORD = re.compile(rf"\S{{1,{LONGEST_WORD}}}")
SIGNS = re.compile(rf"[{SIGN}]")

PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")
SENTENCE_END = re.compile(
    r"""[.!?…]+["'”’»)\]]*\s+(?=["'“‘«‹(\[¿¡]*[^\W_a-z])"""
    r"""|[。！？]+[”’」』）]*"""
    r"""|\n\s*(?=(?:[-*•+–]|\d{1,3}[.)]|\(\w\))\s)"""  # an item of a list
)
ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“])(?:[A-Z]|Dr|Mr|Mrs|Ms|Prof|St|Jr|Sr|Hon|Rev|Gen|Col|Lt|Capt|Sgt|vs|cf|al|approx"
    r"|e\.g|i\.e|ca|viz|Fig|Figs|fig|figs|Eq|Eqs|eq|Ref|Refs|No|Nos|no|Vol|vol|pp|p|Sec|sec|Ch|ch"
    r"|Inc|Ltd|Co|Corp|Dept|Univ|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|U\.S|U\.K)\.\s*$"
)
LOOK_BACK = 12  # characters: the longest abbreviation with what stands around it


def words(text: str, begin: int = 0) -> tuple[list[int], list[int]]:
    """Return the offsets at which words start and end: a run without blanks, or one sign."""
    spans = [match.span() for match in _pattern(text).finditer(text, begin)]
    return [start for start, _ in spans], [end for _, end in spans]


def word_list(text: str) -> list[str]:
    """Return the words themselves."""
    return _pattern(text).findall(text)


def _pattern(text: str) -> re.Pattern[str]:
    """Return the pattern of a text's words; that for signs takes several times as long."""
    return SIGN_OR_WORD if not text.isascii() and SIGNS.search(text) else WORD


def paragraph_starts(text: str) -> Iterator[int]:
    """Yield the offsets after which a new paragraph begins: an empty line is between the two."""
    return (match.end() for match in PARAGRAPH_END.finditer(text))


def sentence_starts(text: str) -> Iterator[int]:
    """Yield the offsets at which a sentence begins, but for the first.

    A sentence ends in a full stop, exclamation or question mark before a blank and no lower-case
    letter; common English abbreviations and initials end none. An item of a list begins one.
    """
    for match in SENTENCE_END.finditer(text):
        start = match.start()
        single = text[start] == "." and not text.startswith("..", start)
        if single and ABBREVIATION.search(text[max(0, start - LOOK_BACK) : start + 1]):
            continue
        yield match.end()
