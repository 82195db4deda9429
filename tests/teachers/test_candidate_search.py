"""Questions of a table, and the candidates that are searched for them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dalm.config import ScoreCandidates
from dalm.errors import UserError
from dalm.io.tables import Table, read_file
from dalm.records import Passage
from dalm.retrieval.negatives import text_key
from dalm.teachers import candidate_search
from dalm.teachers.teacher import Candidates


def options(**given: Any) -> ScoreCandidates:
    return ScoreCandidates(**{"passages": ["p"], "teacher": ["gold"], "output": "o.jsonl"} | given)


def table(folder: Path, *rows: dict[str, str | None]) -> Table:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_file(file)


def test_rows_of_a_question_share_its_gold_passages(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"Query": "Where?", "Answer": "Ulm", "Passage": "Ada lives in Ulm."},
        {"Query": "Where? ", "Answer": "Bern", "Passage": "Ada worked in Bern."},
        {"Query": "where?", "Answer": "ulm", "Passage": "Ulm is Ada's town."},
        {"Query": "Who?", "Answer": None, "Passage": "Ada lives in Ulm."},
        {"Query": "Why?", "Answer": "peat", "Passage": None},
    ]
    caplog.set_level(logging.INFO, "dalm")
    read = candidate_search.read_questions
    found = read(table(tmp_path, *rows), options(), {"gold": "--check", "answer": "--teacher x"})
    assert [(each.query, each.answer) for each in found] == [
        ("Where?", "Ulm"),
        ("Where? ", "Bern"),
        ("Why?", "peat"),
    ]
    golds = {text_key(Passage.of(row["Passage"] or "")) for row in rows[:3]}
    assert [each.golds for each in found] == [golds, golds, frozenset()]
    assert "1 of 5 rows have no answer and are left out: --teacher x needs one" in caplog.text
    assert "1 rows repeat a question and its answer" in caplog.text
    every = read(table(tmp_path, *rows), options(), {})
    assert [each.answer for each in every] == ["Ulm", "Bern", None, "peat"]
    assert not any(each.golds for each in every), "gold passages are not read"


def test_what_a_teacher_needs_must_be_there(tmp_path: Path) -> None:
    read = candidate_search.read_questions
    rows = table(tmp_path, {"Query": "Where?", "Answer": None, "Passage": "Ulm"})
    with pytest.raises(UserError, match=r"rows.jsonl has no answers, and --teacher x needs them"):
        read(rows, options(), {"answer": "--teacher x"})
    rows = table(tmp_path, {"Query": "Where?"})
    with pytest.raises(UserError, match="has no passages, and --check needs them; name their col"):
        read(rows, options(), {"gold": "--check"})


def test_copies_of_a_passage_are_searched_once(tmp_path: Path) -> None:
    file = tmp_path / "passages.jsonl"
    rows = [("Ada lives in Ulm.", "x"), ("ada  lives in ulm.", "y"), ("Bela.", "y")]
    lines = [json.dumps({"Passage": text, "Title": title}) + "\n" for text, title in rows]
    file.write_text("".join(lines))
    for prepend_title in (False, True):
        given = options(passages=[str(file), str(file)], prepend_title=prepend_title)
        found = candidate_search.read_knowledge_base(given)
        assert [each.title for each in found] == ["x", "y"]
    file.write_text(lines[0])
    with pytest.raises(UserError, match="there is only one distinct passage"):
        candidate_search.read_knowledge_base(options(passages=[str(file)]))


PASSAGES = [
    Passage.of(text)
    for text in (
        "Ada lives in a house by the river.",
        "The town of Ulm has a high tower.",
        "Bela keeps cats.",
        "Where Ada lives is a secret.",
    )
]


@pytest.mark.parametrize(
    ("search_with", "answer", "first"),
    [
        ("question", "Ulm", 3),
        ("question-and-answer", "tower of Ulm town", 1),
        ("question-and-answer", None, 3),
    ],
)
def test_search_with_question_and_answer(search_with: Any, answer: str | None, first: int) -> None:
    given = options(search_with=search_with, num_candidates=2)
    searcher = candidate_search.searcher_of_passages(PASSAGES, given, None)
    questions = [Candidates("Where lives Ada?", answer, ()), Candidates("Xyz?", None, ())]
    found, nothing = candidate_search.search_candidates(questions, searcher, given)
    assert found.passages[0] == PASSAGES[first]
    assert len(found.passages) == 2
    assert nothing.passages == ()


@pytest.mark.parametrize("mode", ["dense", "hybrid", None])
def test_search_by_a_retriever_is_that_of_an_index(
    tiny_models: Any, tmp_path: Path, mode: Any
) -> None:
    from dalm.models.loading import placement_of
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.exact import build_index
    from dalm.retrieval.hybrid import IndexSearcher

    given = options(retriever_name_or_path=str(tiny_models.encoder), search=mode, num_candidates=3)
    searcher = candidate_search.searcher_of_passages(PASSAGES, given, tmp_path)
    assert list(tmp_path.glob("*/*.safetensors")), "vectors are cached"
    [found] = candidate_search.search_candidates(
        [Candidates("Where does Ada live?", "Ulm", ())], searcher, given
    )
    retriever = load_retriever(str(tiny_models.encoder), placement_of(given))
    other = IndexSearcher(retriever, build_index(retriever, PASSAGES), mode or "hybrid")
    [expected] = other.search(["Where does Ada live?\nUlm"], 3)
    assert list(found.passages) == [hit.passage for hit in expected]
