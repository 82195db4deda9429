"""Filter out bad and repeated questions, by the cheapest test first."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import ceil

from dalm.ingest.distinguishing_words import distinguishing_words
from dalm.ingest.words import content_words, words
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.query_checks import FORMS, YES_OR_NO, stem

SUPPORT = 0.6
"""Fraction of an answer's words that its quotes must hold; numbers must all be there."""
SAME_QUERY = 0.8
"""Jaccard similarity |A ∩ B| / |A ∪ B| of two questions' words from which one repeats the other."""
MAX_QUERY, MAX_ANSWER = 400, 1_500  # characters
READABLE, ASKED_FOR = "answer readable", "no more than asked for"
"""Names of the filters of a model's reply as a whole."""

_MENTION = re.compile(
    r"\b(?:according to|based on|as (?:stated|mentioned|described|given|shown|discussed) in|"
    r"(?:stated|mentioned|described|given|discussed|listed|used) (?:in|by))\s+"
    r"(?:the|this|these|that|our)\s+(?:\w+\s+)?"
    r"(?:passage|text|article|document|context|excerpt|paragraph|section|authors?|paper|study|"
    r"report|information|table|figure)s?\b"
    r"|\b(?:the|this|that)\s+(?:given\s+|provided\s+|above\s+|following\s+)?"
    r"(?:passage|text|excerpt|paragraph|authors?)\b"
    r"|\b(?:laut|gemäß)\s+(?:dem\s+)?(?:text|abschnitt|artikel)\b"
    r"|\bselon\s+(?:le|ce|l['’])\s*(?:texte|passage|article)\b"
    r"|\bsegún\s+(?:el|este)\s+(?:texto|pasaje|artículo)\b",
    re.IGNORECASE,
)
_CONTEXT_REFERENCE = re.compile(
    r"\b(?:th(?:is|ese|ose)|such|our|the (?:present|current|above|following|former|latter|same|"
    r"other|second|first)) (?:\w+ )?(?:study|studies|paper|work|article|review|report|research|"
    r"case|cases|method|methods|results?|findings?|data|section|approach|group|groups|patients?|"
    r"experiments?|analysis|model|example|effect|finding|question|ones?)\b"
    r"|\bthose\b(?! (?:\w+ )?(?:with|without|who|whose|of|that|which|in|at|on|from|where)\b)"
    r"|\b(?:these|thereof|herein|hereby|aforementioned)\b|\babove\b(?! \d)"
    r"|\b(?:figure|fig\.|table|section|appendix|chapter) (?:\d|(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
"""What refers to a context that a question's reader hasn't seen: this study, above, table 2."""
_NO_ANSWER = re.compile(
    r"\b(?:not (?:mentioned|stated|specified|given|provided|known|clear)|no information|"
    r"cannot be (?:determined|answered)|unanswerable|"
    r"(?:does|did) not (?:say|mention|specify|state))\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:[Ii]t|[Tt]hey|[Tt]hem|[Hh]e|[Hh]im|[Ss]he|[Ww]e|us|[Oo]ur|[Tt]his)\b")
_CHOICE = re.compile(r"\b(?:or|oder|ou|o|oppure|of)\b|或|还是", re.IGNORECASE)
_CITATION = re.compile(r"\[\s*\d[\d\s,;–-]*\]|(?<=\w )\(\s*\d{1,3}(?:[\s,;–-]+\d{1,3})*\s*\)")
_EMPTY_IT = re.compile(
    r"\bit(?= (?:that|takes?|is|means?)\b|(?: [\w-]+){1,2} (?:for|to|that|when)\b)"
)


def apply_filters(pairs: Iterable[Pair], rejections: list[Rejection]) -> list[Pair]:
    """Return the pairs that pass every filter; the others are added to `rejections`.

    An unanswerable query has no answer and no quote to test.
    """
    passed = []
    for pair in pairs:
        for name, test in PAIR_FILTERS.items():
            if not pair.answerable and name in OF_ANSWERS:
                continue
            result = test(pair)
            if isinstance(result, str):
                rejections.append(rejected(name, result, pair))
                break
            pair = result  # noqa: PLW2901
        else:
            passed.append(pair)
    return passed


def rejected(name: str, reason: str, pair: Pair) -> Rejection:
    """Return the record of a pair that a filter rejected."""
    return Rejection(name, reason, pair.passage, pair.query, pair.answer, pair.quote, pair)


def _shape(pair: Pair) -> Pair | str:
    """A query in the form of its type, and an answer that is one, both of a sensible length."""
    fault = FORMS[pair.query_type](pair.query)
    if fault is None and len(pair.query) > MAX_QUERY:
        fault = f"a query of more than {MAX_QUERY} characters"
    return fault or (_answer_fault(pair) if pair.answerable else None) or pair


def _answer_fault(pair: Pair) -> str | None:
    if not words(pair.answer):
        return "an answer without a word"
    if len(pair.answer) > MAX_ANSWER:
        return f"an answer of more than {MAX_ANSWER} characters"
    if _NO_ANSWER.search(pair.answer) and not _NO_ANSWER.search(pair.passage.text):
        return "an answer that is none"
    return "an answer that only repeats the query" if _repeats_query(pair) else None


def _repeats_query(pair: Pair) -> bool:
    """Return whether an answer of several words has none but the query's; a choice may have."""
    own = {stem(word) for word in content_words(pair.answer)}
    known = {stem(word) for word in content_words(pair.query)}
    several = sum(not word.isdigit() for word in own) > 1
    return several and own <= known and not _CHOICE.search(pair.query)


def _no_mention(pair: Pair) -> Pair | str:
    """Nobody who searches speaks of "the passage"."""
    found = _MENTION.search(pair.query)
    return f"says {found[0]!r}" if found else pair


def _quoted(pair: Pair) -> Pair | str:
    """The quote is in the passage; white space, case and kinds of quotation marks may differ."""
    span = find_quote(pair.quote, pair.passage.text)
    if span is None:
        return "no quote" if not pair.quote else "the quote isn't in the passage"
    other_quote = pair.other_quote
    if pair.other is not None:
        second = find_quote(other_quote, pair.other.text)
        if second is None:
            return "the second quote isn't in the second passage"
        other_quote = pair.other.text[slice(*second)]
    quote = pair.passage.text[slice(*span)]
    return replace(pair, quote=quote, start=span[0], end=span[1], other_quote=other_quote)


def _supported(pair: Pair) -> Pair | str:
    """The answer's words are in the quote; yes and no need not be."""
    wanted = content_words(pair.answer) or words(pair.answer)
    held = set(map(stem, words(f"{pair.quote} {pair.other_quote}")))
    missing = [word for word in wanted if stem(word) not in held]
    numbers = [word for word in missing if any(map(str.isdigit, word))]
    if numbers:
        return f"{numbers[0]} isn't in the quote"
    if not re.search(r"[^\W\d_]", pair.answer):
        cited = _CITATION.sub(" ", f"{pair.quote} {pair.other_quote}")
        if not set(wanted) & set(words(cited)):
            return "it is the number of a reference"
    if words(pair.answer)[0] in YES_OR_NO or len(missing) <= (1 - SUPPORT) * len(wanted):
        return pair
    return f"{len(missing)} of the answer's {len(wanted)} words are not in the quote"


def _self_contained(pair: Pair) -> Pair | str:
    """The question names what it asks about."""
    if found := _CONTEXT_REFERENCE.search(pair.query):
        return f"points to {found[0]!r}"
    named = content_words(pair.query)
    if sum(map(len, named)) < 6 and not re.search(r"\w[A-Z]|\d", pair.query):
        return "names too little"
    plain = _EMPTY_IT.sub(" ", pair.query)
    first = _PRONOUN.search(plain)
    if first and len(content_words(plain[: first.start()])) < 2:
        return f"{first[0]!r} stands for nothing named"
    return pair


PAIR_FILTERS: dict[str, Callable[[Pair], Pair | str]] = {
    "shape": _shape,
    "no mention of the passage": _no_mention,
    "quote in the passage": _quoted,
    "answer in the quote": _supported,
    "question stands alone": _self_contained,
}
"""Tests by name, which return the pair, perhaps amended, or the reason why it is rejected."""
OF_ANSWERS = ("quote in the passage", "answer in the quote")
"""Those that test the answer and its quote."""


def repeated(queries: Sequence[str]) -> list[int | None]:
    """Return for each question the index of the first one that it repeats, or None.

    Questions that differ in a number, a code or a name (`distinguishing_words`) are no repetition.
    A question that is repeated repeats no other one itself. Exact, without comparing all pairs:
    two sets of similarity t share a word among the first ⌊(1 - t)·n⌋ + 1 of either's n words,
    the rarest first (prefix filtering: Chaudhuri et al., 2006).
    """
    sets = [frozenset(words(query)) for query in queries]
    marks = [frozenset(distinguishing_words(query)) for query in queries]
    counts = Counter(word for each in sets for word in each)
    kept: defaultdict[str, list[int]] = defaultdict(list)
    found: list[int | None] = []
    for place, each in enumerate(sets):
        rarest = sorted(each, key=lambda word: (counts[word], word))
        first = rarest[: len(rarest) - ceil(SAME_QUERY * len(rarest)) + 1]
        rivals = {rival for word in first for rival in kept[word]}
        mine, same = marks[place], None
        for rival in sorted(rivals):
            other, others = sets[rival], marks[rival]
            if _is_repetition(each, other) and mine - others <= other and others - mine <= each:
                same = rival
                break
        found.append(same)
        if same is None:
            for word in first:
                kept[word].append(place)
    return found


def _is_repetition(one: frozenset[str], other: frozenset[str]) -> bool:
    shared = len(one & other)
    return shared >= SAME_QUERY * (len(one) + len(other) - shared)


def find_quote(quote: str, text: str) -> tuple[int, int] | None:
    """Return a quote's span in a text, or None.

    Verbatim if possible; else with any white space, case, dashes and quotation marks.
    """
    bare = quote.strip().strip("\"'“”‘’«»").strip()
    if not bare:
        return None
    if (start := text.find(bare)) >= 0:
        return start, start + len(bare)
    pattern = r"\s+".join(map(_loosely, bare.rstrip(".…").split()))
    found = re.search(pattern, text, re.IGNORECASE) if pattern else None
    return found.span() if found else None


def _loosely(word: str) -> str:
    escaped = re.escape(word)
    escaped = re.sub(r"[\"“”„«»]", '["“”„«»]', escaped)
    escaped = re.sub(r"['‘’`]", "['‘’`]", escaped)
    return re.sub(r"\\-|[–—‐‑]", "[-–—‐‑]", escaped)
