"""Compute metrics of generated answers: against references, passages, marks and citations.

Exact match and token F1 are those of SQuAD's official script: Rajpurkar et al., 2016
(arXiv:1606.05250) and 2018 (1806.03822), with the second's rule for empty answers. With several
references the best one counts. `ANSWER_METRICS` lists them all; a new one is added there.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from dalm.eval.citations import citation_precision, citation_recall
from dalm.eval.metric import Column, Metric, Score
from dalm.records import Hit, JudgedQuery

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
"""Phrases with which models decline to answer; English."""
LONGEST_ABSTENTION = 40
"""Maximum number of words of an abstention: a longer answer has some content."""


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
    """Return 1 if the normalised prediction contains a normalised reference, else 0.

    Whole tokens are compared: `start` doesn't contain `art`. Only an empty prediction contains an
    empty reference.
    """
    return _best(_contains, prediction, references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Return ROUGE-L: F1 of the longest common subsequence of words, in lower case, unstemmed.

    F = 2 LCS / (words of the prediction + words of the reference). Lin, 2004, ACL W04-1013, at
    β = 1. If either side has no word, 1 if both have none, else 0.
    """
    return max(_rouge_l(_words(prediction), _words(each)) for each in _several(references))


def grounding(prediction: str, passages: Sequence[str]) -> float | None:
    """Return the fraction of the answer's words that occur in the passages; None without words.

    Normalised as for exact match. It shows where an answer's words come from, not whether it is
    right.
    """
    words = normalise_answer(prediction).split()
    known = set(normalise_answer(" ".join(passages)).split())
    return sum(word in known for word in words) / len(words) if words else None


def abstains(prediction: str) -> bool:
    """Return whether an answer is empty or declines to answer."""
    words = prediction.split()
    return not words or (
        len(words) <= LONGEST_ABSTENTION and ABSTENTION.search(" ".join(words)) is not None
    )


def measure_answers(
    predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, Column]:
    """Return the metrics that need references, a value per query; None for one without reference.

    Raises ValueError if the lengths differ.
    """
    queries = [JudgedQuery(id="", query="", references=tuple(each)) for each in references]
    metrics = [metric for metric in ANSWER_METRICS if metric.needs == "references"]
    return score_answers(metrics, predictions, queries, [()] * len(queries))


def score_answers(
    metrics: Iterable[Metric],
    answers: Sequence[str],
    queries: Sequence[JudgedQuery],
    hits: Sequence[Sequence[Hit]],
) -> dict[str, Column]:
    """Return the column of each metric that has a `score`; `hits` are the passages in each prompt.

    Raises ValueError if the lengths differ.
    """
    rows = list(zip(answers, queries, hits, strict=True))
    return {m.name: [m.score(*row) for row in rows] for m in metrics if m.score is not None}


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


# The list of metrics


def _with_references(metric: Callable[[str, Sequence[str]], float]) -> Score:
    """Compare with the query's references; undefined without one."""
    return lambda answer, query, _: metric(answer, query.references) if query.references else None


def _abstention(answerable: bool) -> Score:
    """Return 1 for an abstention and 0 for an answer; undefined for queries marked otherwise."""
    return lambda answer, query, _: (
        float(abstains(answer)) if query.answerable is answerable else None
    )


ANSWER_METRICS = (
    Metric(
        name="EM",
        needs="references",
        headline=True,
        failures="answered wrongly",
        score=_with_references(exact_match),
    ),
    Metric(name="F1", needs="references", headline=True, score=_with_references(token_f1)),
    Metric(name="containment", needs="references", score=_with_references(containment)),
    Metric(name="ROUGE-L", needs="references", score=_with_references(rouge_l)),
    Metric(name="NLL", needs="generator", higher_is_better=False),
    Metric(
        name="grounding",
        needs="passages",
        score=lambda answer, _, hits: grounding(answer, [hit.passage.text for hit in hits]),
    ),
    Metric(name="abstention", needs="answerable", score=_abstention(False)),
    Metric(
        name="false abstention",
        needs="answerable",
        higher_is_better=False,
        failures="wrongly declined",
        score=_abstention(True),
    ),
    Metric(
        name="citation precision",
        needs="citations",
        score=lambda answer, query, hits: citation_precision(answer, hits, query.gold),
    ),
    Metric(
        name="citation recall",
        needs="citations",
        score=lambda answer, query, hits: citation_recall(answer, hits, query.gold),
    ),
    Metric(name="faithfulness", needs="judge", headline=True),
    Metric(name="correctness", needs="judge", headline=True),
    Metric(name="preference", needs="judge"),
)
"""All metrics of answers, in the order of the report."""
