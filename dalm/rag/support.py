"""Find the span of a passage that an answer takes from it word for word, where that is certain.

A wrong mark is worse than none. A statement of an answer (a sentence, a line of a list, or a short
answer as a whole) is certain only if all of this holds:

- its words and signs stand in the passage in the same order, once, and are bounded there by blanks,
  brackets, quotation marks or the end of a sentence: `5 mg` isn't in `1.5 mg`, `-5 mg` or `5 mg/l`;
- it has at least `FEWEST_WORDS` words, and two that mean something by themselves;
- it doesn't stand in a question; and if it is a part of a sentence only, it has three such words,
  for two may be no more than a name, and the language is one whose negations are known, with none
  in the rest of that sentence.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from dalm.analyser import CJK, WORD, fold
from dalm.ingest.languages import FUNCTION_WORDS_OF, language_of
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts
from dalm.ingest.words import content_words, words
from dalm.rag.citations import MARK

FEWEST_WORDS = 3
FEWEST_CONTENT_WORDS = 2
FEWEST_OF_A_PART = 3
"""Words that mean something, of a part of a sentence."""
MOST_CHARACTERS = 20_000
"""Characters of a passage and of an answer that are compared."""

_TOKEN = re.compile(rf"{WORD.pattern}|\S")
_LIST_MARK = re.compile(r"^\s*(?:[-*•–]|\d{1,3}[.)])\s+")
_OPENING, _CLOSING = "([{\"'“„«‹‘", ")]}\"'”“»›’"
_ENDING = ".,;:!?…。！？；，、："
_NEGATIONS = {
    "English": """not no never none nor neither nobody nothing nowhere without unless except cannot
        hardly rarely seldom false wrong incorrect untrue avoid instead rather than fails don can
        than t won isn aren wasn weren doesn didn hasn haven hadn couldn shouldn wouldn mustn""",
    "German": """nicht nie niemals kein keine keinen keinem keiner keines ohne weder noch niemand
        nichts außer falsch kaum statt anstatt""",
    "French": """ne n pas jamais aucun aucune sans ni rien personne sauf faux plutôt""",
    "Spanish": """no nunca jamás ningún ninguno ninguna sin ni nada nadie salvo excepto falso""",
    "Italian": """non mai nessun nessuno nessuna senza né niente nulla tranne eccetto falso""",
    "Portuguese": """não nunca jamais nenhum nenhuma sem nem nada ninguém exceto salvo falso""",
    "Dutch": """niet nooit geen zonder noch niemand niets behalve tenzij onjuist""",
}
"""Words that may turn a sentence's meaning around, by the language."""


class Span(NamedTuple):
    """Characters of a passage's text, from `start` on and before `end`."""

    start: int
    end: int


class _Token(NamedTuple):
    text: str
    start: int
    end: int


def support_of(answer: str, passage: str) -> list[Span]:
    """Return the spans of a passage that an answer certainly takes from it, in order, joined."""
    if max(len(answer), len(passage)) > MOST_CHARACTERS or not answer.strip():
        return []
    tokens = _tokens(passage)
    found = {span for each in _statements(answer) if (span := _certain(each, passage, tokens))}
    joined: list[Span] = []
    for span in sorted(found):
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    # Beyond the first 65,536 characters of Unicode, browsers count another number of them.
    last = joined[-1].end if joined else 0
    return [] if any(ord(each) > 0xFFFF for each in passage[:last]) else joined


def _statements(answer: str) -> Iterator[list[str]]:
    """Yield what is looked for, as tokens: each sentence, and each line."""
    lines = [_LIST_MARK.sub("", line) for line in MARK.sub("", answer).splitlines()]
    texts = (text for line in lines for text in (line, *_sentences_in(line)))
    for text in dict.fromkeys(texts):
        found = words(text)
        if len(found) < FEWEST_WORDS * (1 + all(re.match(f"[{CJK}]", word) for word in found)):
            continue
        if len(set(content_words(text))) < FEWEST_CONTENT_WORDS:
            continue
        statement = [token.text for token in _tokens(text)]
        while statement[-1] in _ENDING:
            statement.pop()
        yield statement


