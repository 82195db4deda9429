from pathlib import Path

import pytest

from dalm.eval.judge import judge_prompts

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.mark.parametrize("text", [judge_prompts.SYSTEM, *judge_prompts.ASKED.values()])
def test_the_documents_show_every_prompt_whole(text):
    assert f"```\n{text}\n```" in DOCS.read_text("utf-8")


@pytest.mark.parametrize("kind", judge_prompts.ASKED)
def test_the_documents_show_what_has_to_come_back(kind):
    shape = judge_prompts.SHAPE.format(verdicts=" or ".join(judge_prompts.VERDICTS[kind])).strip()
    assert shape in DOCS.read_text("utf-8")
    assert judge_prompts.messages(kind, ["x"])[1]["content"].endswith(shape)


@pytest.mark.parametrize("kind", judge_prompts.ASKED)
def test_a_prompt_holds_its_sections_and_a_schema_its_verdicts(kind):
    system, user = judge_prompts.messages(kind, ["Question:\n{why}", "Answer:\n{}"])
    assert (system["role"], system["content"]) == ("system", judge_prompts.SYSTEM)
    assert user["content"].startswith("Question:\n{why}\n\nAnswer:\n{}\n\n")
    fields = judge_prompts.schema(kind)["json_schema"]["schema"]["properties"]
    assert list(fields) == ["reason", "verdict"]
    assert fields["verdict"]["enum"] == list(judge_prompts.VERDICTS[kind])


def test_a_list_is_numbered_and_one_text_stands_alone():
    assert judge_prompts.listed(["a"]) == "a"
    assert judge_prompts.listed(["a", "b"]) == "1. a\n\n2. b"
