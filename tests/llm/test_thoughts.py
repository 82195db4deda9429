import json
import time

import pytest

from dalm.llm.thoughts import thinking, without_thoughts

DRAFT = '{"name": "draft"}'
REPLY = '{"name": "a"}'


@pytest.mark.parametrize(
    "text",
    [
        f"<think>{DRAFT}</think>{REPLY}",
        f"Let me see. Perhaps {DRAFT}\n</think>\n\n{REPLY}",
        f"<Think>\n{DRAFT}\n</THINK>\n{REPLY}",
        f"<thinking>{DRAFT}</thinking>\n{REPLY}",
        f"<thought>{DRAFT}</thought>{REPLY}",
        f"{DRAFT} </ think >{REPLY}",
        f"<seed:think>{DRAFT}</seed:think>{REPLY}",
        f"[THINK]{DRAFT}[/THINK]{REPLY}",
        f"◁think▷{DRAFT}◁/think▷{REPLY}",
        f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{REPLY}<|END_RESPONSE|>",
        f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{REPLY}",
        f"<think>a</think> {DRAFT} <think>b</think>{REPLY}",
        f"<think>{DRAFT}</think>{REPLY}<think>and one more",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final"
        f"<|message|>{REPLY}<|return|>",
        f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final "
        f"<|constrain|>json<|message|>{REPLY}",
        f"<|channel>thought\n{DRAFT}<channel|>{REPLY}",
        f"analysisWe need JSON, like {DRAFT}assistantfinal{REPLY}",
        f"Here is my thought process: {DRAFT} Here is my response: {REPLY}",
        f"{REPLY}<think>that should do</think>",
        REPLY,
    ],
)
def test_what_follows_the_last_closing_mark_is_the_reply(text):
    assert without_thoughts(text).strip() == REPLY


@pytest.mark.parametrize(
    "text",
    [
        "<think>and never an end",
        "<|channel|>analysis<|message|>We need",
        "[THINK]hm",
        "so that is it</think>",
        "<think>a</think>\n<think>b",
        "",
    ],
)
def test_reasoning_alone_is_no_reply(text):
    assert without_thoughts(text).strip() == ""


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"question": "What does </think> close?", "answer": "<think>"}),
        "Here: " + json.dumps([{"quote": "a </think> b", "of": {"x": "[/THINK]"}}]),
        "{'question': 'What does </think> close?',}",
        "The tag `</think>` closes the reasoning, “<think>” opens it.",
        "Press [ANALYSIS], see <reason> and [thinks].",
    ],
)
def test_marks_that_a_reply_quotes_are_its_own(text):
    assert without_thoughts(text) == text


def test_a_draft_before_a_reply_that_quotes_a_mark():
    reply = json.dumps({"question": "What does </think> close?"})
    assert without_thoughts(f"I could ask about </think> here: {DRAFT}\n</think>{reply}") == reply


def test_the_first_piece_of_a_stream_tells_whether_it_is_reasoning():
    text = "<Thinking>hm</thinking> In Ulm."
    begun = [thinking(text[:end]) for end in range(len(text) + 1)]
    assert begun.index(False) == text.index("</thinking>") + len("</thinking>")
    assert not any(begun[begun.index(False) :])
    assert not thinking("<b>In Ulm")
    assert not thinking("In Ulm")


def test_hostile_replies_take_no_time():
    start = time.process_time()
    for text in ("<think>" * 20_000, "</think>{" * 20_000, "<|channel|>final" * 20_000):
        without_thoughts(text)
    assert time.process_time() - start < 5
