"""What an evaluation says of its own test set and answers."""

from dataclasses import replace

import pytest

from dalm.eval.comparison import compare
from dalm.eval.findings import findings, other_data
from tests.eval.example_results import BASE, TUNED, results

TWENTY = tuple(map(str, range(20)))
HALF = (1.0, 0.0) * 10


def found(made, baseline=None):
    return findings(made, compare(made, baseline))


def twenty(**measures):
    return results(groups=TWENTY, values=HALF, measures={"R@1": list(HALF), **measures})


def test_nothing_is_said_of_an_ordinary_evaluation():
    assert found(twenty(), twenty()) == []


def test_few_documents_are_named():
    few = results(groups=tuple("aabbccdd"), values=(0.5,) * 8)
    assert found(few) == [
        "the figures rest on 8 queries of 4 documents: with fewer than 10 independent ones "
        "intervals are wide, and say little about documents of another kind"
    ]
    one = replace(twenty(), measures={"R@1": list(HALF), "NLL": [1.0, 2.0] + [None] * 18})
    (note,) = found(one)
    assert note.startswith("NLL rests on 2 queries of 2 documents: with fewer than 10")


def test_what_no_difference_can_pass_is_said_beforehand():
    few = results(groups=tuple("abcdef"), values=(0.5,) * 6)
    notes = found(few, few)
    assert len(notes) == 2
    assert notes[1] == (
        "no difference can be significant with 6 queries of 6 documents and 2 measures: the "
        "adjusted p is at least 0.0625; add documents"
    )
    enough = results(groups=tuple("abcdefg"), values=(0.5,) * 7)
    assert len(found(enough, enough)) == 1


# Answers


def test_empty_answers_are_counted():
    made = replace(twenty(), answers={"found": ["x", " ", ""] + ["x"] * 17})
    assert found(made) == ["2 of 20 answers are empty (10%)"]


def test_an_empty_answer_to_an_unanswerable_question_is_right():
    made = replace(twenty(), answers={"found": [""] + ["x"] * 19})
    first, *others = made.queries
    marked = [replace(first, answerable=False), *others]
    assert found(replace(made, queries=marked)) == []


READS = {"F1[gold]": [0.9, 0.8] * 10, "F1[none]": [0.1, 0.3] * 10}
SAME = {"F1[gold]": [0.1, 0.3] * 10, "F1[none]": [0.3, 0.1] * 10}


def test_a_generator_that_does_not_read_is_named():
    (note,) = found(twenty(F1=[0.2] * 20, **SAME))
    assert note.startswith(
        "the generator isn't shown to read its passages; it may know the answers without them: "
        "F1 is 0.200 with the gold passage and 0.200 without (p = 1), over 20 queries of 20 "
    )
    assert "could have shown a difference of 0.1" in note


@pytest.mark.parametrize(("gold", "reads"), [(1.0, True), (3.0, False)])
def test_the_likelihood_shows_that_it_reads(gold, reads):
    nll = {"NLL": [1.5] * 20, "NLL[gold]": [gold] * 20, "NLL[none]": [2.0, 2.1] * 10}
    notes = found(twenty(F1=[0.2] * 20, **SAME, **nll))
    assert bool(notes) is not reads


def test_retrieval_that_helps_no_more_than_nothing_is_named():
    assert found(twenty(F1=[0.8, 0.9] * 10, **READS)) == []
    (note,) = found(twenty(F1=[0.3, 0.1] * 10, **READS))
    assert note.startswith("the answers aren't shown to gain from retrieval: F1 is 0.200 with")


# BM25


def words(solved, **columns):
    """Results over twelve documents, of which BM25 solves so many."""
    bm25 = [1.0] * solved + [0.0] * (12 - solved)
    columns = {"R@1": HALF[:12], "R@1[BM25]": bm25, "Success@1[BM25]": bm25} | columns
    return results(groups=TWENTY[:12], values=HALF[:12], measures=columns)


