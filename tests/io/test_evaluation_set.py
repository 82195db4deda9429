import json

import pytest

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.evaluation_set import read_evaluation_set
from dalm.records import passage_id


def table(tmp_path, rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def row(query, passage, answer="", **more):
    return {"Query": query, "Passage": passage, "Answer": answer, **more}


def read(source, columns=None, **options):
    return read_evaluation_set(source, columns or Columns(), **{"needs": {"passage"}} | options)


def test_rows_with_the_same_question_are_one_query(tmp_path):
    rows = [row("Who?", "Ada", "a", Title="T"), row("What?", "Bela", "b"), row("who? ", "Cy", "c")]
    found = read(table(tmp_path, rows))
    who, what = found.queries
    assert (who.query, who.references, who.group) == ("Who?", ("a", "c"), "T")
    assert who.relevant == {passage_id("Ada"): 1, passage_id("Cy"): 1}
    assert (what.id, what.group) == (passage_id("What?"), passage_id("Bela"))
    assert {passage.text for passage in found.passages.values()} == {"Ada", "Bela", "Cy"}


def test_a_knowledge_base_adds_its_passages(tmp_path):
    more = table(tmp_path, [{"Passage": "ada"}, {"Passage": "Dora"}], "more.jsonl")
    found = read(table(tmp_path, [row("Who?", "Ada")]), knowledge_base=[more])
    assert [passage.text for passage in found.passages.values()] == ["Ada", "Dora"]


def test_the_order_of_the_rows_changes_nothing_of_a_query(tmp_path):
    rows = [
        row("who?", "Ada", "a", Title="T"),
        row("Who?", "Bela", "b", Title="S"),
        row("Who?", "Cy", "c"),
    ]
    (one,) = read(table(tmp_path, rows)).queries
    (other,) = read(table(tmp_path, rows[::-1], "other.jsonl")).queries
    assert (one.query, one.group, one.gold) == (other.query, other.group, other.gold)
    assert (one.query, one.group) == ("Who?", "S")


def test_the_knowledge_base_knows_the_document_of_a_question(tmp_path):
    known = [{"Passage": text, "document": "m.pdf"} for text in ("Ada", "Bela")]
    more = table(tmp_path, known, "more.jsonl")
    found = read(table(tmp_path, [row("a?", "Ada"), row("b?", "Bela")]), knowledge_base=[more])
    assert [query.group for query in found.queries] == ["m.pdf", "m.pdf"]


def test_relevant_passages_beside_the_knowledge_base_are_counted(tmp_path, caplog):
    more = table(tmp_path, [{"Passage": "ada"}, {"Passage": "Dora"}], "more.jsonl")
    source = table(tmp_path, [row("Who?", "Ada"), row("What?", "Bela")])
    assert read(source, knowledge_base=[more]).added == 1
    assert "more.jsonl, and beside them 1 passages of the questions" in caplog.text
    assert read(source, knowledge_base=[source]).added == read(source).added == 0


def test_marked_questions_need_neither_passage_nor_answer(tmp_path):
    rows = [
        row("a?", "A", "a", Answerable=True),
        row("b?", "", "", Answerable="no"),
        row("c?", "C"),
    ]
    found = read(table(tmp_path, rows), needs={"passage", "answer"})
    assert [query.answerable for query in found.queries] == [True, False, None]
    assert found.unjudged == 1


def test_marks_in_a_column_of_another_name(tmp_path):
    source = table(tmp_path, [row("a?", "A", can=1), row("b?", "B", can=0)])
    found = read(source, answerable_column="can")
    assert [query.answerable for query in found.queries] == [True, False]
    with pytest.raises(UserError, match="no column 'may'; set --answerable-column"):
        read(source, answerable_column="may")
    with pytest.raises(UserError, match="neither true nor false"):
        read(source, answerable_column="Passage")


def test_marks_that_contradict_each_other_are_refused(tmp_path):
    rows = [row("a?", "A", Answerable=True), row("A?", "B", Answerable=False)]
    with pytest.raises(UserError, match="answerable in one row and unanswerable in another"):
        read(table(tmp_path, rows))


def test_nothing_to_search_is_refused(tmp_path):
    rows = [{"Query": "Who?", "Answer": "a"}]
    with pytest.raises(UserError, match="no passages to search"):
        read(table(tmp_path, rows), needs={"answer"})
