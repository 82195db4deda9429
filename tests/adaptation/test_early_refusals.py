"""What `dalm adapt` refuses before anything runs: tables, models, servers that a stage would."""

from pathlib import Path
from typing import Any

import pytest

from dalm import config
from dalm.adaptation.given_feedback import judgments_in
from dalm.adaptation.stage_runs import checked_system
from dalm.adaptation.system_stages import stages_of
from dalm.errors import UserError
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, Judgment


def settings(line: list[str], folder: Path, **changed: Any) -> config.Adapt:
    """Return the options of the command, in another folder."""
    options = dict(zip(line[2::2], line[3::2], strict=True))
    given = {name[2:].replace("-", "_"): value for name, value in options.items()}
    return config.Adapt(**{**given, "output_dir": str(folder), "stage_options": None, **changed})


HTTP = {"backend": "http", "question_model": "m", "base_url": "http://localhost:1/v1"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"questions": "none.csv"}, "no file or folder 'none.csv'"),
        ({"query_column": "Asked"}, "no column 'Asked'"),
        ({"answer_column": "Said", "passage_column": "Read"}, "no column '(Said|Read)'"),
        ({"encoding": "utf-9"}, "--encoding utf-9: unknown"),
        ({"guard": "none.csv"}, "no file or folder 'none.csv'"),
        ({"backend": "http"}, "--backend http needs --base-url"),
        ({**HTTP, "base_url": "localhost"}, "--base-url"),
        ({"backend": "transformers", "question_model": "./none"}, "none"),
        ({"stage_options": {"questions": {"backend": "http"}}}, "--backend of dalm adapt"),
        ({"stage_options": {"questions": {"base-url": "x"}}}, "--base-url of dalm adapt"),
    ],
)
def test_what_a_later_stage_would_refuse(
    line: list[str], tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        checked_system([line[1]], settings(line, tmp_path / "new", **changed))


def test_a_reranker_that_is_an_embedding_model(
    line: list[str], tiny_models: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is an embedding model"):
        checked_system([line[1]], settings(line, tmp_path, reranker=str(tiny_models.encoder)))


def test_questions_that_teach_no_generator(line: list[str], tmp_path: Path) -> None:
    asked = tmp_path / "asked.csv"
    asked.write_text("Query,Passage\nWhere is Ada?,Ada lives in Ulm.\n")
    with pytest.raises(UserError, match="no question has an answer"):
        checked_system([line[1]], settings(line, tmp_path / "new", questions=str(asked)))
    with_rules = settings(line, tmp_path / "new", questions=str(asked), backend="extractive")
    checked_system([line[1]], with_rules)


def test_the_guard_has_columns_of_its_own(line: list[str], asked: Path, tmp_path: Path) -> None:
    german = tmp_path / "german.csv"
    german.write_text(asked.read_text().replace("Query,Answer,Passage", "Frage,Antwort,Text"))
    named = {"questions": str(german), "query_column": "Frage", "answer_column": "Antwort"}
    named["passage_column"] = "Text"
    own = settings(line, tmp_path / "new", guard=str(asked), **named)
    stages = {stage.name: stage for stage in stages_of(checked_system([line[1]], own))}
    assert stages["evaluate-guard"].command == "eval-rag"  # it has answers
    with pytest.raises(UserError, match=r"--guard: .* no column 'Query'"):
        checked_system([line[1]], settings(line, tmp_path / "new", guard=str(german)))
    columns = {"query_column": "Frage", "answer_column": "Antwort", "passage_column": "Text"}
    given = {"evaluate-guard": columns}
    options = settings(line, tmp_path / "new", guard=str(german), stage_options=given)
    stages = {stage.name: stage for stage in stages_of(checked_system([line[1]], options))}
    assert stages["evaluate-guard"].command == "eval-rag"


def test_questions_among_the_documents_are_told_of(
    line: list[str], documents: Path, asked: Path, caplog: Any
) -> None:
    caplog.set_level("WARNING")
    own = settings(line, documents.parent / "none")
    checked_system([str(documents)], own)
    assert not caplog.records
    checked_system([str(documents), str(asked)], own)
    assert "its questions are searched as passages, too" in caplog.text


def test_as_many_judgments_of_another_index_are_others(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        with FeedbackStore.open(tmp_path / name) as store:
            store.keep_answer(
                AnswerRecord(id=name, question="?", searched="?", answer="a", generation=1)
            )
            store.judge(Judgment(answer_id=name, person="p", kind="answer", value=1))
    one, two = (judgments_in([tmp_path / name]) for name in ("one", "two"))
    assert one.startswith("1 (")
    assert one != two
