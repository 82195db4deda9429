"""Blank a marked span out of a sentence: a sentence of any language in, a cloze out."""

import re
from collections.abc import Iterator

from dalm.ingest.words import FUNCTION_WORDS, words
from dalm.synth.question_forms import Question, tidy, without_opening

BLANK = "____"
MOST_WORDS = 24  # around the blank; a longer cloze is no question any more

# The likelier to be worth knowing come first.
_MARKED = (
    re.compile(r"[“\"«„]([^”\"»“]{3,60})[”\"»“]"),
    re.compile(
        r"(?<![\w.,\[-])\d+(?:[.,]\d+)*(?![\w\]])"
        r"(?:\s?(?:%|°C|(?:[kmµ]?g|[kcm]?m|[km]?b|m?l|years?|weeks?|days?|hours?)\b))?",
        re.I,
    ),
    re.compile(r"(?<=[^\s.!?] )(?:[^\W\d_a-zß-öø-ÿ][\w-]+)(?: (?:[^\W\d_a-zß-öø-ÿ][\w-]+))*"),
)


def cloze(sentence: str) -> Iterator[Question]:
    """Yield the sentence with one marked span blanked, for the first span of each kind.

    Where nothing is marked the longest word is blanked, if it is a long one.
    """
    taken: set[str] = set()
    for rank, pattern in enumerate(_MARKED):
        spans = (match.span(match.lastindex or 0) for match in pattern.finditer(sentence))
        for start, end in spans:
            answer = sentence[start:end].strip()
            text = _blanked(sentence, start, end)
            if BLANK in text and _worth(answer) and answer not in taken:  # brackets are left out
                taken.add(answer)
                yield Question(text, answer, "fact", 60 + rank)
                break
    if not taken:
        longest = max(re.finditer(r"[^\W\d_]+", sentence), key=lambda m: len(m[0]), default=None)
        text = _blanked(sentence, *longest.span()) if longest else ""
        if longest and len(longest[0]) >= 8 and BLANK in text:
            yield Question(text, longest[0], "fact", 70)


def _worth(answer: str) -> bool:
    return bool(set(words(answer)) - FUNCTION_WORDS) and len(answer) > 1


def _blanked(sentence: str, start: int, end: int) -> str:
    """Return at most so many words on both sides of the blank."""
    before, after = without_opening(sentence[:start]).split(" "), sentence[end:].split(" ")
    room = MOST_WORDS - min(len(after), MOST_WORDS // 2)
    before = before[-max(room, MOST_WORDS // 2) :]
    after = after[: max(MOST_WORDS - len(before), 1)]
    return tidy(f"{' '.join(before)}{BLANK}{' '.join(after)}").rstrip(" .;:,")
