"""Prompt templates: their texts, the user's file, every mistake in it, and what a card shows."""

from pathlib import Path

import pytest
import yaml

from dalm.errors import UserError
from dalm.prompts import (
    CITE,
    DEFAULT,
    INSTRUCTION,
    MARKS,
    PromptTemplate,
    describe,
    numbered,
    read_prompt,
    template_from,
)

FILE = """\
instruction: "Use the documents.\\n"
passage: "<doc>{passage}</doc>\\n"
question: "Q: {question}\\n"
answer: "A: "
"""
DOCS = Path(__file__).parents[1] / "docs"


def test_the_default_prompt_is_frozen() -> None:
    assert DEFAULT.user_message("Where?", ["Ada lives in Ulm.", "Graz"]) == (
        "Answer the question from the passage.\n\nPassage:\nAda lives in Ulm.\n\nPassage:\nGraz"
        "\n\nQuestion:\nWhere?"
    )
    assert DEFAULT.answer == "\n\nAnswer:\n"
    assert MARKS == (INSTRUCTION, "\n\nPassage:\n", "\n\nQuestion:\n", "\n\nAnswer:\n")
    assert DEFAULT.for_citations().user_message("Where?", []) == f"{CITE}\n\nQuestion:\nWhere?"


def test_the_documents_show_what_asks_for_citations() -> None:
    assert f"*{CITE}*" in (DOCS / "evaluation.md").read_text("utf-8")


def test_passages_are_numbered_from_one() -> None:
    assert numbered(["a", "b"]) == ["[1] a", "[2] b"]
    assert numbered([]) == []


# The user's file


def test_a_prompt_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text(FILE, encoding="utf-8")
    template = read_prompt(file)
    assert template == PromptTemplate(
        "Use the documents.\n", "<doc>{passage}</doc>\n", "Q: {question}\n", "A: "
    )
    assert template.citations == CITE
    read = "Use the documents.\n<doc>{}</doc>\n<doc>b</doc>\nQ: c\n"
    assert template.user_message("c", ["{}", "b"]) == read


def test_the_file_in_the_documents_is_the_default() -> None:
    page = (DOCS / "prompts.md").read_text("utf-8")
    shown = [block.partition("```")[0] for block in page.split("```yaml\n")[1:]]
    first, *others = (template_from(yaml.safe_load(block), "docs/prompts.md") for block in shown)
    assert first == DEFAULT
    assert others


@pytest.mark.parametrize(
    "template",
    [DEFAULT, PromptTemplate('a "quoted" \\ 🦉\t', "{passage}```\n", "{question} {x}", "")],
)
def test_what_a_card_shows_is_a_file_for_another_model(template, tmp_path: Path) -> None:
    first, *lines, last = describe(template).splitlines()
    assert (first, last) == ("```yaml", "```")
    file = tmp_path / "prompt.yaml"
    file.write_text("\n".join(lines), encoding="utf-8")
    assert read_prompt(file) == template


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILE.replace('answer: "A: "\n', ""), "no field 'answer'; a prompt has the fields instr"),
        (FILE + 'system: ""\n', "unknown field 'system'; a prompt has the fields instruction"),
        (FILE.replace("{passage}", "{text}"), r"passage has {passage} 0 times; .* exactly once"),
        (FILE.replace("Q:", "{question}"), r"question has {question} 2 times; .* exactly once"),
        (FILE.replace("A:", "{question}"), r"answer has {question} 1 times; .* only in the field"),
        (FILE.replace('"A: "', ""), 'answer is None, not text; put text in quotes, "" for none'),
        (FILE.replace('"A: "', "[1]"), "answer is .1., not text"),
        (FILE.replace("A:", "\\uD83D"), r"answer has the unpaired surrogate '.ud83d'; remove it"),
        ("- a\n", "damaged .a list, no object.; a prompt has the fields"),
        ("a: b: c\n", "damaged .*; a prompt has the fields instruction, passage"),
        ("", "damaged .empty.; a prompt has the fields"),
        (b"answer: \xff\n", "can't be read .*; a prompt has the fields"),
        (None, "can't be read .No such file or directory.; a prompt has the fields"),
    ],
)
def test_mistakes_in_the_file(content, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        read_prompt(file)
    assert str(error.value).startswith("--prompt")
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
