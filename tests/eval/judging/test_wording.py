from pathlib import Path

import pytest

from dalm.eval.judging import wording

DOCS = Path(__file__).parents[3] / "docs" / "evaluation.md"


@pytest.mark.parametrize("text", [wording.SYSTEM, *wording.ASKED.values()])
def test_the_documents_show_every_prompt_whole(text):
    assert f"```\n{text}\n```" in DOCS.read_text("utf-8")


@pytest.mark.parametrize("kind", wording.ASKED)
def test_the_documents_show_what_has_to_come_back(kind):
    shape = wording.SHAPE.format(verdicts=" or ".join(wording.VERDICTS[kind])).strip()
    assert shape in DOCS.read_text("utf-8")
    assert wording.messages(kind, ["x"])[1]["content"].endswith(shape)


@pytest.mark.parametrize("kind", wording.ASKED)
def test_a_prompt_holds_its_sections_and_a_schema_its_verdicts(kind):
    system, user = wording.messages(kind, ["Question:\n{why}", "Answer:\n{}"])
    assert (system["role"], system["content"]) == ("system", wording.SYSTEM)
    assert user["content"].startswith("Question:\n{why}\n\nAnswer:\n{}\n\n")
    fields = wording.schema(kind)["json_schema"]["schema"]["properties"]
    assert list(fields) == ["reason", "verdict"]
    assert fields["verdict"]["enum"] == list(wording.VERDICTS[kind])


def test_a_list_is_numbered_and_one_text_stands_alone():
    assert wording.listed(["a"]) == "a"
    assert wording.listed(["a", "b"]) == "1. a\n\n2. b"
