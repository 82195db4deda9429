"""Hard negatives as columns: what is read, and that what is written is read back."""

import json
import logging
from pathlib import Path

import pytest

from dalm.config import Columns, RagE2E, RetrieverOnly
from dalm.errors import UserError
from dalm.io.columns import negative_columns
from dalm.io.examples import read_examples, read_negatives, read_rows
from dalm.io.tables import Table, read_file
from dalm.io.writers import columns_with_negatives, write_table
from dalm.records import passage_id

TRAINING = RetrieverOnly(output_dir="out")


def table(**columns: list[object]) -> Table:
    return Table("t", tuple(columns), len(next(iter(columns.values()))), columns.__getitem__)


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("columns", "name", "found"),
    [
        ("Query Negatives", "Negatives", ["Negatives"]),
        ("neg Negatives", "neg", ["neg"]),
        ("negative_10 negative_2 negative_1", "Negatives", "negative_1 negative_2 negative_10"),
        ("anchor positive negative", "Negatives", ["negative"]),
        ("Negatives Negative-1", "Negatives", ["Negatives"]),
        ("hard1 hard2 harder", "hard", "hard1 hard2"),
        ("Query Passage", "Negatives", []),
        ("Negatives negative_1", "", []),
        ("negative_score negative_ids Negative", "Negatives", ["Negative"]),
    ],
)
def test_columns(columns: str, name: str, found: list[str] | str) -> None:
    given = table(**{column: [] for column in columns.split()})
    assert negative_columns(given, name) == (found.split() if isinstance(found, str) else found)


def test_a_column_with_another_role_is_no_negative() -> None:
    assert negative_columns(table(negative=[], Query=[]), "Negatives", ["negative"]) == []


def test_cells() -> None:
    given = table(
        one=[["a", " ", "b", "a"], '["c", "d"]', "[1] a source", "plain", None, "", float("nan")],
        two=["x", "c", "", "[]", "[1, 2]", None, "y"],
    )
    assert read_negatives(given, ["one", "two"]) == [
        ["a", "b", "x"],
        ["c", "d"],
        ["[1] a source"],
        ["plain"],
        ["[1, 2]"],
        [],
        ["y"],
    ]


@pytest.mark.parametrize("cell", [3, 0.5, True, [["a"]], {"a": 1}, [b"a"]])
def test_cells_that_are_no_passages(cell: object) -> None:
    with pytest.raises(UserError, match="t, row 2, column 'Negatives'"):
        read_negatives(table(Negatives=["a", cell]), ["Negatives"])


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet", "csv", "tsv", "csv.gz"])
def test_what_is_written_is_read_back(tmp_path: Path, ending: str) -> None:
    source = write(
        tmp_path / "source.jsonl",
        {"Title": "T", "Query": "q1", "Passage": "p1", "Note": "NA"},
        {"Title": "", "Query": "q2", "Passage": "p, 2\n", "Note": "ä"},
        {"Title": "T", "Query": "", "Passage": "p3", "Note": ""},
    )
    given = read_file(source)
    negatives = [['with "quotes", commas\nand lines', "[a] bracket"], ["p1"], []]
    scores = [[0.5, 0.25], [0.1234567], []]
    numbered = ending[:3] in ("csv", "tsv")
    columns = columns_with_negatives(given, negatives, scores, [0.75, 0.5, None], numbered=numbered)
    write_table(tmp_path / f"mined.{ending}", columns)
    found = read_file(tmp_path / f"mined.{ending}")
    assert found.columns[:4] == given.columns
    for name in given.columns:
        assert found.column(name) == given.column(name)
    if numbered:
        assert found.columns[4:] == ("Negative 1", "Negative 2", "Negative scores", "Gold score")
        assert found.column("Negative scores") == ["[0.5, 0.25]", "[0.123457]", "[]"]
        assert found.column("Gold score") == ["0.75", "0.5", ""]
    else:
        assert found.columns[4:] == ("Negatives", "Negative scores", "Gold score")
        assert found.column("Negative scores") == [[0.5, 0.25], [0.123457], []]
        assert found.column("Gold score") == [0.75, 0.5, None]
    examples = read_examples(tmp_path / f"mined.{ending}", TRAINING)
    assert [[n.text for n in e.negatives] for e in examples] == negatives[:2]
    again = columns_with_negatives(
        found, [["x"], [], []], [[0.1], [], []], [1.0, 1.0, None], numbered=numbered
    )
    names = ["Negative 1"] if numbered else ["Negatives"]
    assert [*again] == [*given.columns, *names, "Negative scores", "Gold score"]


