"""Say what a test set and its answers can't show, or show against expectation.

Each finding is decided by a test on the figures at hand, not by a fixed threshold, except for
`FEW_DOCUMENTS`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from dalm.eval.comparison import ALPHA, Difference, MeasureResult, differences
from dalm.eval.metrics import FOUND, higher_is_better, is_bound, label, means
from dalm.eval.results import Results
from dalm.eval.retrieval_metrics import measure_retrieval
from dalm.eval.sentences import counted, number, power
from dalm.eval.significance import least_p
from dalm.io.evaluation_set import EvaluationSet
from dalm.retrieval.bm25 import BM25

FEW_DOCUMENTS = 10
"""With fewer documents intervals are wide, and depend on the documents being alike."""
MOST_PASSAGES = 200_000
"""Above it BM25 isn't run for comparison: counting the words takes minutes."""
FIRST = "Success@1"
READING = ("NLL", "F1")
"""Measures that show whether a generator reads: the likelihood shows it soonest."""


def findings(results: Results, measures: Sequence[MeasureResult], seed: int = 0) -> list[str]:
    """Return what is worth knowing before the figures are believed, in sentences.

    `results.facts["bm25"]`, if it is there, is that of `bm25_facts`.
    """
    return [
        *_too_few(measures),
        *_solved_by_words(results.facts.get("bm25"), measures),
        *_empty_answers(results),
        *_reading(results, seed),
    ]


def _too_few(measures: Sequence[MeasureResult]) -> Iterator[str]:
    plain = [each for each in measures if not is_bound(each.measure)]
    units = {_units(each): each for each in plain}
    fewest = min(units, default=FEW_DOCUMENTS)
    if fewest < FEW_DOCUMENTS:
        what = f"{label(units[fewest].measure)} rests on {counted(units[fewest])}"
        if fewest == max(units):
            what = f"the figures rest on {counted(units[fewest])}"
        yield (
            f"{what}: with fewer than {FEW_DOCUMENTS} independent ones intervals are wide, and "
            "say little about documents of another kind"
        )
    compared = [each.against for each in plain if each.against]
    if compared and (p := min(each.least_p for each in compared) * len(compared)) > ALPHA:
        yield (
            f"no difference can be significant with {counted(compared[0])} and "
            f"{number(len(compared), 'measure', 'measures')}: the adjusted p is at least "
            f"{min(1.0, p):.3g}; add documents"
        )


def _units(each: MeasureResult) -> int:
    return each.count if each.documents is None else each.documents


# Retrieval


def bm25_facts(dataset: EvaluationSet, results: Results, wanted: Sequence[Any]) -> dict[str, Any]:
    """Return how well BM25 does on the same queries and passages; nothing for very many passages.

    `unsolved` counts the documents with a query for which BM25 has no relevant passage first:
    the only ones that a better retriever could improve at rank 1.
    """
    if len(dataset.passages) > MOST_PASSAGES:
        return {}
    depth = max(map(len, results.hits), default=0) or 1
    hits = BM25(list(dataset.passages.values())).search([q.query for q in dataset.queries], depth)
    relevant = [query.relevant for query in dataset.queries]
    columns = measure_retrieval(hits, relevant, [*wanted, FIRST])
    unsolved = {g for g, v in zip(results.groups, columns[FIRST], strict=True) if v == 0}
    known = {name: value for name, value in means(columns).items() if not math.isnan(value)}
    return {"measures": known, "unsolved": len(unsolved)} if known else {}


def _solved_by_words(bm25: Any, measures: Sequence[MeasureResult]) -> Iterator[str]:
    if not bm25 or not measures:
        return
    first, words = measures[0], bm25["measures"]
    if first.measure in words:
        yield (
            f"BM25, which matches words alone, has {label(first.measure)} "
            f"{words[first.measure]:.3f} on the same queries and passages"
        )
    if (p := least_p(bm25["unsolved"])) > ALPHA:
        yield (
            f"no retriever can show a gain over BM25 at rank 1 here: its {label(FIRST)} is "
            f"{words[FIRST]:.3f}, and {number(bm25['unsolved'], 'document', 'documents')} with a "
            f"miss are too few (p is at least {p:.3g}); ask in other words than the passages', or "
            "add documents"
        )


# Answers


def _empty_answers(results: Results) -> Iterator[str]:
    pairs = zip(results.queries, results.answers.get("found", ()), strict=False)
    answers = [answer for query, answer in pairs if query.answerable is not False]
    empty = sum(not answer.strip() for answer in answers)
    if empty:
        yield (
            f"{empty} of {number(len(answers), 'answer is', 'answers are')} empty "
            f"({empty / len(answers):.0%})"
        )


def _reading(results: Results, seed: int) -> Iterator[str]:
    """Say that the gold passage, or the passages found, help no more than none."""
    gold = _against_none(results, "gold", seed)
    if gold and not any(_helps(*each) for each in gold.items()):
        yield (
            "the generator doesn't read its passages, or knows the answers without them: "
            f"{_in_words(gold, 'the gold passage')}"
        )
        return
    found = _against_none(results, "", seed)
    if found and not any(_helps(*each) for each in found.items()):
        yield f"the answers gain nothing from retrieval: {_in_words(found, FOUND)}"


def _against_none(results: Results, read: str, seed: int) -> dict[str, Difference]:
    """Return what answers gain from a passage that they read over none, by measure."""
    columns, suffix = results.measures, f"[{read}]" if read else ""
    names = [each for each in READING if {each + suffix, f"{each}[none]"} <= columns.keys()]
    mine = {each: columns[each + suffix] for each in names}
    return differences(mine, {each: columns[f"{each}[none]"] for each in names}, results, seed)


def _helps(measure: str, gain: Difference) -> bool:
    significant = gain.p_holm is not None and gain.p_holm <= ALPHA
    return significant and (gain.difference > 0) == higher_is_better(measure)


def _in_words(gains: dict[str, Difference], read: str) -> str:
    parts = [
        f"{label(name)} is {each.baseline + each.difference:.3f} with {read} and "
        f"{each.baseline:.3f} without (p = {each.p:.3g})"
        for name, each in gains.items()
    ]
    last = list(gains.values())[-1]
    return f"{', '.join(parts)}, over {counted(last)}{power(last)}"
