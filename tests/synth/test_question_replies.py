import json
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dalm.llm.json_replies import one_line
from dalm.synth.question_replies import Draft, is_empty_list, parse

ONE = {"question": "What burns?", "answer": "peat", "quote": "It burns peat.", "kind": "fact"}
TWO = {"question": "Who is it?", "answer": "Ada", "quote": "Ada.", "kind": "how"}
DRAFTS = [
    Draft("What burns?", "peat", "It burns peat.", "", "fact"),
    Draft("Who is it?", "Ada", "Ada.", "", "how"),
]
WHOLE = json.dumps({"questions": [ONE, TWO]})


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        json.dumps([ONE, TWO]),
        json.dumps(ONE) + "\n" + json.dumps(TWO),
        json.dumps({"result": {"items": {"1": ONE, "2": TWO}}}),
        f"Here they are:\n```json\n{json.dumps({'questions': [ONE, TWO]}, indent=2)}\n```\nEnjoy!",
        f"<think>{json.dumps(TWO)} or not</think>\n{WHOLE}",
        str({"questions": [ONE, TWO]}),
        WHOLE.replace("}]", "},]").replace('"fact"}', '"fact",}'),
        WHOLE.replace("question", "Query").replace("quote", "evidence"),
        WHOLE.replace("questions", "queries").replace("kind", "type"),
        "Query: What burns?\nAnswer: peat\nQuote: It burns peat.\nType: fact\n"
        "Query: Who is it?\nAnswer: Ada\nQuote: Ada.\nType: how",
        "1. Question: What burns?\nAnswer: peat\nQuote: It burns peat.\nKind: fact\n\n"
        "2. **Question:** Who is it?\n**Answer:** Ada\nQuote: Ada.\nKind: how",
    ],
)
def test_the_same_questions_in_many_guises(text):
    assert parse(text) == DRAFTS


@pytest.mark.parametrize("cut", range(len(WHOLE)))
def test_an_answer_cut_anywhere_keeps_its_whole_questions(cut):
    first_end = WHOLE.index("}") + 1
    second_end = WHOLE.index("}", first_end) + 1
    whole = (cut >= first_end) + (cut >= second_end)
    assert parse(WHOLE[:cut]) == DRAFTS[:whole]


def test_values_of_other_kinds_become_text():
    text = json.dumps({"question": "How\n many?", "answer": 12, "quote": ["a", "b"], "kind": None})
    assert parse(text) == [Draft("How many?", "12", "a, b")]
    assert parse('{"question": "Is it?", "answer": true}') == []
    assert parse('{"question": "", "answer": "x"}') == []
    [draft] = parse('{"question": "\\ud83d is what?", "answer": "x\\u0000y"}')
    draft.question.encode()


@pytest.mark.parametrize(
    ("text", "empty"),
    [
        ('{"questions": []}', True),
        ('{"queries": []}', True),
        ("```json\n[]\n```", True),
        ("<think>none here</think>{}", True),
        ("", False),
        ("I can't.", False),
        (WHOLE, False),
    ],
)
def test_an_empty_list_is_an_answer(text, empty):
    assert is_empty_list(text) is empty
    assert parse(text) == (DRAFTS if text == WHOLE else [])


def test_hostile_answers_take_no_time():
    start = time.process_time()
    for text in ("{" * 10**6, '{"a":' * 10**5, "[{" * 10**5, '{"a":[' * 5000 + "}" * 5000):
        assert parse(text) == []
    assert parse("Q: x\nA: " * 50_000)
    assert time.process_time() - start < 20  # squares of lengths would take minutes


PIECES = st.sampled_from(
    [
        *(json.dumps(ONE), json.dumps(TWO), '{"questions": [', "question", "Q: a?", "A: b"),
        *("```json", "<think>", "</think>", "'", "\\", "\n", "\ud800", "\x00", *'{}[],:"'),
    ]
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.lists(PIECES | st.text(max_size=8), max_size=20).map("".join))
@example("{[]: 1}")
@example('{"question": 1e999, "answer": NaN}')
@example("{'question': '\\N{NO SUCH SIGN}', 'answer': 1}")
def test_nothing_breaks_it(text):
    for draft in parse(text):
        assert draft.question
        assert draft.answer
        assert "\n" not in draft.question
        json.dumps(draft.question).encode()
        draft.answer.encode()
    is_empty_list(text)


FIELD = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(
    str.strip
)


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=5), st.booleans())
def test_whatever_the_texts_hold_json_is_read_back(texts, plain):
    items = [{"question": q, "answer": a, "quote": "", "kind": ""} for q, a in texts]
    found = parse(json.dumps({"questions": items}, ensure_ascii=plain))
    told = [(one_line(q), one_line(a)) for q, a in texts]
    assert [(d.question, d.answer) for d in found] == [(q, a) for q, a in told if q and a]
