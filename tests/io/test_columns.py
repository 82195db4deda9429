"""Columns by the names that people give them, and passages out of nested JSON."""

import json
import logging
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dalm.config import Columns, RetrieverOnly
from dalm.errors import UserError
from dalm.io.columns import find_text_columns
from dalm.io.examples import read_examples, read_passages
from dalm.records import Example, Passage


def write(tmp_path: Path, *rows: dict[str, object], name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["text", "Body", "content", "contents", "DOCUMENT"])
def test_a_common_name_for_texts_is_taken_for_the_passage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    source = write(tmp_path, {"Query": "q", name: "p"})
    with caplog.at_level(logging.INFO):
        assert read_examples(source, Columns()) == [Example("q", None, Passage.of("p"))]
    assert f"no column 'Passage', reading '{name}' as the passage" in caplog.text
    assert read_passages(source, Columns()) == [Passage.of("p")]


def test_of_several_none_is_taken(tmp_path: Path) -> None:
    source = write(tmp_path, {"text": "one", "body": "two"})
    with pytest.raises(UserError, match="set --passage-column text"):
        read_passages(source, Columns())
    named = Columns(passage_column="body")
    assert read_passages(source, named) == [Passage.of("two")]


@pytest.mark.parametrize(
    "row", [{"text": "p", "document": "a.pdf"}, {"Context": "p", "text": "no", "body": "no"}]
)
def test_what_goes_before(tmp_path: Path, row: dict[str, object]) -> None:
    assert read_passages(write(tmp_path, row), Columns()) == [Passage.of("p")]


def test_texts_of_documents_are_found_in_order() -> None:
    assert find_text_columns(["abstract", "Body", "TITLE"]) == ("Body", "TITLE")
    assert find_text_columns(["a", "b"], "a", "b") == ("a", "b")
    with pytest.raises(UserError, match="no column of texts among 'a', 'b'; name it: --text-col"):
        find_text_columns(["a", "b"])
    with pytest.raises(UserError, match="no column 'c', only 'a', 'b'; set --title-column"):
        find_text_columns(["a", "b"], "a", "c")


NESTED = [
    {"q": {"text": "q1"}, "body": {"text": "p1", "head": "T"}, "bad": [{"t": "n1"}, {"t": "n2"}]},
    {"q": {"text": "q2"}, "body": {"text": "p2"}, "bad": []},
]


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_paths_stand_for_columns(tmp_path: Path, name: str) -> None:
    if name == "a.jsonl":
        write(tmp_path, *NESTED, name=name)
    else:
        parquet.write_table(pa.Table.from_pylist(NESTED), tmp_path / name)
    columns = RetrieverOnly(
        output_dir="out",
        query_column="q.text",
        passage_column="body.text",
        title_column="body.head",
        negatives_column="bad.t",
    )
    assert read_examples(tmp_path / name, columns) == [
        Example("q1", None, Passage.of("p1", "T"), (Passage.of("n1"), Passage.of("n2"))),
        Example("q2", None, Passage.of("p2")),
    ]
    passages = Columns(passage_column="body.text", title_column="body.head")
    assert read_passages(tmp_path / name, passages) == [Passage.of("p1", "T"), Passage.of("p2")]
    with pytest.raises(UserError, match=r"no column 'body\.none' for the passage"):
        read_passages(tmp_path / name, Columns(passage_column="body.none"))


def test_a_path_into_a_column_of_texts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body\np\n")
    with pytest.raises(UserError, match=r"no column 'body\.text' for the passage"):
        read_passages(tmp_path / "a.csv", Columns(passage_column="body.text"))


def test_a_path_leads_to_several_passages_with_their_titles(tmp_path: Path) -> None:
    squad = [
        {"title": "A", "paragraphs": [{"context": "one"}, {"context": "two"}]},
        {"title": "B", "paragraphs": [{"context": "three", "title": "own"}]},
    ]
    (tmp_path / "squad.json").write_text(json.dumps({"data": squad}))
    columns = Columns(passage_column="data.paragraphs.context")
    assert read_passages(tmp_path / "squad.json", columns) == [
        Passage.of("one", "A"),
        Passage.of("two", "A"),
        Passage.of("three", "own"),
    ]
