import pytest

from dalm.records import Passage
from dalm.synth.line_prompts import LinePrompt, supporting_sentence
from dalm.synth.query_mix import QueryMix, Slot
from dalm.synth.question_prompts import requests_of
from dalm.synth.question_replies import Draft

TEXT = "The pump in Ulm was built in 1874. It holds 12 bar, says Dr. Ada Holm. It never sleeps."
PASSAGE = Passage.of(TEXT, "Pumps")
PROMPT = LinePrompt((Slot("keywords", "long"),))


def test_a_prompt_is_a_worked_example_and_the_passage():
    system, example, reply, asked = PROMPT.messages(PASSAGE, None)
    assert [each["role"] for each in (system, example, reply, asked)] == [
        *("system", "user", "assistant", "user")
    ]
    assert reply["content"].startswith("Keywords: Ulm pump cut-off pressure\nAnswer: It switches")
    assert asked["content"].startswith(f"Title: Pumps\nPassage: {TEXT}")
    assert "two to six words as typed into a search box" in asked["content"]


def test_each_query_is_a_request():
    mix = QueryMix(4, {"keywords": 0.5, "title": 0.5}, {"short": 1.0}, lines=True)
    requests = requests_of([PASSAGE, Passage.of("Other text.")], mix, "m", {})
    types = [(r.passage.text, r.prompt.slots[0].query_type) for r in requests]
    assert {(text, name) for text in (TEXT, "Other text.") for name in mix.query_types} == {*types}
    assert len({request.key for request in requests}) == 4
    assert {request.response_format for request in requests} == {None}


@pytest.mark.parametrize(
    "text",
    [
        "Keywords: Ulm pump pressure\nAnswer: It holds 12 bar",
        "Ulm pump pressure\n\nanswer： It holds\n12 bar\n\nThis is a good query.",
        "<think>Answer: which?</think>Query: Ulm pump pressure\nAnswer: It holds 12 bar",
    ],
)
def test_a_reply_is_read_up_to_its_answer(text):
    quote = "It holds 12 bar, says Dr. Ada Holm."
    assert PROMPT.drafts(text, PASSAGE) == [
        Draft("Ulm pump pressure", "It holds 12 bar", quote, kind="keywords")
    ]


def test_of_a_reply_that_is_cut_off_only_a_whole_answer_counts():
    half = "Keywords: Ulm pump pressure\nAnswer: It holds"
    assert PROMPT.drafts(half, PASSAGE, cut=True) == []
    [draft] = PROMPT.drafts(f"{half} 12 bar\n\nKeywords: Ulm", PASSAGE, cut=True)
    assert draft.answer == "It holds 12 bar"


@pytest.mark.parametrize(
    "text", ["", "Answer: 12 bar", "Keywords: Ulm pump", "The passage is fit."]
)
def test_half_a_reply_is_none(text):
    assert PROMPT.drafts(text, PASSAGE) == []


def test_the_quote_is_the_sentence_that_holds_most_of_the_answer():
    assert (
        supporting_sentence(TEXT, "the pump is never asleep")
        == "The pump in Ulm was built in 1874."
    )
    assert supporting_sentence(TEXT, "in 1874") == "The pump in Ulm was built in 1874."
    assert supporting_sentence(TEXT, "sleeping never") == "It never sleeps."
    assert supporting_sentence(TEXT, "by train") == ""
