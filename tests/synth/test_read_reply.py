import json

import pytest

from dalm.llm.language_model import Reply
from dalm.records import Passage
from dalm.synth.generation import read_reply
from dalm.synth.query_mix import Slot
from dalm.synth.question_prompts import QuestionPrompt, QuestionRequest

PASSAGE = Passage.of("The pump at Ulm holds 12 bar.", "Ulm")
SLOTS = (Slot("question", "short", "why"), Slot("keywords", "long"), Slot("how-to", "list"))


def read(queries: list[dict[str, str]], slots: tuple[Slot, ...] = SLOTS) -> tuple[list, list]:
    request = QuestionRequest("k", PASSAGE, None, QuestionPrompt(slots))
    rejections = []
    reply = Reply(json.dumps({"queries": queries}))
    return read_reply(reply, request, "m", rejections), rejections


@pytest.mark.parametrize(
    "names",
    [
        ("keywords", "how-to", "question"),
        ("Keyword", "How To", "questions"),
        ("KEYWORDS, long", "how_to", 'question" (short)'),
        ("", "", ""),
        ("search terms", "instruction", "2"),
    ],
)
def test_a_type_is_known_in_any_spelling_or_by_the_form(names):
    texts = ("Ulm pump pressure", "how do I start the big pump at Ulm", "What holds 12 bar in Ulm?")
    queries = [
        {"type": name, "query": text, "answer": "12 bar"}
        for name, text in zip(names, texts, strict=True)
    ]
    pairs, rejections = read(queries)
    assert not rejections
    found = {pair.query: (pair.query_type, pair.kind) for pair in pairs}
    if any(names[:1]) and names[0].lower().startswith("keyword"):
        types = [("keywords", None), ("how-to", None), ("question", "why")]
        assert found == dict(zip(texts, types, strict=True))
    else:
        assert found[texts[0]] == ("keywords", None)
        assert sorted(name for name, _ in found.values()) == ["how-to", "keywords", "question"]


def test_more_of_a_type_than_asked_for_takes_no_other_slot_and_too_many_are_rejected():
    queries = [{"type": "question", "query": f"What is {n}?", "answer": "12 bar"} for n in range(5)]
    pairs, rejections = read(queries)
    assert [pair.query_type for pair in pairs] == ["question"] * 3
    assert [each.query for each in rejections] == ["What is 3?", "What is 4?"]


@pytest.mark.parametrize("answer", ["unanswerable", "Unanswerable."])
def test_unanswerable_is_a_type_only_where_it_was_asked_for(answer):
    query = {"type": "question", "query": "Who sold the Ulm pump?", "answer": answer}
    [asked], _ = read([query], (Slot("question", "unanswerable"),))
    assert (asked.answer_type, asked.answerable) == ("unanswerable", False)
    [unasked], _ = read([query])
    assert unasked.answerable


@pytest.mark.parametrize(
    ("finish", "answers"), [("stop", ["12 bar", "It"]), ("length", ["12 bar"])]
)
def test_the_question_that_a_reply_is_cut_off_in_is_left_out(finish, answers):
    text = "Question: What holds it?\nAnswer: 12 bar\n\nQuestion: What does it hold?\nAnswer: It"
    request = QuestionRequest("k", PASSAGE, None, QuestionPrompt(SLOTS))
    pairs = read_reply(Reply(text, finish_reason=finish), request, "m", [])
    assert [pair.answer for pair in pairs] == answers


def test_a_reply_that_is_cut_off_before_its_first_question_says_so():
    rejections = []
    request = QuestionRequest("k", PASSAGE, None, QuestionPrompt(SLOTS))
    assert (
        read_reply(Reply('{"queries": [{"qu', finish_reason="length"), request, "m", rejections)
        == []
    )
    assert [each.reason for each in rejections] == ["it is cut off"]
