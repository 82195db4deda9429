import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalm.llm.json_replies import by_name, objects, one_line, without_thoughts


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


def test_thoughts_are_left_out():
    assert without_thoughts('<think>{"name": "x"}</think>{"name": "a"}') == '{"name": "a"}'
    assert without_thoughts('{"name": "a"}<think>and never an end') == '{"name": "a"}'


def test_names_and_lines():
    assert by_name({" Name ": 1, 2: "x"}) == {"name": 1, "2": "x"}
    assert one_line(" a\n b\t\ud83d ") == "a b ?"


@settings(deadline=None, database=None, derandomize=True)
@given(st.text(alphabet="{}[]\",:\\'nametru1 \n", max_size=300))
def test_nothing_makes_it_fail(text):
    named(without_thoughts(text))
