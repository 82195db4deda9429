import json
import logging
import subprocess
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

import dalm.records
from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.examples import read_examples, read_passages
from dalm.records import Example, Passage

ALL = ("query", "passage", "answer")
ROWS = [
    {"Title": "T", "Passage": "p one", "Query": "q1?", "Answer": "a1"},
    {"Title": "", "Passage": "p two", "Query": "q2?", "Answer": "NA"},
    {"Title": "T", "Passage": "p one", "Query": "q3?", "Answer": "a3"},
]
EXAMPLES = [
    Example("q1?", "a1", Passage.of("p one", "T")),
    Example("q2?", "NA", Passage.of("p two")),
    Example("q3?", "a3", Passage.of("p one", "T")),
]


@pytest.fixture
def table(tmp_path):
    def write(rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def message(read, *arguments, **options) -> str:
    with pytest.raises(UserError) as caught:
        read(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_format_gives_the_same_examples(tmp_path, table):
    import datasets

    names = list(ROWS[0])
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        lines = [names, *([row[key] for key in names] for row in ROWS)]
        (tmp_path / name).write_text("\n".join(mark.join(line) for line in lines))
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "set"))
    datasets.enable_progress_bars()
    for source in ("a.csv", "a.tsv", "a.json", "a.parquet", "set", table(ROWS).name):
        assert read_examples(tmp_path / source, Columns(), needs=ALL) == EXAMPLES, source


def test_only_query_is_always_needed(table):
    assert read_examples(table([{"Query": "q"}]), Columns(), needs=()) == [Example("q")]
    source = table([{"Query": "q", "Answer": "a", "Title": "t"}])
    assert read_examples(source, Columns(), needs=("answer",)) == [Example("q", "a")]


def test_optional_fields_are_taken_where_they_are_and_others_left_alone(table):
    source = table([{"Query": "q", "Answer": "a", "Passage": "p"}, {"Query": "r", "Answer": " "}])
    full, bare = read_examples(source, Columns(), needs=())
    assert full == Example("q", "a", Passage.of("p"))
    assert bare == Example("r")
    elsewhere = Columns(passage_column="text", title_column="name", prepend_title=True)
    assert read_examples(source, elsewhere, needs=("answer",), optional=()) == [Example("q", "a")]


def test_passages_are_distinct_by_content_in_the_order_of_their_first_rows(table):
    texts = ["b", "a", "B ", "c", "a"]
    source = table([{"Passage": text, "Title": str(n)} for n, text in enumerate(texts)])
    passages = read_passages(source, Columns(query_column="elsewhere"))
    assert [(passage.text, passage.title) for passage in passages] == [
        ("b", "0"),
        ("a", "1"),
        ("c", "3"),
    ]


def test_equal_passages_are_hashed_once_and_shared(table, monkeypatch):
    hashed = []
    real = dalm.records.passage_id
    monkeypatch.setattr(dalm.records, "passage_id", lambda text: hashed.append(text) or real(text))
    examples = read_examples(table(ROWS), Columns())
    assert hashed == ["p one", "p two"]
    assert examples[0].passage is examples[2].passage


def test_the_title_is_put_before_the_text_where_there_is_one(table):
    examples = read_examples(table(ROWS), Columns(prepend_title=True))
    assert [example.passage for example in examples[:2]] == [
        Passage.of("T\np one", "T"),
        Passage.of("p two"),
    ]
    untitled = table([{"Passage": "p", "Query": "q"}])
    assert "'Title' for the title" in message(read_examples, untitled, Columns(prepend_title=True))
    assert "'Title' for the title" in message(read_passages, untitled, Columns(prepend_title=True))


@pytest.mark.parametrize("passage", ["Abstract", "Context", "passage", "CONTEXT"])
@pytest.mark.parametrize("query", ["Question", "question", "query"])
def test_older_names_are_recognised_aloud(table, caplog, passage, query):
    source = table([{passage: "p", query: "q", "answer": "a", "title": "t"}])
    with caplog.at_level(logging.INFO):
        examples = read_examples(source, Columns(), needs=ALL)
    assert examples == [Example("q", "a", Passage.of("p", "t"))]
    assert [record.levelname for record in caplog.records] == ["INFO"] * 4
    assert f"no column 'Passage', reading '{passage}' as the passage" in caplog.text


def test_the_present_name_goes_before_older_ones_and_a_claimed_column_is_not_taken(table, caplog):
    source = table([{"Context": "c", "Passage": "p", "Question": "old", "Query": "q"}])
    with caplog.at_level(logging.INFO):
        assert read_examples(source, Columns()) == [Example("q", None, Passage.of("p"))]
    assert not caplog.records
    claimed = table([{"Context": "c"}])
    text = message(read_examples, claimed, Columns(query_column="Context"))
    assert "for the passage" in text


