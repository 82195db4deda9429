import pytest

from dalm.eval.answer_metrics import citation_precision, citation_recall
from dalm.eval.answers import score_answers
from dalm.eval.metrics import metrics_that_need
from dalm.rag.citations import KnownCitations, cited, drop_unknown, without_citations
from dalm.records import Hit, JudgedQuery, Passage

READ = [Hit(Passage(name, f"text {name}"), 1.0) for name in "abc"]


@pytest.mark.parametrize(
    ("answer", "numbers", "plain"),
    [
        ("in Ulm [1].", {1}, "in Ulm."),
        ("in Ulm [1][3], in Bern [2]", {1, 2, 3}, "in Ulm, in Bern"),
        ("in Ulm [ 1, 3; 1 ]", {1, 3}, "in Ulm"),
        ("[2]", {2}, ""),
        ("在乌尔姆【1】，或［2、3］。", {1, 2, 3}, "在乌尔姆，或。"),
        ("in Ulm", set(), "in Ulm"),
        ("in [Ulm] since [19th] [a1] [] (1)", set(), "in [Ulm] since [19th] [a1] [] (1)"),
        ("", set(), ""),
    ],
)
def test_citations_are_numbers_in_brackets(answer, numbers, plain):
    assert cited(answer) == numbers
    assert without_citations(answer) == plain


@pytest.mark.parametrize(
    ("answer", "gold", "precision", "recall"),
    [
        ("in Ulm [1].", ["a"], 1, 1),
        ("in Ulm [1][2].", ["a"], 1 / 2, 1),
        ("in Ulm [2].", ["a"], 0, 0),
        ("in Ulm [1].", ["a", "b"], 1, 1 / 2),
        ("in Ulm [1]. Really [1, 2].", ["b", "a"], 1, 1),
        ("in Ulm [1][7].", ["a"], 1 / 2, 1),  # there is no seventh passage
        ("in Ulm [0].", ["a"], 0, 0),
        ("in Ulm.", ["a"], None, 0),
        ("in Ulm [1].", ["z"], 0, None),  # what is relevant wasn't in the prompt
        ("in Ulm [1].", [], None, None),
    ],
)
def test_by_hand(answer, gold, precision, recall):
    assert citation_precision(answer, READ, gold) == precision
    assert citation_recall(answer, READ, gold) == recall


def test_a_value_per_query():
    queries = [
        JudgedQuery(id="1", query="q", relevant={"a": 1, "b": 2, "c": 0}),
        JudgedQuery(id="2", query="q"),
    ]
    metrics = metrics_that_need("citations")
    assert score_answers(metrics, ["Ulm [2, 3]", "Ulm [1]"], queries, [READ, READ]) == {
        "citation precision": [1 / 2, None],
        "citation recall": [1 / 2, None],
    }


@pytest.mark.parametrize(
    ("answer", "kept", "dropped"),
    [
        ("in Ulm [1].", "in Ulm [1].", 0),
        ("in Ulm [4], in Bern [2]", "in Ulm, in Bern [2]", 1),
        ("in Ulm [1, 9; 2; 0]", "in Ulm [1, 2]", 2),
        ("in Ulm", "in Ulm", 0),
    ],
)
def test_a_number_that_no_passage_has_is_dropped(answer, kept, dropped):
    assert drop_unknown(answer, 3) == (kept, dropped)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_pieces_of_a_stream_have_no_number_that_no_passage_has(size):
    answer = "In Ulm [4], in  Bern [2] [1, 9] or 【3、0】. A list [a], x[1 is open [12"
    known = KnownCitations(3)
    pieces = list(known.of(answer[at : at + size] for at in range(0, len(answer), size)))
    assert ("".join(pieces), known.dropped) == drop_unknown(answer, 3)
    assert all(pieces)


def test_pieces_are_held_back_only_where_a_citation_may_begin():
    known = KnownCitations(3)
    received = []
    pieces = known.of(
        received.append(piece) or piece for piece in ["in", " Ulm", " [", "1", "]", "."]
    )
    assert [(piece, len(received)) for piece in pieces] == [
        ("in", 1),
        (" Ulm", 2),
        (" [1]", 5),
        (".", 6),
    ]