# In examples


def test_training_reads_them_and_nothing_else_does(tmp_path: Path) -> None:
    file = write(
        tmp_path / "t.jsonl",
        {"Query": "q1", "Passage": "p1", "Answer": "a", "Negatives": ["p2", "n1"]},
        {"Query": "q2", "Passage": "p2", "Answer": "b"},
    )
    for columns in (TRAINING, RagE2E(output_dir="out")):
        first, second = read_examples(file, columns)
        assert [n.text for n in first.negatives] == ["p2", "n1"]
        assert first.negatives[0] is second.passage, "another row's gold passage is one passage"
        assert second.negatives == ()
    assert all(e.negatives == () for e in read_examples(file, Columns()))
    without = RetrieverOnly(output_dir="out", negatives_column="")
    assert all(e.negatives == () for e in read_examples(file, without))


def test_the_gold_passage_and_repetitions_are_left_out(tmp_path: Path) -> None:
    file = write(
        tmp_path / "t.jsonl",
        {"Query": "q1", "Passage": "Gold", "Negatives": ["GOLD ", "n", "N", "m"]},
        {"Query": "q2", "Passage": "", "Negatives": ["n"]},
    )
    first, second = read_examples(file, TRAINING, needs=(), optional={"passage"})
    assert [n.id for n in first.negatives] == [passage_id("n"), passage_id("m")]
    assert second.negatives == (), "without a gold passage there is nothing to tell apart"


def test_no_gold_passage_of_the_same_question_is_a_negative(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(
        tmp_path / "t.jsonl",
        {"Query": "Who?", "Passage": "p1", "Negatives": ["P2", "n", "p4"]},
        {"Query": " who? ", "Passage": "p2", "Negatives": ["p3", "p1"]},
        {"Query": "Who?", "Passage": "p3"},
        {"Query": "Where?", "Passage": "p4", "Negatives": ["p1"]},
    )
    with caplog.at_level(logging.INFO):
        found = read_examples(file, TRAINING)
    assert [[n.text for n in e.negatives] for e in found] == [["n", "p4"], [], [], ["p1"]]
    assert "3 are gold passages of their question: left out" in caplog.text


def test_rows_are_known_by_their_place(tmp_path: Path) -> None:
    file = write(
        tmp_path / "t.jsonl",
        {"Query": "", "Passage": "p0", "Negatives": ["n0"]},
        {"Query": "q1", "Passage": "p1", "Negatives": ["n1"]},
        {"Query": "q2", "Passage": "", "Negatives": ["n2"]},
        {"Query": "q3", "Passage": "p3", "Negatives": ["n3"]},
    )
    rows = read_rows(read_file(file), TRAINING)
    assert {row: e.negatives[0].text for row, e in rows.items()} == {1: "n1", 3: "n3"}


@pytest.mark.parametrize("prepended_when_mined", [False, True])
@pytest.mark.parametrize("prepend", [False, True])
def test_a_titled_passage_is_one_passage_gold_or_negative(
    tmp_path: Path, prepended_when_mined: bool, prepend: bool
) -> None:
    negative = "Town\np2" if prepended_when_mined else "p2"
    file = write(
        tmp_path / "t.jsonl",
        {"Title": "Pet", "Query": "q1", "Passage": "p1", "Negatives": [negative, "n"]},
        {"Title": "Town", "Query": "q2", "Passage": "p2", "Negatives": []},
    )
    columns = RetrieverOnly(output_dir="out", prepend_title=prepend)
    first, second = read_examples(file, columns)
    assert first.negatives[0] is second.passage
    assert first.negatives[1].text == "n"
    assert second.passage is not None
    assert second.passage.text == ("Town\np2" if prepend else "p2")


def test_a_column_that_was_named_must_be_there(tmp_path: Path) -> None:
    file = write(tmp_path / "t.jsonl", {"Query": "q", "Passage": "p", "negs": ["n"]})
    named = RetrieverOnly(output_dir="out", negatives_column="negz")
    with pytest.raises(UserError, match="set --negatives-column negs"):
        read_examples(file, named)
    right = RetrieverOnly(output_dir="out", negatives_column="negs")
    assert read_examples(file, right)[0].negatives[0].text == "n"
