"""Prompts put together from hand-made tokens, and chat templates that keep or lose a piece."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dalm.prompts import (
    CITE,
    INSTRUCTION,
    PLAIN,
    Frame,
    Message,
    chat,
    numbered,
    plain,
    retriever_prompts,
    shares,
)

FRAME = Frame(opening=[1, 2], passage=[3], query=[4, 5], answer=[6], end=9)
QUERY, ANSWER = [40, 41], [60, 61, 62]
FIXED = 2 + 2 + 2 + 1
"""Opening, query mark, query and answer mark."""


def passage(length: int, first: int = 100) -> list[int]:
    return list(range(first, first + length))


def test_one_passage_with_room_to_spare() -> None:
    prompt = FRAME.join([passage(3)], QUERY, ANSWER, 50)
    assert prompt.tokens == [1, 2, 3, 100, 101, 102, 4, 5, 40, 41, 6, 60, 61, 62, 9]
    assert prompt.answer_start == 11
    assert prompt.tokens[prompt.answer_start :] == [*ANSWER, 9]
    assert prompt.length == 15


def test_without_an_answer_it_ends_where_the_answer_begins() -> None:
    asked = FRAME.join([passage(3)], QUERY, None, 50)
    told = FRAME.join([passage(3)], QUERY, ANSWER, 50)
    assert asked.tokens == told.tokens[: told.answer_start]
    assert asked.answer_start == asked.length == told.answer_start


def test_no_passage() -> None:
    prompt = FRAME.join([], QUERY, ANSWER, 50)
    assert prompt.tokens == [1, 2, 4, 5, 40, 41, 6, 60, 61, 62, 9]
    assert prompt.answer_start == 7


def test_several_passages_each_behind_its_mark() -> None:
    prompt = FRAME.join([passage(2), passage(1, 200)], QUERY, None, 50)
    assert prompt.tokens == [1, 2, 3, 100, 101, 3, 200, 4, 5, 40, 41, 6]


@pytest.mark.parametrize("most", range(FIXED + 1 + 4, FIXED + 1 + 4 + 12))
def test_truncation_shortens_the_passage_alone(most: int) -> None:
    prompt = FRAME.join([passage(10)], QUERY, ANSWER, most)
    room = most - FIXED - 1 - len(ANSWER) - 1
    kept = passage(10)[:room]
    assert prompt.tokens == [1, 2, 3, *kept, 4, 5, *QUERY, 6, *ANSWER, 9]
    assert prompt.length == min(most, FIXED + 1 + 10 + 4)
    assert prompt.tokens[prompt.answer_start :] == [*ANSWER, 9]


def test_long_passages_share_the_room_and_short_ones_stay_whole() -> None:
    long, short, other = passage(30), passage(2, 200), passage(30, 300)
    prompt = FRAME.join([long, short, other], QUERY, None, FIXED + 3 + 12)
    body = [3, *long[:5], 3, *short, 3, *other[:5]]
    assert prompt.tokens == [1, 2, *body, 4, 5, *QUERY, 6]


def test_no_room_is_refused_with_what_is_needed() -> None:
    needed = FIXED + 1 + len(ANSWER) + 1
    assert FRAME.join([passage(10)], QUERY, ANSWER, needed).length == needed
    with pytest.raises(ValueError, match=f"needs {needed} tokens"):
        FRAME.join([passage(10)], QUERY, ANSWER, needed - 1)


@pytest.mark.parametrize("passages", [0, 1, 3])
def test_overhead_is_what_is_neither_passage_nor_query_nor_answer(passages: int) -> None:
    prompt = FRAME.join([passage(4)] * passages, QUERY, ANSWER, 100)
    texts = 4 * passages + len(QUERY) + len(ANSWER)
    assert FRAME.overhead(passages) == prompt.length - texts


@pytest.mark.parametrize(
    ("lengths", "room", "expected"),
    [
        ([10, 2, 10], 12, [5, 2, 5]),
        ([10, 2, 10], 100, [10, 2, 10]),
        ([3, 3, 3], 8, [2, 3, 3]),
        ([5, 5], 0, [0, 0]),
        ([], 7, []),
        ([0, 9], 4, [0, 4]),
    ],
)
def test_shares(lengths: list[int], room: int, expected: list[int]) -> None:
    assert shares(lengths, room) == expected
    assert sum(expected) == min(room, sum(lengths))


# Chat templates


def tagged(write: Callable[[Message], str]) -> Callable[[list[Message]], str]:
    return lambda messages: "<s>" + "".join(f"<{m['role']}>{write(m)}</s>" for m in messages)


def test_a_faithful_chat_template() -> None:
    found = chat(tagged(lambda message: message["content"]))
    assert found is not None
    assert found.opening == f"<s><user>{INSTRUCTION}"
    assert (found.passage, found.query) == (PLAIN.passage, PLAIN.query)
    assert found.answer == "</s><assistant>"
    assert found.end == "</s>"


def test_a_chat_template_takes_another_instruction() -> None:
    found = chat(tagged(lambda message: message["content"]), plain(CITE))
    assert found is not None
    assert found.opening == f"<s><user>{CITE}"
    assert plain(INSTRUCTION) == PLAIN


def test_the_documents_show_what_asks_for_citations() -> None:
    assert f"*{CITE}*" in (Path(__file__).parents[1] / "docs/evaluation.md").read_text("utf-8")


def test_passages_are_numbered_from_one() -> None:
    assert numbered(["a", "b"]) == ["[1] a", "[2] b"]
    assert numbered([]) == []


def test_a_chat_template_that_strips_its_messages_is_kept() -> None:
    stripped = tagged(lambda message: message["content"].strip())
    assert chat(stripped) == chat(tagged(lambda message: message["content"]))


@pytest.mark.parametrize(
    "render",
    [
        lambda messages: f"<user>{messages[0]['content']}",
        lambda messages: "".join(m["content"] for m in messages if m["role"] == "assistant"),
        tagged(lambda message: " ".join(message["content"].split())),
        tagged(lambda message: message["content"].upper()),
        tagged(lambda message: message["content"] * 2),
        lambda ms: "".join(f"<{m['role']}>{m['content']}" for m in [*ms, ms[1]]),
        lambda messages: "",
    ],
    ids=["no assistant", "no user", "joins lines", "upper", "doubles", "answers twice", "nothing"],
)
def test_a_chat_template_that_loses_or_doubles_a_piece_is_refused(
    render: Callable[[list[Message]], str],
) -> None:
    assert chat(render) is None


# Prompts of embedding models


@pytest.mark.parametrize(
    ("name", "query", "passage"),
    [
        ("intfloat/e5-base-v2", "query: ", "passage: "),
        ("/models/multilingual-e5-small/", "query: ", "passage: "),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("BAAI/bge-m3", "", ""),
        ("me/some-e5-base-tuned", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
    ],
)
def test_retriever_prompts(name: str, query: str, passage: str) -> None:
    assert retriever_prompts(name) == (query, passage)
