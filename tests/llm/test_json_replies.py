import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalm.llm.json_replies import by_name, is_unclosed, is_whole, objects, one_line
from dalm.llm.thoughts import without_thoughts


def named(text: str) -> list[str]:
    return [found["name"] for found in objects(text, lambda each: "name" in each)]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a"} {"name": "b"}',
        'Here:\n```json\n[{"name": "a"}, {"name": "b"}]\n```\nEnjoy!',
        '{"all": {"1": {"name": "a"}, "2": [{"name": "b", "of": {"name": "c"}}]}}',
        "{'name': 'a'} {'name': 'b',}",
        '{"all": [{"name": "a"}, {"name": "b"}, {"na',
        'a set is {1, 2} { and {"name": "a"} or {"name": "b",}',
    ],
)
def test_objects_are_found_wherever_they_begin(text):
    assert named(text) == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a"} {"name": "b" "other": 1}',
        '{name: "a"} {"name": "b",, "other": 1}',
        '{"name": "a", // the first\n "other": 1} {"name": b}',
    ],
)
def test_malformed_objects_are_repaired(text):
    assert named(text) == ["a", "b"]


def test_quotation_marks_that_are_not_escaped():
    assert named('{"name": "the "Iron Maid" of Ulm", "of": 1}') == ['the "Iron Maid" of Ulm']


def test_escapes_are_those_of_the_language():
    assert named(r"""{'name': 'It\'s\xa0"x"'} {"name": "\ud83d\ude00\/", }""") == [
        'It\'s\N{NO-BREAK SPACE}"x"',
        "\N{GRINNING FACE}/",
    ]


def test_what_was_cut_short_is_not_passed_off_as_whole():
    assert named('{"name": "a"} {"name": "b", "other": "half of') == ["a"]


def test_a_long_malformed_object_takes_no_time():
    start = time.process_time()
    assert named("{'" + "\"'" * 50_000 + "}" + '{"name": "a"}') == ["a"]
    assert time.process_time() - start < 5


WHOLE = ['{"a": "}\\""}', '[1, {"b": "["}]', '```json\n{"a": 1}\n```']


@pytest.mark.parametrize("text", WHOLE)
def test_a_text_that_is_nothing_but_json(text):
    assert is_whole(text)
    assert not is_unclosed(text)
    assert not is_whole(f"Here: {text}")


def test_json_that_ends_too_early_is_unclosed():
    text = WHOLE[0] + WHOLE[1]
    closed = {0, len(WHOLE[0]), len(text)}
    assert {cut for cut in range(len(text) + 1) if not is_unclosed(text[:cut])} == closed
    assert not is_unclosed('no "JSON" here')


def test_names_and_lines():
    assert by_name({" Name ": 1, 2: "x"}) == {"name": 1, "2": "x"}
    assert one_line(" a\n b\t\ud83d ") == "a b ?"
    assert one_line("a\0b \x1b[0m") == "a b [0m", "csv holds no NUL, a terminal obeys an escape"


@settings(deadline=None, database=None, derandomize=True)
@given(st.text(alphabet="{}[]\",:\\'nametru1 \n", max_size=300))
def test_nothing_makes_it_fail(text):
    named(without_thoughts(text))
