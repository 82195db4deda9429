"""Say what a test set and its answers can't show, or show against expectation.

Each finding is decided by a test on the figures at hand, not by a fixed threshold, except for
`FEW_DOCUMENTS`.
"""

from collections.abc import Iterator, Sequence

from dalm.eval.comparison import ALPHA, Difference, MeasureResult, aligned, differences
from dalm.eval.metrics import FIRST, FOUND, higher_is_better, is_variant, label, mean
from dalm.eval.results import Results
from dalm.eval.sentences import counted, number, p_value, power
from dalm.eval.significance import least_p

FEW_DOCUMENTS = 10
"""With fewer documents intervals are wide, and depend on the documents being alike."""
OUTCOMES = {
    "better": "is also significant",
    "even": "is not significant",
    "worse": "is a significant loss",
}
"""What became of a gain, by the verdict on another stage."""
READING = ("NLL", "F1")
"""Measures that show whether a generator reads: the likelihood shows it soonest."""


def findings(results: Results, measures: Sequence[MeasureResult], seed: int = 0) -> list[str]:
    """Return what is worth knowing before the figures are believed, in sentences."""
    return [
        *_not_in_knowledge_base(results),
        *_too_few(measures),
        *_beside_bm25(results, measures, seed),
        *_gain_by_stage(measures),
        *_empty_answers(results),
        *_reading(results, seed),
    ]


def other_data(results: Results, baseline: Results) -> Iterator[str]:
    """Say that two runs of the same queries searched or were judged by other data."""
    pairs = [
        (query, baseline.queries[place])
        for query, place in zip(results.queries, aligned(results, baseline), strict=True)
    ]
    over = f"of {number(len(pairs), 'query', 'queries')}"
    if relevant := sum(mine.relevant != other.relevant for mine, other in pairs):
        yield f"other passages are relevant to {relevant:,} {over} in {baseline.name}"
    answered = results.answers and baseline.answers
    if answered and (
        references := sum(set(mine.references) != set(other.references) for mine, other in pairs)
    ):
        yield f"the reference answers to {references:,} {over} are others in {baseline.name}"
    mine, theirs = (int(each.facts.get("passages", 0)) for each in (results, baseline))
    if mine and theirs and mine != theirs:
        yield (
            f"{results.name} searched {number(mine, 'passage', 'passages')}, {baseline.name} "
            f"{theirs:,}: fewer passages are easier to search"
        )


def _not_in_knowledge_base(results: Results) -> Iterator[str]:
    if added := int(results.facts.get("passages_added", 0)):
        yield (
            f"{added:,} of {len({each for query in results.queries for each in query.gold}):,} "
            "relevant passages aren't in the knowledge base, and were searched beside it: an index "
            "of it can't find them"
        )


def _too_few(measures: Sequence[MeasureResult]) -> Iterator[str]:
    plain = [each for each in measures if not is_variant(each.measure)]
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
    most = min(compared, key=lambda each: each.least_p, default=None)
    if most and (p := most.least_p * len(compared)) > ALPHA:
        yield (
            f"no difference can be significant with {counted(most)} and "
            f"{number(len(compared), 'measure', 'measures')}: the adjusted p is at least "
            f"{min(1.0, p):.3g}; add documents"
        )


def _units(each: MeasureResult) -> int:
    return each.count if each.documents is None else each.documents


# Retrieval


def _beside_bm25(results: Results, measures: Sequence[MeasureResult], seed: int) -> Iterator[str]:
    """Say what matching words alone finds, and whether the retriever adds anything to it."""
    first = next((each for each in measures if _in_stage(each, "BM25", measures)), None)
    if first is None:
        if reason := results.facts.get("not_fused"):
            yield f"nothing is compared or fused with BM25: {reason}"
        return
    name = first.measure
    words = f"{name}[BM25]"
    yield (
        f"BM25, which matches words alone, has {label(name)} "
        f"{mean(results.measures[words]):.3f} on the same queries and passages"
    )
    column = results.measures.get(f"{FIRST}[BM25]", ())
    missed = len({group for group, v in zip(results.groups, column, strict=False) if v == 0})
    if column and (p := least_p(missed)) > ALPHA:
        yield (
            f"no retriever can show a gain over BM25 at rank 1 here: its {label(FIRST)} is "
            f"{mean(column):.3f}, and {number(missed, 'document', 'documents')} with a "
            f"miss are too few (p is at least {p:.3g}); ask in other words than the passages', or "
            "add documents"
        )
        return
    fused = {name: results.measures[f"{name}[fused]"]}
    gain = differences(fused, {name: results.measures[words]}, results, seed)[name]
    if not _helps(name, gain):
        yield (
            f"fused with BM25, the retriever adds nothing significant to BM25: {label(name)} is "
            f"{gain.baseline + gain.difference:.3f} fused and {gain.baseline:.3f} by BM25 "
            f"({p_value(gain)}), over {counted(gain)}{power(gain)}"
        )


def _gain_by_stage(measures: Sequence[MeasureResult]) -> Iterator[str]:
    """Say whether a significant gain of the retriever alone is still there in the other stages."""
    stages = {"fused": "once fused with BM25", "reranked": "behind the reranker"}
    for alone in measures:
        found = {stage: _in_stage(alone, stage, measures) for stage in stages}
        if is_variant(alone.measure) or alone.verdict != "better" or not any(found.values()):
            continue
        for stage, result in found.items():
            if result is None or result.against is None:
                continue
            other = result.against
            shown = f", over {counted(other)}{power(other)}" if result.verdict == "even" else ""
            yield (
                f"the gain alone ({_gain(alone)}) {OUTCOMES[result.verdict]} {stages[stage]} "
                f"({_gain(result)}){shown}"
            )
        return


def _in_stage(
    alone: MeasureResult, stage: str, measures: Sequence[MeasureResult]
) -> MeasureResult | None:
    """Return the same measure in another stage of the search."""
    name = f"{alone.measure}[{stage}]"
    return next((each for each in measures if each.measure == name), None)


def _gain(result: MeasureResult) -> str:
    assert result.against is not None
    name = label(result.measure.partition("[")[0])
    return f"{name} {result.against.difference:+.3f}, {p_value(result.against)}"


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
            "the generator isn't shown to read its passages; it may know the answers without them: "
            f"{_in_words(gold, 'the gold passage')}"
        )
        return
    found = _against_none(results, "", seed)
    if found and not any(_helps(*each) for each in found.items()):
        yield f"the answers aren't shown to gain from retrieval: {_in_words(found, FOUND)}"


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
