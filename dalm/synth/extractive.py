"""Make questions without a model: a passage in, questions from its own sentences out.

English sentences are turned into questions by their form: *X is a Y* asks *What is X?*, a cause
asks *Why*, a number *How many*. A sentence of any language with a marked span in it (a number, a
name, a term in quotation marks) becomes a cloze. Everything is deterministic.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dalm.ingest.sentences import paragraph_starts, sentence_starts
from dalm.ingest.words import content_words, words
from dalm.records import Passage
from dalm.synth.cloze import cloze
from dalm.synth.pairs import Pair
from dalm.synth.question_forms import Question, questions_of

GENERATOR, VERSION = "extractive", "1"

_CLOSED = re.compile(r"[.!?…。！？][\"'”’»)\]」』）]*$")
_NO_PROSE = re.compile(r"https?:|www\.|doi\b|\bSHA:|©|[<>{}|\\@]|(?:\w+, [A-Z]\.[^,]*, ){2}", re.I)


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a passage.

    It is whole if it begins and ends there: a passage cut by length has halves at its ends.
    """

    text: str
    whole: bool


def extract(passage: Passage, number: int) -> list[Pair]:
    """Return at most `number` questions on a passage, from different sentences where possible.

    Every answer and every quote stands in the passage word for word.
    """
    found = list(_sentences(passage.text))
    asked = [list(_of_sentence(sentence)) for sentence in found]
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
        for sentence, question in _best(asked, found, number)
    ]


def _sentences(passage: str) -> Iterator[Sentence]:
    starts = {0, *sentence_starts(passage), *paragraph_starts(passage)}
    for start, end in pairwise([*sorted(starts), len(passage)]):
        if text := passage[start:end].strip():
            begun = start > 0 or not text[0].islower()
            yield Sentence(text, begun and bool(_CLOSED.search(text)))


def _best(
    asked: Sequence[Sequence[Question]], found: Sequence[Sentence], number: int
) -> list[tuple[Sentence, Question]]:
    """Choose one question a sentence first, the likelier to be a good one before the others."""
    ranked = []
    for place, questions in enumerate(asked):
        for turn, question in enumerate(sorted(questions, key=lambda each: each.rank)):
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
    yield from cloze(sentence.text)
