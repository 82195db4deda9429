"""Results and a judge's verdicts in; the results with columns, figures and reasons out."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from dalm.eval.citations import uncited_answers
from dalm.eval.judging.agreement import (
    Agreement,
    agreement_figures,
    order_figures,
    preference_figures,
)
from dalm.eval.judging.cases import Case
from dalm.eval.judging.verdicts import Pair
from dalm.eval.judging.wording import VERSION, Kind
from dalm.eval.measures import Column
from dalm.eval.results import Results

Judged = Sequence[tuple[Case, Pair]]


def with_verdicts(results: Results, judged: Judged, model: str) -> Results:
    """Add `faithfulness` and `correctness`, the verdicts, and `facts["judge"]`: their figures.

    An empty answer that should be one is as wrong as any, and nobody is asked about it.
    """
    faithful, correct = _by_query(judged, "faithfulness"), _by_query(judged, "correctness")
    columns = {"faithfulness": _column(results, faithful), "correctness": _column(results, correct)}
    for place, answer in enumerate(uncited_answers(results)):
        if results.queries[place].references and not answer.strip():
            columns["correctness"][place] = 0.0
    queries = [query.id for query in results.queries]
    matches = dict(zip(queries, results.measures["EM"], strict=True))
    both = [(pair.value, matches[query]) for query, pair in correct.items()]
    figures = {
        "model": model,
        "prompts": VERSION,
        "faithfulness": order_figures(list(faithful.values())),
        "correctness": order_figures(list(correct.values())),
        "exact_match": agreement_figures(Agreement.of(both)),
    }
    return _added(results, columns, judged, figures)


def with_preferences(results: Results, baseline: Results, judged: Judged) -> Results:
    """Add `preference`: 1 where the answer is better than the baseline's, 0.5 for a tie, else 0.

    Equal answers are ties, and nobody is asked about them.
    """
    pairs = _by_query(judged, "preference")
    column = _column(results, pairs)
    answers = zip(uncited_answers(results), uncited_answers(baseline), strict=True)
    equal = [place for place, (mine, other) in enumerate(answers) if mine.strip() == other.strip()]
    for place in equal:
        column[place] = 0.5
    figures = preference_figures(list(pairs.values()), len(equal))
    figures["baseline"] = baseline.name
    known = {**results.facts["judge"], "preference": figures}
    return _added(results, {"preference": column}, judged, known)


def _added(
    results: Results, columns: Mapping[str, Column], judged: Judged, figures: Mapping[str, Any]
) -> Results:
    return replace(
        results,
        measures={**results.measures, **columns},
        verdicts=[*results.verdicts, *(_record(case, pair) for case, pair in judged)],
        facts={**results.facts, "judge": figures},
    )


def _record(case: Case, pair: Pair) -> dict[str, Any]:
    """Return a line of verdicts.jsonl; of a preference, the answer is A first and B swapped."""
    return {
        "query": case.query,
        "asked": case.kind,
        "value": pair.value,
        "first": asdict(pair.first) if pair.first else None,
        "swapped": asdict(pair.swapped) if pair.swapped else None,
    }


def _by_query(judged: Judged, kind: Kind) -> dict[str, Pair]:
    return {case.query: pair for case, pair in judged if case.kind == kind}


def _column(results: Results, pairs: Mapping[str, Pair]) -> Column:
    found = [pairs.get(query.id) for query in results.queries]
    return [None if pair is None else pair.value for pair in found]
