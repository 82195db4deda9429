"""Hold a question taken from a sentence, and check that it and its answer are whole."""

import re
from dataclasses import dataclass

from dalm.config.questions import Kind
from dalm.ingest.words import content_words, words

ENGLISH_END = re.compile(r"[.!?][\"”’)\]]*$")
ANY_END = re.compile(r"[.!?…。！？][\"”’»)\]」』）]*$")
"""How a sentence ends, in English and in any language."""
MOST_QUESTION, MOST_ANSWER = 25, 45  # words

_OPENING = re.compile(
    r"^(?:However|Moreover|Furthermore|In addition|Therefore|Thus|Hence|Also|Additionally|Finally|"
    r"Interestingly|Notably|In contrast|In particular|For example|For instance|Consequently|"
    r"Similarly|Indeed|In fact|Overall|Recently|Currently|Generally|Importantly|Specifically|"
    r"Nevertheless|Meanwhile|Accordingly|Subsequently|On the other hand|As a result),?\s+",
)
_CITATION = re.compile(r"\s*\[\s*\d[\d\s,;–-]*\]|\s*\([^()]*(?:\bet al\b|(?:19|20)\d\d)[^()]*\)")
_BRACKET = re.compile(r"\s*\((?:[^()]|\([^()]*\))*\)")
_ELSEWHERE = re.compile(
    r"\b(?:this|these|those|here|above|below|following|aforementioned|we|our|us|my|he|she|they|"
    r"et al|then|also|figs?|figures?|tables?|section|chapter|respectively|i\.e|e\.g|as follows|"
    r"such)\b"
    r"|[=|<>{}\\@†‡§]|https?:|_{3}",
    re.IGNORECASE,
)
"""What refers to a place outside the question, or is no prose."""
_DANGLING = re.compile(
    r"(?:^|\s)(?:of|in|on|at|by|with|from|to|and|or|but|the|a|an|for|as|that|which|than|is|are|was|"
    r"were|such|like|et|vs|not|its|their|our|al|Fig|e\.g|i\.e)$",
    re.IGNORECASE,
)
_THIS_STUDY = re.compile(
    r"\b(?:this|these|our) (?:study|paper|article|review|report|section|work|results?|findings?)\b",
    re.IGNORECASE,
)
_NO_ANSWER = re.compile(
    r"^please\b|\b(?:this|these|those)\b|^(?:\S+ ){1,3}(?:them|it)$|\bet al\b|https?:|[|{}\\†‡•]"
    r"|\.{3}|(?<!e\.g)(?<!i\.e)(?<!\betc)\. [a-z•]"
)
"""Notes and marks of a layout, or the end of one sentence and the beginning of another."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the words of the sentence that answer it; a lower rank is a better form."""

    text: str
    answer: str
    kind: Kind
    rank: int


def without_opening(text: str) -> str:
    """Return a sentence without a word that links it to the one before it."""
    return _OPENING.sub("", text)


def is_whole(sentence: str, end: re.Pattern[str]) -> bool:
    """Return whether a sentence has its beginning and end: a passage may be cut within one."""
    return not sentence[0].islower() and bool(end.search(sentence))


def tidy(text: str) -> str:
    """Return a text as a question may have it: no citations, no brackets, single blanks."""
    text = _BRACKET.sub("", _CITATION.sub("", text))
    return re.sub(r"\s+([,;?]|\.(?!\w))", r"\1", " ".join(text.split()))


def ask(*parts: str) -> str:
    """Return the parts as a question."""
    return f"{tidy(' '.join(filter(None, parts)))}".rstrip(" ,;.") + "?"


def is_sound(question: Question, sentence: str) -> bool:
    """Return whether question and answer are whole, and refer to nothing outside of them."""
    text, answer = question.text, question.answer
    if len(words(text)) > MOST_QUESTION or not 1 <= len(words(answer)) <= MOST_ANSWER:
        return False
    if answer not in sentence or _DANGLING.search(answer) or not content_words(answer):
        return False
    if re.search(r"[,;:?!…]|\.\s", text[:-1]) or _ELSEWHERE.search(text):
        return False
    if answer.count("\n") > 2 or "\n " in answer:  # not wrapped lines, but a table or code
        return False
    if _THIS_STUDY.search(answer) or _NO_ANSWER.search(answer):
        return False
    return _is_balanced(answer) and _is_balanced(text)


def _is_balanced(text: str) -> bool:
    pairs = (("(", ")"), ("[", "]"), ("“", "”"))
    return all(text.count(a) == text.count(b) for a, b in pairs) and text.count('"') % 2 == 0
