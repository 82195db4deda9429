"""What an evaluation says of its own test set and answers."""

from dataclasses import replace

import pytest

from dalm.eval.comparison import compare
from dalm.eval.findings import bm25_facts, findings
from dalm.io.evaluation_set import EvaluationSet
from dalm.records import JudgedQuery, Passage
from tests.eval.example_results import results

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
        "the generator doesn't read its passages, or knows the answers without them: F1 is 0.200 "
        "with the gold passage and 0.200 without (p = 1), over 20 queries of 20 documents"
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
    assert note.startswith("the answers gain nothing from retrieval: F1 is 0.200 with found pass")


# BM25


def judged(count):
    """A set of as many documents, in which the words of each query are in one passage alone."""
    names = [f"word{i}" for i in range(count)]
    passages = {name: Passage(name, f"about {name}") for name in names}
    queries = [JudgedQuery(id=f"q{n}", query=n, relevant={n: 1}, group=n) for n in names]
    return EvaluationSet(name="t", queries=queries, passages=passages)


def evaluated(dataset, unmatched=0):
    """Results whose first queries share no word with any passage."""
    asked = [
        replace(q, query="nothing") if i < unmatched else q for i, q in enumerate(dataset.queries)
    ]
    dataset = replace(dataset, queries=asked)
    made = results(groups=TWENTY, values=HALF, queries=asked, measures={"R@1": list(HALF)})
    return replace(made, facts={"bm25": bm25_facts(dataset, made, ["R@1"])})


def test_a_test_set_that_words_alone_solve_is_named():
    made = evaluated(judged(20), unmatched=5)
    assert made.facts["bm25"] == {"measures": {"R@1": 0.75, "Success@1": 0.75}, "unsolved": 5}
    figure, solved = found(made)
    assert figure == (
        "BM25, which matches words alone, has recall@1 0.750 on the same queries and passages"
    )
    assert solved == (
        "no retriever can show a gain over BM25 at rank 1 here: its hit rate@1 is 0.750, and 5 "
        "documents with a miss are too few (p is at least 0.0625); ask in other words than the "
        "passages', or add documents"
    )


def test_six_documents_with_a_miss_leave_room_for_a_better_retriever():
    assert len(found(evaluated(judged(20), unmatched=6))) == 1


def test_very_many_passages_are_not_searched_for_comparison(monkeypatch):
    monkeypatch.setattr("dalm.eval.findings.MOST_PASSAGES", 19)
    assert evaluated(judged(20)).facts["bm25"] == {}
    assert found(evaluated(judged(20))) == []


def test_without_judgements_there_is_nothing_to_compare():
    dataset = judged(20)
    unjudged = replace(dataset, queries=[replace(q, relevant={}) for q in dataset.queries])
    assert evaluated(unjudged).facts["bm25"] == {}
