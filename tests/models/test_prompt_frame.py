"""Prompts joined from hand-made tokens, chat templates that keep or lose a piece, frozen tokens."""

from collections.abc import Callable

import pytest

from dalm.models.prompt_frame import Frame, chat_texts, frame_of, shares, texts_of, tokenise
from dalm.prompts import DEFAULT, INSTRUCTION, Message, PromptTemplate

TAGGED = PromptTemplate(
    "Use the documents.", "\n<doc>\n{passage}\n</doc>", "\nQ: {question}\n", "A: "
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


def test_what_follows_a_passage_is_never_truncated() -> None:
    frame = Frame([1, 2], [3], [4, 5], [6], 9, passage_end=[7, 8])
    prompt = frame.join([passage(30), passage(2, 200)], QUERY, None, FIXED + 6 + 7)
    body = [3, *passage(5), 7, 8, 3, *passage(2, 200), 7, 8]
    assert prompt.tokens == [1, 2, *body, 4, 5, *QUERY, 6]
    assert frame.overhead(2) == prompt.length - 7 - len(QUERY) + 1
    with pytest.raises(ValueError, match=f"needs {FIXED + 6} tokens"):
        frame.join([passage(3), passage(3)], QUERY, None, FIXED + 5)


# Chat templates


def tagged(write: Callable[[Message], str]) -> Callable[[list[Message]], str]:
    return lambda messages: "<s>" + "".join(f"<{m['role']}>{write(m)}</s>" for m in messages)


def test_a_faithful_chat_template() -> None:
    found = chat_texts(tagged(lambda message: message["content"]))
    assert found is not None
    assert found.opening == f"<s><user>{INSTRUCTION}"
    assert (found.passage, found.query) == ("\n\nPassage:\n", "\n\nQuestion:\n")
    assert found.answer == "</s><assistant>"
    assert found.end == "</s>"


def test_a_chat_template_takes_another_prompt() -> None:
    found = chat_texts(tagged(lambda message: message["content"]), TAGGED)
    assert found is not None
    assert found.opening == "<s><user>Use the documents."
    assert (found.passage, found.passage_end) == ("\n<doc>\n", "\n</doc>")
    assert found.query == "\nQ: "
    assert found.answer == "\n</s><assistant>"


def test_a_chat_template_that_strips_its_messages_is_kept() -> None:
    stripped = tagged(lambda message: message["content"].strip())
    assert chat_texts(stripped) == chat_texts(tagged(lambda message: message["content"]))


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
    assert chat_texts(render) is None


# The tokens of the default prompt, as they were before it could be chosen

CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THE_QUESTION = [273, 261, 220, 80, 84, 68, 82, 83, 72, 78, 77]  # Answer the question
FROM_THE_PASSAGE = [220, 69, 81, 78, 76, 261, 268, 13]
USER = [257, 84, 82, 68, 81, 198]
ASSISTANT = [258, 198, 257, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198]
ADA_IN_ULM = [32, 67, 64, 220, 72, 77, 293, 13]
LINES = {"gpt2": [198, 198], "gpt4": [289]}
STOP = {"gpt2": [13, 198, 198], "gpt4": [288]}
"""A full stop and two line breaks: one token where the tokenizer has one."""
COLON = {"gpt2": [25, 198], "gpt4": [290]}


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("split", ["gpt2", "gpt4"])
def test_the_tokens_of_the_default_prompt_are_frozen(byte_pairs, split: str, chat: bool) -> None:
    tokenizer = byte_pairs(split)
    tokenizer.chat_template = CHAT_ML if chat else None
    frame, borders = frame_of(tokenizer, texts_of(tokenizer, DEFAULT))
    assert [border.blank for border in borders] == ["", "", ""]
    lines, colon, stop = LINES[split], COLON[split], STOP[split]
    asked = [*THE_QUESTION, *FROM_THE_PASSAGE[:-1], *stop, 279, *colon, *ADA_IN_ULM[:-1]]
    asked += [*stop, 279, *colon, 295, *lines, 286, *colon, 295, 30]
    before = [*USER, *asked, *ASSISTANT] if chat else [*asked, *lines, 273, *colon]
    prompt = frame.join(*pieces(tokenizer, borders, ["Ada in Ulm.", "Ulm"], "Ulm?", "Ulm"), 999)
    assert prompt.tokens == [*before, 295, 258 if chat else 256]
    assert prompt.answer_start == len(before)


def pieces(tokenizer, borders, passages, query, answer):
    """Return what `Frame.join` joins."""
    read, asked, written = (
        [tokens.tolist() for tokens in tokenise(tokenizer, texts, border)]
        for texts, border in zip((passages, [query], [answer]), borders, strict=True)
    )
    return read, asked[0], written[0]


ENDS = ["Ulm", "Ulm.", "(Ulm)", "“Ulm”", "Ulm…", "9 %", "Ulm. ", "Ulm.\n", "", "漢字。", "a/b/"]


@pytest.mark.parametrize("template", [DEFAULT, TAGGED])
@pytest.mark.parametrize("base", [None, CHAT_ML])
@pytest.mark.parametrize("split", ["gpt2", "gpt4"])
def test_a_joined_prompt_has_the_tokens_of_its_whole_text(byte_pairs, split, base, template):
    tokenizer = byte_pairs(split)
    tokenizer.chat_template = base
    texts = texts_of(tokenizer, template)
    frame, borders = frame_of(tokenizer, texts)
    for passage, query in zip(ENDS, reversed(ENDS), strict=True):
        # Line breaks before and after nothing are one token; so are some that end a text.
        if not passage or not query or (split == "gpt2" and "\n" in passage + query):
            continue
        prompt = frame.join(*pieces(tokenizer, borders, [passage], query, "Ulm"), 999)
        text = texts.prompt(passage, query)
        whole = tokenizer(text, add_special_tokens=False).input_ids
        assert prompt.tokens[: len(whole)] == whole
        assert tokenizer.decode(prompt.tokens[:-1]) == f"{text}{borders.answer.blank}Ulm"


def test_a_truncated_passage_keeps_its_line_breaks(byte_pairs) -> None:
    tokenizer = byte_pairs("gpt4")
    tokenizer.chat_template = None
    frame, borders = frame_of(tokenizer, texts_of(tokenizer, DEFAULT))
    read, asked, written = pieces(tokenizer, borders, ["Ulm " * 50 + "."], "Ulm?", "Ulm")
    whole = frame.join(read, asked, written, 999)
    least = frame.overhead() + len(asked) + len(written)
    for most in range(least, whole.length + 1):
        prompt = frame.join(read, asked, written, most)
        assert prompt.length == most
        text = tokenizer.decode(prompt.tokens)
        assert "\n\nQuestion:\nUlm?\n\nAnswer:\nUlm" in text
        assert text.count("Ulm") == 2 + min(most - least, 50)
    with pytest.raises(ValueError, match=f"needs {least} tokens"):
        frame.join(read, asked, written, least - 1)


def test_other_line_breaks_before_passage_and_question_are_tokenised_with_their_marks(
    byte_pairs,
) -> None:
    """What a text's last token is would depend on what follows it."""
    tokenizer = byte_pairs("gpt4")
    tokenizer.chat_template = None
    mixed = PromptTemplate("Read.", "\n{passage}", "\n\nQ: {question}", "\nA: ")
    frame, borders = frame_of(tokenizer, texts_of(tokenizer, mixed))
    assert tokenizer.decode(frame.query) == "\n\nQ:"
    assert borders.passage.breaks == ""


def test_a_blank_before_a_text_is_part_of_its_first_word(byte_pairs) -> None:
    tokenizer = byte_pairs("gpt2")
    frame, borders = frame_of(tokenizer, texts_of(tokenizer, TAGGED))
    assert [border.blank for border in borders] == ["", " ", " "]
    (query,) = tokenise(tokenizer, ["Ulm"], borders.query)
    assert tokenizer.convert_ids_to_tokens(query.tolist()) == ["ĠUlm"]
    assert tokenizer.decode(frame.query) == "\nQ:"
    assert tokenizer.decode(frame.answer) == "\nA:"
    assert tokenizer.decode(frame.passage_end) == "\n</doc>"
