"""Extract questions and answers from a passage's own sentences, without a model.

English sentences are turned into questions by their form: *X is a Y* asks *What is X?*, a cause
asks *Why*, a number *How many*. A sentence of any language with a marked span in it (a number, a
name, a term in quotation marks) becomes a cloze. Everything is deterministic.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dalm.ingest.words import (
    FUNCTION_WORDS,
    content_words,
    paragraph_starts,
    sentence_starts,
    words,
)
from dalm.records import Passage
from dalm.synth.pairs import Pair
from dalm.synth.question_forms import Question, questions_of, tidy
from dalm.synth.sentence_patterns import ANY_END, is_whole, without_opening

GENERATOR, VERSION = "extractive", "1"

BLANK = "____"
MAX_CLOZE_WORDS = 24  # around the blank

# What may be blanked out, the likelier to be worth knowing first.
_MARKED = (
    re.compile(r"[“\"«„]([^”\"»“]{3,60})[”\"»“]"),
    re.compile(
        r"(?<![\w.,\[-])\d+(?:[.,]\d+)*(?![\w\]])"
        r"(?:\s?(?:%|°C|(?:[kmµ]?g|[kcm]?m|[km]?b|m?l|years?|weeks?|days?|hours?)\b))?",
        re.I,
    ),
    re.compile(r"(?<=[^\s.!?] )(?:[^\W\d_a-zß-öø-ÿ][\w-]+)(?: (?:[^\W\d_a-zß-öø-ÿ][\w-]+))*"),
)
_NO_PROSE = re.compile(r"https?:|www\.|doi\b|\bSHA:|©|[<>{}|\\@]|(?:\w+, [A-Z]\.[^,]*, ){2}", re.I)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage; a passage cut by length has incomplete ones at its ends."""

    text: str
    whole: bool


def extract(passage: Passage, number: int) -> list[Pair]:
    """Return at most `number` questions on a passage, from different sentences where possible.

    Every answer and every quote is in the passage verbatim.
    """
    found = list(_sentences(passage.text))
    questions = [list(_of_sentence(sentence)) for sentence in found]
    return [
        Pair(
            passage,
            query=question.text,
            answer=question.answer,
            quote=sentence.text,
            kind=question.kind,
            generator=GENERATOR,
            prompt_version=VERSION,
        )
        for sentence, question in _best(questions, found, number)
    ]


def _sentences(passage: str) -> Iterator[Sentence]:
    starts = {0, *sentence_starts(passage), *paragraph_starts(passage)}
    for start, end in pairwise([*sorted(starts), len(passage)]):
        if text := passage[start:end].strip():
            whole = bool(ANY_END.search(text)) if start else is_whole(text, ANY_END)
            yield Sentence(text, whole)


def _best(
    questions: Sequence[Sequence[Question]], found: Sequence[Sentence], number: int
) -> list[tuple[Sentence, Question]]:
    """Choose one question a sentence first, better question forms before others."""
    ranked = []
    for place, of_sentence in enumerate(questions):
        for turn, question in enumerate(sorted(of_sentence, key=lambda each: each.rank)):
            ranked.append((turn, question.rank, place, question))
    ranked.sort(key=lambda each: each[:3])
    chosen = ranked[:number]
    chosen.sort(key=lambda each: (each[2], each[0]))
    return [(found[place], question) for _, _, place, question in chosen]


def _of_sentence(sentence: Sentence) -> Iterator[Question]:
    if not sentence.whole or _NO_PROSE.search(sentence.text):
        return
    length = len(words(sentence.text))
    if not 5 <= length <= 60 or len(content_words(sentence.text)) < 3:
        return
    yield from questions_of(sentence.text)
    yield from _cloze(sentence.text)


def _cloze(sentence: str) -> Iterator[Question]:
    """Yield the sentence with one marked span blanked, for the first span of each kind.

    Where nothing is marked the longest word is blanked, if it is a long one.
    """
    taken: set[str] = set()
    for rank, pattern in enumerate(_MARKED):
        spans = (match.span(match.lastindex or 0) for match in pattern.finditer(sentence))
        for start, end in spans:
            answer = sentence[start:end].strip()
            text = _blanked(sentence, start, end)
            # The blank is missing where it was in brackets, which are left out.
            if BLANK in text and _is_informative(answer) and answer not in taken:
                taken.add(answer)
                yield Question(text, answer, "fact", 60 + rank)
                break
    if not taken:
        longest = max(re.finditer(r"[^\W\d_]+", sentence), key=lambda m: len(m[0]), default=None)
        text = _blanked(sentence, *longest.span()) if longest else ""
        if longest and len(longest[0]) >= 8 and BLANK in text:
            yield Question(text, longest[0], "fact", 70)


def _is_informative(answer: str) -> bool:
    return bool(set(words(answer)) - FUNCTION_WORDS) and len(answer) > 1


def _blanked(sentence: str, start: int, end: int) -> str:
    """Return at most so many words on both sides of the blank."""
    before, after = without_opening(sentence[:start]).split(" "), sentence[end:].split(" ")
    room = MAX_CLOZE_WORDS - min(len(after), MAX_CLOZE_WORDS // 2)
    before = before[-max(room, MAX_CLOZE_WORDS // 2) :]
    after = after[: max(MAX_CLOZE_WORDS - len(before), 1)]
    return tidy(f"{' '.join(before)}{BLANK}{' '.join(after)}").rstrip(" .;:,")
