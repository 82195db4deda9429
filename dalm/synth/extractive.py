"""Extract queries and answers from passages by rules: a start without a model.

The sentences of an English passage are turned into questions where their form allows it for
certain. A sentence of another language with a marked span in it (a number with its unit, a name, a
term in quotation marks) becomes a gap question. Keywords and titles are taken from passages of any
language that is written with blanks. All of them hold the passage's own words, which a search for
words finds easily. Everything is deterministic.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from dalm.ingest.languages import (
    ENGLISH,
    FUNCTION_WORDS_OF,
    UNKNOWN,
    language_of,
)
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts
from dalm.ingest.words import content_words, words
from dalm.records import Passage
from dalm.synth.keywords import KeywordPicker
from dalm.synth.pairs import Pair
from dalm.synth.query_checks import BLANK, answer_type_of
from dalm.synth.query_mix import Slot
from dalm.synth.question_forms import questions_of
from dalm.synth.question_texts import ANY_END, Question, is_whole, tidy, without_opening

GENERATOR, VERSION = "extractive", "2"

MOST_CLOZE_WORDS = 24  # of a gap question: a part of a longer sentence would be none
MOST_WORDS = 50  # of a sentence that is asked about

# What may be blanked out, the likelier to be worth knowing first.
_MARKED = (
    re.compile(r"[“\"«„]([^”\"»“]{3,60})[”\"»“]"),
    re.compile(
        r"(?<![\w.,\[-])(?:\d+(?:[.,]\d+)*\s?(?:%|°C|(?:[kmµ]?g|[kcm]?m|[km]?b|m?l)\b)|"
        r"\d+[.,]\d+(?:[.,]\d+)*|\d{4,})(?![\w\]])",
        re.I,
    ),
    re.compile(r"(?<=[^\s.!?:] )(?:[^\W\d_a-zß-öø-ÿ][\w-]{2,})(?: (?:[^\W\d_a-zß-öø-ÿ][\w-]+))+"),
)
_NO_PROSE = re.compile(
    r"https?:|www\.|doi\b|\bSHA:|©|[<>{}|\\@]|(?:\w+, [A-Z]\.[^,]*, ){2}|(?:\. ?){4}|^[A-Z]\w+:\s",
    re.I,
)
_WHAT_IS = re.compile(r"What (?:does|is) (\w+)(?: stand for)?\?")
_ALL = frozenset().union(*FUNCTION_WORDS_OF.values())


def extract(passage: Passage, slots: Sequence[Slot], picker: KeywordPicker) -> list[Pair]:
    """Return at most the queries that are asked for, from different sentences where possible.

    Every answer and every quote is in the passage verbatim.
    """
    wanted = Counter(slot.query_type for slot in slots)
    sentences = list(_sentences(passage.text))
    pairs = []
    for sentence, made in _best(passage, sentences, wanted["question"], picker):
        pair = _pair(passage, "question", made.text, made.answer, sentence)
        pairs.append(replace(pair, kind=made.kind))
    found = picker.keywords(passage.text, sentences) if wanted["keywords"] else iter(())
    for (query, sentence), _ in zip(found, range(wanted["keywords"]), strict=False):
        pairs.append(_pair(passage, "keywords", query, sentence, sentence))
    title = picker.title(passage) if wanted["title"] else ""
    first = next((each for each in sentences if not each.endswith("?")), "")
    if title and first:
        pairs.append(_pair(passage, "title", title, first, first))
    return pairs


def _pair(passage: Passage, name: str, query: str, answer: str, quote: str) -> Pair:
    return Pair(
        passage,
        query=query,
        answer=answer,
        quote=quote,
        kind=None,
        generator=GENERATOR,
        prompt_version=VERSION,
        query_type=name,
        answer_type=answer_type_of(answer),
    )


def _sentences(passage: str) -> Iterator[str]:
    """Yield the whole sentences; a passage cut by length has incomplete ones at its ends.

    One that was cut at its end was probably cut at its beginning, too, whatever the first letter.
    """
    starts = {0, *sentence_starts(passage), *paragraph_starts(passage)}
    cut = not ANY_END.search(passage.rstrip())
    for start, end in pairwise([*sorted(starts), len(passage)]):
        text = passage[start:end].strip()
        whole = text and is_whole(text, ANY_END) and not (cut and not start)
        if whole and _is_prose(text):
            yield text


def _is_prose(text: str) -> bool:
    length_fits = 5 <= len(words(text)) <= MOST_WORDS and len(content_words(text)) >= 3
    return length_fits and not _NO_PROSE.search(text) and "\n\n" not in text


def _best(
    passage: Passage, sentences: Sequence[str], number: int, picker: KeywordPicker
) -> list[tuple[str, Question]]:
    """Choose one question a sentence first, better forms before others."""
    language = language_of(passage.text)
    ranked = []
    for place, sentence in enumerate(sentences if number else ()):
        if language not in (ENGLISH, UNKNOWN):
            questions = list(_cloze(sentence))
        elif language == ENGLISH and language_of(sentence) in (ENGLISH, UNKNOWN):
            questions = [_cased(each, sentence, picker) for each in questions_of(sentence)]
            questions = [each for each in questions if not _asks_what_all_know(each, picker)]
        else:
            questions = []
        for turn, question in enumerate(sorted(questions, key=lambda each: each.rank)):
            ranked.append((turn, question.rank, place, question))
    ranked.sort(key=lambda each: each[:3])
    chosen = ranked[:number]
    chosen.sort(key=lambda each: (each[2], each[0]))
    return [(sentences[place], question) for _, _, place, question in chosen]


def _cased(question: Question, sentence: str, picker: KeywordPicker) -> Question:
    """Return the question with the sentence's first word in lower case, if it is no name."""
    first = without_opening(sentence).split()[0]
    lower = first.lower()
    if first in ("A", "An", "The") or (first.istitle() and lower in picker.common):
        text = question.text.replace(f" {first} ", f" {lower} ", 1)
        text = re.sub(rf" {re.escape(first)}\?$", f" {lower}?", text)
        return replace(question, text=text)
    return question


def _asks_what_all_know(question: Question, picker: KeywordPicker) -> bool:
    """Return whether a question is on a short form that leads to no passage: what is PCR?"""
    match = _WHAT_IS.fullmatch(question.text)
    return match is not None and picker.is_known(match[1])


def _cloze(sentence: str) -> Iterator[Question]:
    """Yield the sentence with its best marked span blanked, if it has one.

    A list of names and years has no function words beside their initials.
    """
    found = words(sentence)
    if len(found) > MOST_CLOZE_WORDS or sum(w in _ALL and len(w) > 1 for w in found) < 2:
        return
    for rank, pattern in enumerate(_MARKED):
        spans = (match.span(match.lastindex or 0) for match in pattern.finditer(sentence))
        for start, end in spans:
            answer = sentence[start:end].strip()
            text = _blanked(sentence, start, end)
            # The blank is missing where it was in brackets, which are left out.
            if BLANK in text and _is_informative(answer):
                yield Question(text, answer, "fact", 60 + rank)
                return


def _is_informative(answer: str) -> bool:
    return bool(set(words(answer)) - _ALL) and len(answer) > 1


def _blanked(sentence: str, start: int, end: int) -> str:
    """Return the sentence with a gap."""
    return tidy(f"{without_opening(sentence[:start])}{BLANK}{sentence[end:]}").rstrip(" .;:,")