def test_named_columns_are_read_and_missing_ones_refused(table):
    source = table([{"frage": "q", "absatz": "p", "Answer": "a", "Question": "other"}])
    named = Columns(query_column="frage", passage_column="absatz")
    assert read_examples(source, named) == [Example("q", "a", Passage.of("p"))]
    text = message(read_examples, source, Columns(query_column="fragen", passage_column="absatz"))
    assert "no column 'fragen' for the query" in text
    assert "'frage', 'absatz', 'Answer', 'Question'" in text
    assert "--query-column frage" in text
    # not needed, but the user asked for it
    wrong = Columns(query_column="frage", passage_column="absatz", answer_column="antwort")
    assert "'antwort'" in message(read_examples, source, wrong)
    assert "'name'" in message(
        read_passages, source, Columns(passage_column="absatz", title_column="name")
    )


def test_a_missing_needed_column_names_those_found(table):
    source = table([{"Query": "q", "Anser": "a"}])
    assert "--answer-column Anser" in message(read_examples, source, Columns(), needs=("answer",))
    assert "--passage-column NAME" in message(read_examples, source, Columns())
    assert "--passage-column Kontext" in message(
        read_examples, table([{"Query": "q", "Kontext": "p"}]), Columns()
    )
    source = table([{"Query": "q", "Anser": "a"}])
    assert "for the passage" in message(read_passages, source, Columns())


def test_rows_without_what_is_needed_are_skipped_with_one_line(table, caplog):
    rows = [dict(ROWS[0]) for _ in range(20)]
    rows[1]["Query"] = ""
    rows[3]["Answer"] = None
    rows[5] |= {"Query": " \t\n", "Answer": "\u00a0"}
    del rows[7]["Passage"]
    examples = read_examples(table(rows), Columns(), needs=ALL)
    assert len(examples) == 16
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "skipped 4 of 20 rows" in record.message
    assert "'Query' in 2" in record.message
    assert "'Answer' in 2" in record.message
    assert "'Passage' in 1" in record.message
    assert "(lines 2, 4, 6, 8)" in record.message
    caplog.clear()
    assert len(read_examples(table(rows), Columns())) == 17  # an answer isn't needed here
    assert len(read_passages(table(rows), Columns())) == 1
    assert "(lines 8)" in caplog.records[-1].message


def test_nothing_left_is_an_error(table, caplog):
    source = table([{"Query": "q", "Passage": " "}, {"Query": "", "Passage": "p"}])
    text = message(read_examples, source, Columns())
    assert "none of its 2 rows" in text
    assert "'Query' in 1, 'Passage' in 1" in text
    assert not caplog.records


@pytest.mark.parametrize(
    ("cell", "text"), [(3, "3"), (2.5, "2.5"), (True, "true"), (float("nan"), None), (None, None)]
)
def test_cells_become_text(table, tmp_path, cell, text):
    assert read_examples(table([{"Query": "q", "Answer": cell}]), Columns(), needs=()) == [
        Example("q", text)
    ]
    parquet.write_table(pa.table({"Query": ["q"], "Answer": [cell]}), tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet", Columns(), needs=()) == [Example("q", text)]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        ({"text": ["a"]}, "column 'Answer': an object, not a text"),
        (["a"], "column 'Answer': a list, not a text"),
        ("\ud83d", r"'\ud83d' is an unpaired surrogate"),
    ],
)
def test_rows_with_a_cell_that_is_no_text_are_named_and_skipped(table, caplog, cell, problem):
    source = table([{"Query": "q", "Answer": "a"}, {"Query": "q", "Answer": cell}])
    assert read_examples(source, Columns(), needs=("answer",)) == [Example("q", "a")]
    assert f"line 2, {problem}" in caplog.text
    assert f"unread     1 of 2 rows of {source}" in caplog.text
    alone = table([{"Query": "q", "Answer": cell}])
    text = message(read_examples, alone, Columns(), needs=("answer",))
    assert "none of its 1 rows can be " in text
    assert problem in text


def test_text_is_kept_to_the_letter(table):
    row = {"Query": " q\u00a0? ", "Passage": "p\r\n\tp ", "Answer": "𝛼 \U0001f600\n"}
    assert read_examples(table([row]), Columns()) == [
        Example(row["Query"], row["Answer"], Passage.of(row["Passage"]))
    ]


def test_reading_text_imports_nothing_heavy(table):
    code = f"""
import sys
from dalm.config import Columns
from dalm.io.examples import read_examples
assert len(read_examples({str(table(ROWS))!r}, Columns())) == 3
heavy = {{"torch", "transformers", "datasets", "pyarrow", "pandas", "numpy"}}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
