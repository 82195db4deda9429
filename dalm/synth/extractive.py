"""Extract questions and answers from a passage's own sentences, without a model.

Sentences of an English passage are turned into questions by their form: *X is a Y* asks *What is
X?*, a cause asks *Why*, a number *How many*. A sentence of any language with a marked span in it (a
number, a name, a term in quotation marks) becomes a cloze. Everything is deterministic.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from dalm.ingest.languages import ENGLISH, FUNCTION_WORDS, UNKNOWN, is_english, language_of
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts
from dalm.ingest.words import content_words, words
from dalm.records import Passage
from dalm.synth.pairs import Pair
from dalm.synth.question_forms import (
    ANY_END,
    Question,
    is_whole,
    questions_of,
    tidy,
    without_opening,
)

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


def extract(passage: Passage, number: int) -> list[Pair]:
    """Return at most `number` questions on a passage, from different sentences where possible.

    Every answer and every quote is in the passage verbatim.
    """
    english = is_english(passage.text)
    return [
        Pair(
            passage,
            query=question.text,
            answer=question.answer,
            quote=sentence,
            kind=question.kind,
            generator=GENERATOR,
            prompt_version=VERSION,
        )
        for sentence, question in _best(list(_sentences(passage.text)), number, english)
    ]


def _sentences(passage: str) -> Iterator[str]:
    """Yield the whole sentences; a passage cut by length has incomplete ones at its ends."""
    starts = {0, *sentence_starts(passage), *paragraph_starts(passage)}
    for start, end in pairwise([*sorted(starts), len(passage)]):
        text = passage[start:end].strip()
        whole = text and (ANY_END.search(text) if start else is_whole(text, ANY_END))
        if whole and _is_prose(text):
            yield text


def _is_prose(text: str) -> bool:
    length_fits = 5 <= len(words(text)) <= 60 and len(content_words(text)) >= 3
    return length_fits and not _NO_PROSE.search(text)


def _best(sentences: Sequence[str], number: int, english: bool) -> list[tuple[str, Question]]:
    """Choose one question a sentence first, better question forms before others."""
    ranked = []
    for place, sentence in enumerate(sentences):
        questions = list(_cloze(sentence))
        if english and language_of(sentence) in (ENGLISH, UNKNOWN):  # one may be a quotation
            questions += questions_of(sentence)
        for turn, question in enumerate(sorted(questions, key=lambda each: each.rank)):
            ranked.append((turn, question.rank, place, question))
    ranked.sort(key=lambda each: each[:3])
    chosen = ranked[:number]
    chosen.sort(key=lambda each: (each[2], each[0]))
    return [(sentences[place], question) for _, _, place, question in chosen]


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
