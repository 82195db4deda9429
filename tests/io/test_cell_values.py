"""Cells as texts."""

import pytest

from dalm.errors import UserError
from dalm.io.cell_values import texts_of
from dalm.io.tables import Table


def table(*cells: object) -> Table:
    return Table("t", ("c",), len(cells), {"c": list(cells)}.__getitem__)


def test_values_become_texts_and_what_is_missing_the_empty_one() -> None:
    cells = table("a ", "NA", None, float("nan"), " \n", 3, 0.5, True, False, "日本")
    assert texts_of(cells, "c") == ["a ", "NA", "", "", "", "3", "0.5", "true", "false", "日本"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (b"x", "a bytes, not a text; write it as text first"),
        (["x"], "a list, not a text"),
        ({"x": 1}, "a dict, not a text"),
        ("a\ud800", r"'\\ud800' is half a character; remove it"),
    ],
)
def test_what_is_no_text_is_named_by_its_place(cell: object, said: str) -> None:
    with pytest.raises(UserError, match=f"t, row 2, column 'c': {said}"):
        texts_of(table("a", cell), "c")
