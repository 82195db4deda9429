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


def beir(tmp_path, qrels="query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td1\t1\nq2\td1\t0\n"):
    table(
        tmp_path,
        [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "title": "", "text": "2nd"}],
        "corpus.jsonl",
    )
    queries = [{"_id": name, "text": f"question {name}"} for name in ("q1", "q2", "q3")]
    table(tmp_path, queries, "queries.jsonl")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(qrels)
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td1\t1\n")
    return str(tmp_path)


def test_a_beir_folder(tmp_path):
    found = read(beir(tmp_path))
    assert [query.id for query in found.queries] == ["q1", "q2"]
    assert found.queries[0].relevant == {"d2": 2, "d1": 1}
    assert found.queries[0].gold == ["d2", "d1"]
    assert found.queries[0].query == "question q1"
    assert (found.unjudged, found.passages["d1"].text) == (1, "first")
    titled = read(str(tmp_path), Columns(prepend_title=True))
    assert [titled.passages[name].text for name in ("d1", "d2")] == ["One\nfirst", "2nd"]


def test_another_split_of_it(tmp_path):
    beir(tmp_path)
    found = read(f"{tmp_path}:dev")
    assert [query.id for query in found.queries] == ["q3"]
    with pytest.raises(UserError, match="its splits are: dev, test"):
        read(f"{tmp_path}:train")


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q1\td9\t1\n", "judges 1 passage ids that the folder doesn't have, such as 'd9'"),
        ("q9\td1\t1\n", "judges 1 query ids .* 'q9'"),
        ("q1\td1\t0\n", "no passage is relevant to any"),
    ],
)
def test_ids_that_do_not_match_are_named(tmp_path, qrels, said):
    with pytest.raises(UserError, match=said):
        read(beir(tmp_path, qrels))


def test_a_corpus_without_ids_is_refused(tmp_path):
    source = beir(tmp_path)
    table(tmp_path, [{"text": "first"}], "corpus.jsonl")
    with pytest.raises(UserError, match="no field '_id'"):
        read(source)


def test_nothing_to_search_is_refused(tmp_path):
    rows = [{"Query": "Who?", "Answer": "a"}]
    with pytest.raises(UserError, match="no passages to search"):
        read(table(tmp_path, rows), needs={"answer"})
