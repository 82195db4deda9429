import pytest

from dalm.eval.answer_metrics import (
    abstains,
    containment,
    exact_match,
    grounding,
    normalise_answer,
    rouge_l,
    token_f1,
)
from dalm.eval.metrics import metrics_that_need, score_answers
from dalm.records import JudgedQuery


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel\tTower.", "eiffel tower"),
        ("An answer, a thing; the END!", "answer thing end"),
        ("a.m.", "am"),  # punctuation goes first, so no article is left
        ("don't", "dont"),
        ("theory of another", "theory of another"),
        ("the", ""),
        ("“curly” – dash", "“curly” – dash"),  # only ASCII punctuation goes, as officially
        ("", ""),
    ],
)
def test_normalise(text, expected):
    assert normalise_answer(text) == expected


@pytest.mark.parametrize(
    ("prediction", "reference", "em", "f1", "contained"),
    [
        ("The cat.", "cat", 1, 1, 1),
        ("cat sat", "the cat", 0, 2 / 3, 1),
        ("cat cat dog", "cat cat cat", 0, 2 / 3, 0),
        ("dog", "cat", 0, 0, 0),
        ("start", "art", 0, 0, 0),
        ("in the year 1999, probably", "year 1999", 0, 2 * 2 / (4 + 2), 1),
        ("1999 year", "year 1999", 0, 1, 0),
        ("", "", 1, 1, 1),
        ("the", "a", 1, 1, 1),
        ("", "cat", 0, 0, 0),
        ("cat", "", 0, 0, 0),
        ("...", "cat", 0, 0, 0),
    ],
)
def test_by_hand(prediction, reference, em, f1, contained):
    assert exact_match(prediction, [reference]) == em
    assert token_f1(prediction, [reference]) == pytest.approx(f1)
    assert containment(prediction, [reference]) == contained


def test_the_best_reference_counts():
    assert token_f1("big cat", ["dog", "cat", "cat big"]) == 1
    assert exact_match("big cat", ["dog", "big cat"]) == 1
    assert containment("big cat", ["dog", "cat"]) == 1


def test_a_value_per_query():
    references = [("cat",), ("dog", "horse"), ()]
    queries = [JudgedQuery(id="", query="", references=each) for each in references]
    metrics = metrics_that_need("references")
    assert score_answers(metrics, ["cat", "big dog", "a"], queries, [()] * 3) == {
        "EM": [1, 0, None],
        "F1": [1, pytest.approx(2 / 3), None],
        "containment": [1, 1, None],
        "ROUGE-L": [1, pytest.approx(2 / 3), None],
    }
    with pytest.raises(ValueError, match="longer"):
        score_answers(metrics, ["cat"], queries, [()] * 3)


def test_references_are_a_list():
    for references in ([], "cat"):
        with pytest.raises(ValueError, match="list of one reference"):
            exact_match("cat", references)


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("police killed the gunman", "police kill the gunman", 3 / 4),  # Lin 2004, section 3
        ("the gunman kill police", "police kill the gunman", 2 / 4),
        ("The cat!", "the cat", 1),
        ("a b c d", "a x b y c", 2 * 3 / 9),
        ("", "", 1),
        ("...", "cat", 0),
        ("Straße é", "straße é", 1),
    ],
)
def test_rouge_l_by_hand(prediction, reference, expected):
    assert rouge_l(prediction, [reference]) == pytest.approx(expected)
    assert rouge_l(prediction, ["other words", reference]) == pytest.approx(max(expected, 0))


def test_grounding_is_the_share_of_words_in_the_passages():
    passages = ["Ada lives in Ulm.", "She keeps a dog."]
    assert grounding("in Ulm, the dog", passages) == 1  # an article counts as nothing
    assert grounding("in Bern", passages) == 0.5
    assert grounding("Bern", []) == 0
    assert grounding("the", passages) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "I don't know.",
        "I do not know",
        "Unanswerable",
        "The passage does not mention it.",
        "The answer is not given in the text.",
        "There is no information on that.",
        "It can’t be determined from the passage.",
        "unknown",
    ],
)
def test_an_abstention(text):
    assert abstains(text)


@pytest.mark.parametrize(
    "text",
    ["in Ulm", "no", "None", "He knows Ulm", "do not stop " * 20 + "unknown", "not before 3"],
)
def test_an_answer_is_no_abstention(text):
    assert not abstains(text)
