"""Cells as texts, and paths into nested JSON."""

import re
from pathlib import Path

import pytest

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.cell_values import CellError, cell_text, extra_of, value_at, values_at
from dalm.io.examples import read_passages
from dalm.io.tables import Table, read_table
from dalm.io.writers import write_table


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("a ", "a "),
        ("NA", "NA"),
        ("null", "null"),
        (None, ""),
        (float("nan"), ""),
        (" \n", ""),
        (1913, "1913"),
        ("1913", "1913"),
        (1913.0, "1913"),
        ("1913.0", "1913.0"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (1e300, "1e+300"),
        (float("inf"), "inf"),
        (True, "true"),
        (False, "false"),
        ("日本", "日本"),
        ("a\0b", "a b"),
    ],
)
def test_values_become_texts_and_missing_ones_the_empty_text(cell: object, text: str) -> None:
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (b"x", "bytes, not a text; write it as text first"),
        (["x"], "a list, not a text; name the field inside"),
        ({"x": 1}, "an object, not a text; name the field inside, as in body.text"),
        ("a\ud800", r"'\ud800' is an unpaired surrogate; remove it"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(cell: object, problem: str) -> None:
    with pytest.raises(CellError, match=re.escape(problem)):
        cell_text(cell)
    cells = {"c": ["a", cell]}
    with pytest.raises(UserError, match=re.escape(f"t, line 9, column 'c': {problem}")):
        Table("t", ("c",), 2, cells.__getitem__, unit="line", numbers=[7, 9]).texts("c")


ROW = {
    "a": {"b": "x", "list": [{"b": "one"}, {"b": "two"}, {}]},
    "a.b": "own",
    "texts": ["p", "q"],
    "title": "T",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a.b", "own"),  # the column's own name goes before the path
        ("a.list.b", ["one", "two"]),
        ("texts", ["p", "q"]),
        ("a.c", None),
        ("title.b", None),
        ("none", None),
    ],
)
def test_a_path_leads_into_objects_and_through_lists(name: str, value: object) -> None:
    assert value_at(ROW, name) == value


def test_each_value_comes_with_the_nearest_title() -> None:
    nested = {"title": "outer", "a": [{"b": "x"}, {"b": "y", "Title": "inner"}]}
    assert list(values_at(nested, "a.b", "title")) == [("x", "outer"), ("y", "inner")]
    assert list(values_at(nested, "a.b")) == [("x", ""), ("y", "")]


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_integers_beside_missing_ones_stay_integers(tmp_path: Path, ending: str) -> None:
    """As pandas writes them: in parquet and JSON floats; our own csv has no `.0` either."""
    columns = {
        "Query": ["Founded?", "Closed?", "Where?"],
        "Answer": [1913.0, 1950.0, None],
        "Passage": ["one", "two", "three"],
        "document": [7.0, None, 8.0],
        "page": [3.0, 4.0, 5.0],
    }
    write_table(tmp_path / f"t.{ending}", columns)
    table = read_table(tmp_path / f"t.{ending}")
    assert table.texts("Answer") == ["1913", "1950", ""]
    first, *_ = read_passages(str(tmp_path / f"t.{ending}"), Columns())
    assert (first.document, first.page) == ("7", 3)
    assert extra_of({"year": 1913.0, "share": 1.5}) == {"year": 1913, "share": 1.5}