def test_a_test_set_that_words_alone_solve_is_named():
    figure, solved = found(words(9, **{"R@1[fused]": HALF[:12]}))
    assert figure == (
        "BM25, which matches words alone, has recall@1 0.750 on the same queries and passages"
    )
    assert solved == (
        "no retriever can show a gain over BM25 at rank 1 here: its hit rate@1 is 0.750, and 3 "
        "documents with a miss are too few (p is at least 0.25); ask in other words than the "
        "passages', or add documents"
    )


def test_a_retriever_that_adds_nothing_to_bm25_is_named():
    """Six documents with a miss leave room for a better retriever; five gained are too few."""
    six = {"R@1[fused]": [1.0] * 12}
    assert len(found(words(6, **six))) == 1
    five = {"R@1[fused]": [1.0] * 11 + [0.0]}
    _, note = found(words(6, **five))
    assert note.startswith(
        "fused with BM25, the retriever adds nothing significant to BM25: recall@1 is 0.917 fused "
        "and 0.500 by BM25 (adjusted p = 0.062), over 12 queries of 12 documents, which could have "
        "shown a difference of 0.4"
    )


def test_what_was_left_out_is_said():
    made = replace(twenty(), facts={"not_fused": "300,000 passages are more than 200,000"})
    assert found(made) == [
        "nothing is compared or fused with BM25: 300,000 passages are more than 200,000"
    ]


# A gain by stage of the search


def gained(alone, fused, reranked=None):
    """What is said of gains on so many of twelve documents, by stage, over a baseline of nothing.

    A negative one is a loss. BM25 is measured of neither.
    """
    stages = {"": alone, "fused": fused} | ({} if reranked is None else {"reranked": reranked})
    system, baseline = {}, {}
    for stage, count in stages.items():
        name = f"R@1[{stage}]" if stage else "R@1"
        changed = [1.0] * abs(count) + [0.0] * (12 - abs(count))
        mine, theirs = (changed, [0.0] * 12)[:: 1 if count >= 0 else -1]
        system[name], baseline[name] = mine, theirs
    pair = [
        results(groups=TWENTY[:12], values=HALF[:12], measures=each) for each in (system, baseline)
    ]
    return found(*pair)


def test_a_gain_that_fusion_undoes_is_named():
    (note,) = gained(alone=6, fused=4)
    assert note.startswith(
        "the gain alone (recall@1 +0.500, adjusted p = 0.031) is not significant once fused with "
        "BM25 (recall@1 +0.333, adjusted p = 0.125), over 12 queries of 12 documents, which could "
        "have shown a difference of 0.4"
    )


def test_a_gain_that_survives_is_named_too():
    fused, reranked = gained(alone=8, fused=7, reranked=0)
    assert fused == (
        "the gain alone (recall@1 +0.667, adjusted p = 0.008) is also significant once fused with "
        "BM25 (recall@1 +0.583, adjusted p = 0.016)"
    )
    assert reranked == (
        "the gain alone (recall@1 +0.667, adjusted p = 0.008) is not significant behind the "
        "reranker (recall@1 +0.000, adjusted p = 1.000), over 12 queries of 12 documents"
    )


def test_a_gain_that_becomes_a_loss_is_named():
    (note,) = gained(alone=6, fused=-6)
    assert "is a significant loss once fused with BM25 (recall@1 -0.500, adjusted p = 0.031" in note


def test_without_a_gain_alone_the_stages_say_nothing():
    assert gained(alone=4, fused=10) == []
    assert gained(alone=-10, fused=-10) == []


def test_passages_beside_the_knowledge_base_are_named():
    made = replace(TUNED, facts={"passages_added": 1})
    assert any(
        each.startswith("1 of 1 relevant passages aren't in the know") for each in found(made)
    )


def test_runs_on_other_data_are_compared_with_a_warning():
    assert list(other_data(TUNED, BASE)) == []
    queries = [replace(BASE.queries[0], relevant={"x": 1}, references=("y",)), *BASE.queries[1:]]
    searched = replace(TUNED, facts={"passages": 1200})
    assert list(other_data(searched, replace(BASE, queries=queries, facts={"passages": 30}))) == [
        "other passages are relevant to 1 of 4 queries in base",
        "the reference answers to 1 of 4 queries are others in base",
        "tuned searched 1,200 passages, base 30: fewer passages are easier to search",
    ]
