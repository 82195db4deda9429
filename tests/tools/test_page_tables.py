"""Tables between the markers of a page: filled by name, the rest of the page left as it is."""

from pathlib import Path

import pytest

from tools.page_tables import fill, markdown, tables_of

PAGE = """# Speed

<!-- table first -->
old
<!-- end -->
Between.
<!-- table second -->
<!-- end -->
"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    file = tmp_path / "page.md"
    file.write_text(PAGE, encoding="utf-8")
    return file


def test_a_table_has_a_heading_and_is_nothing_without_rows() -> None:
    assert markdown([["a", "b"], ["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert markdown([["a", "b"]]) == ""


def test_only_the_named_tables_are_filled(page: Path) -> None:
    assert tables_of(page) == {"first": "old", "second": ""}
    fill(page, ["second"], lambda name: f"{name} \\1 é\n")
    assert tables_of(page) == {"first": "old", "second": "second \\1 é"}
    fill(page, ["second"], lambda _: "")
    assert page.read_text(encoding="utf-8") == PAGE
    assert list(page.parent.iterdir()) == [page]


@pytest.mark.parametrize(
    "text", [PAGE + PAGE, PAGE.replace("<!-- end -->\nBetween", "Between")], ids=["twice", "open"]
)
def test_a_page_with_broken_markers_is_not_written(page: Path, text: str) -> None:
    page.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="twice, or its"):
        fill(page, ["first"], lambda _: "new")
    assert page.read_text(encoding="utf-8") == text