def _sentences_in(text: str) -> Iterator[str]:
    for start, end in _sentence_spans(text):
        yield text[start:end].strip()


@lru_cache(maxsize=256)
def _sentence_spans(text: str) -> tuple[tuple[int, int], ...]:
    starts = sorted({0, *sentence_starts(text), *paragraph_starts(text)})
    return tuple(pairwise([*starts, len(text)]))


@lru_cache(maxsize=256)
def _tokens(text: str) -> tuple[_Token, ...]:
    """Return words and single signs, folded as for search, with their places."""
    found = (_Token(_folded(m[0]), *m.span()) for m in _TOKEN.finditer(text))
    return tuple(token for token in found if token.text)


def _folded(token: str) -> str:
    """Return a token as it is compared; raised and lowered digits and fractions stay themselves."""
    if any(unicodedata.decomposition(c).startswith(("<super>", "<sub>", "<frac")) for c in token):
        return token
    return fold(token)


def _certain(statement: list[str], passage: str, tokens: tuple[_Token, ...]) -> Span | None:
    """Return where a statement stands; None if that isn't certain."""
    length = len(statement)
    places = [
        place
        for place in range(len(tokens) - length + 1)
        if tokens[place].text == statement[0]
        and [token.text for token in tokens[place : place + length]] == statement
    ]
    if len(places) != 1:
        return None
    span = Span(tokens[places[0]].start, tokens[places[0] + length - 1].end)
    whole = _is_bounded(passage, span) and _stands_for_itself(passage, span)
    return span if whole else None


def _is_bounded(passage: str, span: Span) -> bool:
    """Return whether nothing that is joined to a span, such as a sign or a unit, is cut off."""
    before = passage[: span.start].rstrip(_OPENING)
    after = passage[span.end :].lstrip(_CLOSING)
    bare = after.lstrip(_ENDING + _CLOSING)
    begins = not before or before[-1].isspace() or _is_unspaced(before[-1])
    ends = not bare or bare[0].isspace() or _is_unspaced(passage[span.end - 1])
    return begins and ends and not _is_signed(before) and not _is_part_of_a_number(passage, span)


def _is_part_of_a_number(passage: str, span: Span) -> bool:
    """Return whether digits stand on both sides of an end, as in `1 500` of which 500 is taken."""
    sides = (
        (passage[: span.start].rstrip()[-1:], passage[span.start]),
        (passage[span.end - 1], passage[span.end :].lstrip()[:1]),
    )
    return any(left.isdigit() and right.isdigit() for left, right in sides)


def _is_unspaced(character: str) -> bool:
    return bool(re.match(f"[{CJK}。！？；，、：]", character))


def _is_signed(before: str) -> bool:
    """Return whether a sign with a blank after it stands before: `− 5 °C`, `< 5 mg`."""
    last = before.rstrip()[-1:]
    return last in "-−–±~<>≤≥=≠¬/*×$€£" and bool(last)


def _stands_for_itself(passage: str, span: Span) -> bool:
    """Return whether the sentence around a span says what the span says."""
    around = [s for s in _sentence_spans(passage) if s[0] < span.end and s[1] > span.start]
    start, end = around[0][0], around[-1][1]
    sentence = passage[start:end].rstrip()
    if sentence.rstrip(_CLOSING).endswith(("?", "？", "؟")):
        return False
    outside = f"{passage[start : span.start]} {passage[span.end : end]}"
    if not WORD.search(outside):
        return True
    language = language_of(passage)
    if language not in _NEGATIONS:
        return False
    own = set(words(passage[span.start : span.end])) - FUNCTION_WORDS_OF[language]
    negations = frozenset(_NEGATIONS[language].split())
    return len(own) >= FEWEST_OF_A_PART and negations.isdisjoint(words(outside))
