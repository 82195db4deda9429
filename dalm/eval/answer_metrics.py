"""A generated answer with its references or its passages in, measures out, each in [0, 1].

Exact match and token F1 are those of SQuAD's official script: Rajpurkar et al., 2016
(arXiv:1606.05250) and 2018 (1806.03822), with the second's rule for empty answers. Beside several
references the best counts.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only, as in the official script
ARTICLES = re.compile(r"\b(a|an|the)\b")
WORD = re.compile(r"\w+")
ABSTENTION = re.compile(
    r"\b(do(es)? not|don[’']?t|doesn[’']?t|did not|didn[’']?t|is not|isn[’']?t|are not|aren[’']?t"
    r"|cannot|can not|can[’']?t|could not|couldn[’']?t) "
    r"(know|say|tell|answer|contain|provide|mention|state|specify|give|enough|be (answered"
    r"|determined|found)|mentioned|stated|specified|provided|given|found|included)\b"
    r"|\b(un|not )answerable\b|\bno (answer|information|mention)\b|\bunknown\b"
    r"|\binsufficient (information|context)\b|\bunable to (answer|find|determine)\b",
    re.IGNORECASE,
)
"""Words by which models say that they can't answer; English."""
LONGEST_REFUSAL = 40
"""Words of an answer that may be a refusal: a longer one has said something."""


def normalise_answer(text: str) -> str:
    """Return the text in lower case, without punctuation, articles and superfluous white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the prediction equals a reference, both normalised, else 0."""
    return _best(lambda mine, gold: float(mine == gold), prediction, references)


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Return F1 = 2PR / (P + R) over the normalised tokens, each counted as often as it occurs.

    If either side has no token left, 1 if both have none, else 0.
    """
    return _best(_f1, prediction, references)


def containment(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if a normalised reference stands in the normalised prediction, else 0.

    It begins and ends on the borders of tokens: `art` isn't in `start`. An empty reference stands
    in an empty prediction only.
    """
    return _best(_contains, prediction, references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Return ROUGE-L: F1 of the longest common subsequence of words, in lower case, unstemmed.

    F = 2 LCS / (words of the prediction + words of the reference). Lin, 2004, ACL W04-1013, at
    β = 1. If either side has no word, 1 if both have none, else 0.
    """
    return max(_rouge_l(_words(prediction), _words(each)) for each in _several(references))


def grounding(prediction: str, passages: Sequence[str]) -> float | None:
    """Return the share of the answer's words that stand in the passages; None without words.

    Normalised as for exact match. It says where an answer's words come from, not whether it is
    right.
    """
    words = normalise_answer(prediction).split()
    there = set(normalise_answer(" ".join(passages)).split())
    return sum(word in there for word in words) / len(words) if words else None


def abstains(prediction: str) -> bool:
    """Tell whether an answer is empty or says that there is none."""
    words = prediction.split()
    return not words or (
        len(words) <= LONGEST_REFUSAL and ABSTENTION.search(" ".join(words)) is not None
    )


ANSWER_MEASURES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "EM": exact_match,
    "F1": token_f1,
    "containment": containment,
    "ROUGE-L": rouge_l,
}


def measure_answers(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, list[float | None]]:
    """Return each of `ANSWER_MEASURES`, one value per query; None for a query without reference.

    Raises ValueError if the lengths differ.
    """
    pairs = list(zip(predictions, references, strict=True))
    return {
        name: [measure(*pair) if pair[1] else None for pair in pairs]
        for name, measure in ANSWER_MEASURES.items()
    }


def _best(
    measure: Callable[[str, str], float], prediction: str, references: Sequence[str]
) -> float:
    mine = normalise_answer(prediction)
    return max(measure(mine, normalise_answer(each)) for each in _several(references))


def _several(references: Sequence[str]) -> Sequence[str]:
    if isinstance(references, str) or not references:
        raise ValueError(f"an answer needs a list of one reference or more, not {references!r}")
    return references


def _f1(mine: str, gold: str) -> float:
    predicted, expected = mine.split(), gold.split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


def _contains(mine: str, gold: str) -> float:
    return float(f" {gold} " in f" {mine} " if gold else not mine)


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())


def _rouge_l(mine: Sequence[str], gold: Sequence[str]) -> float:
    if not mine or not gold:
        return float(mine == gold)
    return 2 * _common(mine, gold) / (len(mine) + len(gold))


def _common(mine: Sequence[str], gold: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, row by row of the usual table."""
    row = [0] * (len(gold) + 1)
    for word in mine:
        diagonal = 0
        for column, other in enumerate(gold, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
