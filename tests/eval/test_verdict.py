"""The verdict: every way to be better, worse or not shown, on results made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dalm.errors import UserError
from dalm.eval.comparison import compare
from dalm.eval.results import BASELINE, save
from dalm.eval.verdict import FEEDBACK, GENERATED, GUARD, HUMAN, Part, verdict_of
from tests.eval.example_results import results

MANY = 24


def part(name=GENERATED, documents=MANY, facts=None, reranked=False, **gains):
    """A part with a question a document; each measure's gain is that of all its questions.

    A measure is written `recall`, `recall_fused`, `F1_gold` …; the baseline's is 0.5 everywhere.
    """
    names = {"recall": "R@10", "ndcg": "nDCG@10"}
    columns = {}
    for key, gain in gains.items():
        measure, _, stage = key.partition("_")
        measure = names.get(measure, measure)
        columns[f"{measure}[{stage}]" if stage else measure] = gain
    groups = [f"d{i}" for i in range(documents)]
    made = {"groups": groups, "values": [0.0] * documents, "facts": facts or {}}
    baseline = results("base", measures={c: [0.5] * documents for c in columns}, **made)
    measures = {column: [0.5 + gain] * documents for column, gain in columns.items()}
    system = results("tuned", measures=measures, **made)
    if reranked:
        system = replace(system, reranked=system.hits)
    return Part(
        name=name, results=system, baseline=baseline, measures=compare(system, baseline, seed=1)
    )


ALL = {"recall": 0.2, "recall_fused": 0.1, "recall_reranked": 0.1}


def outcome(*parts):
    verdict = verdict_of(parts)
    assert verdict.switches == (verdict.outcome == "better")
    return verdict.outcome


def test_a_gain_that_survives_every_stage_is_better():
    verdict = verdict_of([part(**ALL)])
    assert verdict.outcome == "better"
    assert verdict.switches
    assert verdict.losses == ()
    assert verdict.headline == (
        "Better: generated questions: recall@10 rose from 0.500 to 0.700 (95 % interval of the "
        "difference 0.200 to 0.200, adjusted p < 0.001); better on 24, worse on 0 of 24 queries of "
        "24 documents; the gain holds fused with BM25 and behind the reranker; nothing was lost"
    )
    assert [each.partition(" rose")[0] for each in verdict.reasons] == [
        "generated questions: recall@10",
        "generated questions: recall@10, fused with BM25",
        "generated questions: recall@10, reranked",
    ]


@pytest.mark.parametrize("stage", ["recall_fused", "recall_reranked"])
def test_a_gain_that_a_later_stage_doesnt_show_is_not_shown(stage):
    verdict = verdict_of([part(**ALL | {stage: 0.0})])
    assert verdict.outcome == "not shown"
    assert verdict.headline.startswith("Not shown to be better: generated questions: recall@10")
    lost = {"recall_fused": "fused with BM25", "recall_reranked": "behind the reranker"}[stage]
    assert verdict.headline.endswith(f"the gain is not significant {lost}; nothing was lost")


def test_a_gain_alone_counts_where_nothing_was_fused_and_says_so():
    verdict = verdict_of([part(recall=0.2, facts={"not_fused": "300,000 passages are too many"})])
    assert verdict.outcome == "better"
    assert "as it was searched (300,000 passages are too many)" in verdict.headline
    assert "(no fused ranking was measured)" in verdict_of([part(recall=0.2)]).headline


def test_a_gain_of_the_fused_ranking_alone_is_no_gain_of_the_retriever():
    assert outcome(part(recall=0.0, recall_fused=0.2)) == "not shown"


@pytest.mark.parametrize("loss", ["ndcg", "ndcg_fused", "grounding", "recall_reranked"])
def test_a_loss_of_any_measure_takes_the_gain_away(loss):
    gain = ALL if loss != "recall_reranked" else {"ndcg": 0.2, "ndcg_fused": 0.2}
    verdict = verdict_of([part(**gain | {loss: -0.1})])
    assert verdict.outcome == "not shown"
    assert len(verdict.losses) == 1
    assert "fell from 0.500 to 0.400" in verdict.losses[0]
    assert verdict.headline.endswith("1 measure is significantly worse")


def test_what_bm25_finds_is_no_loss_of_the_system():
    assert outcome(part(**ALL, recall_BM25=-0.1)) == "better"


def test_a_loss_without_a_gain_is_worse():
    verdict = verdict_of([part(recall=-0.1)])
    assert (verdict.outcome, verdict.losses) == ("worse", verdict.reasons)
    assert verdict.headline == f"Worse: {verdict.losses[0]}"
    assert outcome(part(recall=0.2, recall_fused=0.0, F1=-0.1)) == "worse"


def test_no_difference_says_what_could_have_been_shown():
    made = part(recall=0.0)
    gaps = [0.5, -0.5] * (MANY // 2)
    system = replace(made.results, measures={"R@10": [0.5 + gap for gap in gaps]})
    measures = compare(system, made.baseline, seed=1)
    verdict = verdict_of([replace(made, results=system, measures=measures)])
    assert verdict.outcome == "not shown"
    could = measures[0].against.detectable
    assert verdict.headline.endswith(
        f"of 24 queries of 24 documents, which could have shown a difference of {could:.3f}"
    )


# Answers


@pytest.mark.parametrize("measure", ["F1", "EM", "correctness", "faithfulness"])
def test_answers_gain_if_they_do_from_the_gold_passage_too(measure):
    gold = {f"{measure}_gold": 0.2} if measure in ("F1", "EM") else {"F1_gold": 0.2}
    verdict = verdict_of([part(**{measure: 0.2}, **gold)])
    assert verdict.outcome == "better"
    assert "the gain holds from the gold passage, too" in verdict.headline
    for other in (0.0, -0.1):
        assert outcome(part(**{measure: 0.2}, **dict.fromkeys(gold, other))) == "not shown"
    assert outcome(part(**{measure: 0.2})) == "not shown"


def test_answers_gain_with_the_search_behind_them():
    assert outcome(part(F1=0.2, F1_gold=0.0, **ALL)) == "better"
    assert outcome(part(F1=0.2, F1_gold=0.0, **ALL | {"recall_fused": 0.0})) == "not shown"


def test_answers_gain_if_they_were_read_as_they_are_in_use():
    assert outcome(part(F1=0.2, reranked=True)) == "better"
    assert outcome(part(F1=0.2, facts={"search_index": {"folder": "idx"}})) == "better"


@pytest.mark.parametrize("measure", ["grounding", "NLL", "containment"])
def test_other_measures_of_answers_make_nothing_better(measure):
    gain = -0.2 if measure == "NLL" else 0.2
    assert outcome(part(**{measure: gain, f"{measure}_gold": gain})) == "not shown"
    assert outcome(part(**{measure: -gain})) == "worse"


# Several parts


def test_questions_of_people_decide_before_generated_ones():
    none = part(HUMAN, recall=0.0, recall_fused=0.0)
    verdict = verdict_of([part(GENERATED, **ALL), none])
    assert verdict.outcome == "not shown"
    assert verdict.headline.startswith(
        "Not shown to be better: human questions: recall@10 is 0.500"
    )
    assert "generated questions (24 queries of 24 documents) don't decide: human questions do" in (
        verdict.reasons
    )
    assert outcome(part(HUMAN, **ALL), part(GENERATED, recall=0.0)) == "better"
    assert outcome(part(FEEDBACK, **ALL), part(GENERATED, recall=0.0)) == "better"


def test_generated_questions_decide_where_people_asked_too_few():
    few = part(HUMAN, documents=5, recall=0.0)
    verdict = verdict_of([few, part(GENERATED, **ALL)])
    assert verdict.outcome == "better"
    assert (
        "human questions (5 queries of 5 documents) don't decide: too few documents for 1 measure"
        in (verdict.reasons)
    )
    assert outcome(few, part(GENERATED, documents=5, **ALL)) == "not shown"


def test_several_measures_need_more_documents():
    # 7 documents allow p = 1/64, and 4 measures an adjusted p of 4/64.
    gains = dict.fromkeys(("recall", "ndcg", "EM", "grounding"), 0.2)
    verdict = verdict_of([part("", documents=7, **gains)])
    assert verdict.outcome == "not shown"
    assert verdict.reasons[-1] == (
        "questions (7 queries of 7 documents) don't decide: too few documents for 4 measures"
    )
    assert outcome(part("", documents=8, **gains)) == "better"


def test_a_loss_on_a_part_that_doesnt_decide_counts():
    assert outcome(part(HUMAN, **ALL), part(GENERATED, recall=-0.1)) == "not shown"
    assert outcome(part(HUMAN, recall=0.0), part(GENERATED, recall=-0.1)) == "worse"


def test_the_guard_can_only_lose():
    assert outcome(part(GUARD, **ALL)) == "not shown"
    assert outcome(part(GUARD, **ALL), part(recall=0.0)) == "not shown"
    assert outcome(part(**ALL), part(GUARD, recall=0.0)) == "better"
    verdict = verdict_of([part(**ALL), part(GUARD, recall_fused=-0.1, recall=0.0)])
    assert verdict.outcome == "not shown"
    assert verdict.losses[0].startswith("general questions: recall@10, fused with BM25 fell from")


def test_p_is_multiplied_by_the_number_of_deciding_parts():
    # One measure; 6 documents that all gain have p = 2/64: significant alone, not times two.
    assert outcome(part(HUMAN, documents=6, recall=0.2)) == "better"
    both = [part(HUMAN, documents=6, recall=0.2), part(FEEDBACK, documents=7, recall=0.0)]
    assert outcome(*both) == "not shown"
    both = [part(HUMAN, documents=7, recall=0.2), part(FEEDBACK, documents=7, recall=0.0)]
    verdict = verdict_of(both)
    assert verdict.outcome == "better"
    assert verdict.reasons[0] == (
        "human questions and feedback decide: p, times 2, has to be at most 0.05"
    )


def test_nothing_to_compare_is_not_shown():
    assert verdict_of([]).headline == "Not shown to be better: nothing was compared"
    assert outcome(part(documents=1, recall=0.5)) == "not shown"


# Chance


def test_two_equal_systems_are_rarely_called_better():
    """Of 400 pairs of equal systems at most 5 % are called better; the rule says half of it."""
    random = np.random.default_rng(7)
    better = sum(verdict_of(equal_parts(random)).switches for _ in range(400))
    assert better <= 0.05 * 400


def equal_parts(random):
    """Two parts of 12 documents; a system's values are drawn as the baseline's are."""
    parts = []
    for name in (HUMAN, FEEDBACK):
        columns = [
            {measure: random.random(12).round(1).tolist() for measure in ("R@1", "R@10", "EM")}
            for _ in range(2)
        ]
        groups = [f"d{i}" for i in range(12)]
        pair = [
            results(each, groups=groups, values=[0.0] * 12, measures=columns[i])
            for i, each in enumerate(("tuned", "base"))
        ]
        made = compare(*pair, seed=1)
        parts.append(Part(name=name, results=pair[0], baseline=pair[1], measures=made))
    return parts


# Saved runs


def test_a_part_is_read_from_a_run_folder(tmp_path):
    made = part(**ALL)
    save(tmp_path, made.results, {"seed": 1})
    with pytest.raises(UserError, match="has no baseline to compare with"):
        Part.read(GENERATED, tmp_path)
    save(tmp_path / BASELINE, made.baseline, {})
    read = Part.read(GENERATED, tmp_path)
    assert read.measures == made.measures
    assert verdict_of([read]) == verdict_of([made])


def test_each_further_gain_says_over_how_many_questions_it_is():
    made = part(recall=0.2, ndcg=0.2, EM=0.2)
    some = {**made.results.measures, "EM": [0.7] * 20 + [None] * 4}
    system = replace(made.results, measures=some)
    made = replace(made, results=system, measures=compare(system, made.baseline, seed=1))
    assert (
        "generated questions: significantly better, too: nDCG@10 (24 queries of 24 documents); EM "
        "(20 queries of 20 documents)"
    ) in verdict_of([made]).reasons
