from dataclasses import replace

from dalm.eval.judge.judge_prompts import correctness, faithfulness, preference
from dalm.records import JudgedQuery

QUERY = JudgedQuery(id="q", query="Where?", references=("in Ulm", "at Ulm"))
ALONE = JudgedQuery(id="q", query="Where?")


def test_passages_are_reversed_and_change_places_with_the_answer():
    case = faithfulness(QUERY, "Ulm", ["one", "two"])
    assert case.first == ("Question:\nWhere?", "Passages:\n1. one\n\n2. two", "Answer:\nUlm")
    assert case.swapped == ("Question:\nWhere?", "Answer:\nUlm", "Passages:\n1. two\n\n2. one")
    assert "at Ulm" not in str(case), "the references would tell what to say"


def test_references_are_reversed_and_change_places_with_the_answer():
    case = correctness(QUERY, "Ulm")
    assert case.first[1:] == ("Reference answers:\n1. in Ulm\n\n2. at Ulm", "Answer:\nUlm")
    assert case.swapped[1:] == ("Answer:\nUlm", "Reference answers:\n1. at Ulm\n\n2. in Ulm")


def test_answers_change_letters_and_are_held_against_references_or_passages():
    case = preference(QUERY, "Ulm", "", ["one"])
    assert case.first[1:] == (
        "Reference answers:\n1. in Ulm\n\n2. at Ulm",
        "Answer A:\nUlm",
        "Answer B:\n(no answer)",
    )
    assert case.swapped[2:] == ("Answer A:\n(no answer)", "Answer B:\nUlm")
    assert preference(ALONE, "Ulm", "Bern", ["one"]).first[1] == "Passages:\none"


def test_a_key_is_of_prompt_model_and_parameters():
    def key(answer="Ulm", model="m", query=QUERY, place=0, **parameters) -> str:
        return correctness(query, answer).requests(model, parameters)[place].key

    same = key()
    assert same == key(query=replace(QUERY, id="other"))
    others = [key("Bern"), key(model="n"), key(seed=1), key(query=ALONE), key(place=1)]
    assert len({same, *others}) == 6


def test_the_journal_is_told_what_a_request_is_about():
    requests = preference(QUERY, "Ulm", "Bern", []).requests("m", {})
    assert [request.about for request in requests] == [
        {"query": "q", "asked": "preference", "order": order} for order in ("first", "swapped")
    ]
    assert "Answer A:\nBern" in requests[1].messages[1]["content"]
