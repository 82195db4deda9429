"""A generated answer and its references in, SQuAD's measures out.

After the official script of Rajpurkar et al., 2016 (arXiv:1606.05250) and 2018 (1806.03822), with
the second's rule for empty answers. Every measure is in [0, 1] and the best over the references.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only, as in the official script
ARTICLES = re.compile(r"\b(a|an|the)\b")


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


ANSWER_MEASURES: dict[str, Callable[[str, Sequence[str]], float]] = {
    "EM": exact_match,
    "F1": token_f1,
    "containment": containment,
}


def measure_answers(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, list[float]]:
    """Return exact match, token F1 and containment, one value per query.

    Raises ValueError if the lengths differ or a query has no reference.
    """
    pairs = list(zip(predictions, references, strict=True))
    return {name: [measure(*pair) for pair in pairs] for name, measure in ANSWER_MEASURES.items()}


def _best(
    measure: Callable[[str, str], float], prediction: str, references: Sequence[str]
) -> float:
    if isinstance(references, str) or not references:
        raise ValueError(f"an answer needs a list of one reference or more, not {references!r}")
    mine = normalise_answer(prediction)
    return max(measure(mine, normalise_answer(reference)) for reference in references)


def _f1(mine: str, gold: str) -> float:
    predicted, expected = mine.split(), gold.split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


def _contains(mine: str, gold: str) -> float:
    return float(f" {gold} " in f" {mine} " if gold else not mine)
