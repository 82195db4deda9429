"""Check that a query has the form of its type, and tell the type of an answer.

The types themselves are in `dalm.config.query_types`; every one has a check here.
"""

import re
from collections.abc import Callable, Mapping

from dalm.ingest.languages import FUNCTION_WORDS
from dalm.ingest.words import UNSPACED_CHARACTER, words

SHORT_ANSWER = 8  # words
KEYWORDS = 8  # words at most
TITLE = 20  # words at most
NEVER_COPIED = 3
"""Words beside names and numbers from which a query is said to copy its quote."""
UNANSWERABLE = "unanswerable"
"""The type of answer, and the word that a model puts for an answer that the passage lacks."""
BLANK = "____"

YES_OR_NO = frozenset(
    "yes no ja nein oui non sí si não sim ja nee 是 否 不 はい いいえ да нет".split()
)
_ASKING = re.compile(rf"[?？؟;]\s*$|{BLANK}")
_QUESTION_MARK = re.compile(r"[?？؟;]")
_NAME = re.compile(r"\d|.[^\W\d_a-zß-öø-ÿ]|[_/@#$<>=]")
"""A number, a short form, an identifier: a capital or a digit within a word."""


def _question(query: str) -> str | None:
    if not _ASKING.search(query):
        return "no question mark"
    return "a question of fewer than three words" if len(words(query)) < 3 else None


def _follow_up(query: str) -> str | None:
    if len(_QUESTION_MARK.findall(query)) < 2:
        return "a follow-up without the question before it"
    return _question(query)


def _length(query: str) -> int:
    """Return a query's length in words; in a script without blanks two letters are about one."""
    found = words(query)
    letters = sum(bool(UNSPACED_CHARACTER.match(word)) for word in found)
    return len(found) - letters // 2


def _keywords(query: str) -> str | None:
    found = words(query)
    if not 2 <= _length(query) <= KEYWORDS:
        return f"{_length(query)} keywords; there should be 2 to {KEYWORDS}"
    if _QUESTION_MARK.search(query) or query.endswith("."):
        return "a sentence, not keywords"
    glue = sum(word in FUNCTION_WORDS for word in found)
    return "a phrase, not keywords" if glue > len(found) / 3 else None


def _title(query: str) -> str | None:
    if not 2 <= _length(query) <= TITLE:
        return f"a title of {_length(query)} words; there should be 2 to {TITLE}"
    return "a sentence, not a title" if query.endswith(".") else None


def _statement(query: str) -> str | None:
    if _QUESTION_MARK.search(query):
        return "a question, not a claim"
    return "a claim of fewer than four words" if len(words(query)) < 4 else None


def _words(query: str) -> str | None:
    return "a query of fewer than three words" if len(words(query)) < 3 else None


FORMS: Mapping[str, Callable[[str], str | None]] = {
    "question": _question,
    "keywords": _keywords,
    "title": _title,
    "claim": _statement,
    "how-to": _words,
    "symptom": _words,
    "follow-up": _follow_up,
    "multi-passage": _question,
}
"""For each type of query what is wrong with the form of one, None if nothing is."""


def answer_type_of(answer: str) -> str:
    """Return the type of an answer, by its form: yes-no, list, short or long."""
    found = words(answer)
    if found and found[0] in YES_OR_NO:
        return "yes-no"
    if len([part for part in answer.split(";") if part.strip()]) > 1:
        return "list"
    return "short" if len(found) <= SHORT_ANSWER else "long"


def overlap(query: str, quote: str) -> float:
    """Return the fraction of a query's words that its quote holds, in any of their forms.

    Function words aren't counted, nor what has to stay: numbers, short forms, identifiers, and
    names, which are words with a capital within the query or the quote. 0 where that leaves fewer
    than three words, or for a language written without blanks.
    """
    kept = set(map(str.lower, re.findall(r"(?<=\S )[\W_]*([^\W\d_a-zß-öø-ÿ][\w-]*)", quote)))
    own = set[str]()
    for place, word in enumerate(query.split()):
        bare = word.strip(".,;:!?\"'“”()").removesuffix("'s")
        name = _NAME.search(bare) or (place and bare[:1].isupper()) or bare.lower() in kept
        if not name:
            own |= {stem(part) for part in words(bare) if part not in FUNCTION_WORDS}
    if len(own) < NEVER_COPIED:
        return 0.0
    return len(own & set(map(stem, words(quote)))) / len(own)


def stem(word: str) -> str:
    """Return what a word's forms share, in many languages: its first five letters."""
    return word if word.isdigit() else word[:5].rstrip("s")
