"""Find the sentences and paragraphs of a text."""

import re
from collections.abc import Iterator

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
