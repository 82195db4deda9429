"""Tables on disk: what is written is read back, whole or not at all."""

import os
from datetime import date
from pathlib import Path

import pytest

from dalm.errors import UserError
from dalm.io.tables import read_file
from dalm.io.writers import check_output_file, write_table

COLUMNS = {
    "text": ["a", "", 'x "y", z\nw\r\n', "日本 NA"],
    "number": [1, None, 2.5, float("nan")],
    "list": [["a", "b"], [], None, ["c"]],
}


def test_jsonl_and_parquet_keep_lists_and_numbers(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.parquet"):
        write_table(tmp_path / name, COLUMNS)
        found = read_file(tmp_path / name)
        assert found.columns == tuple(COLUMNS)
        assert found.column("text") == COLUMNS["text"]
        assert found.column("list") == COLUMNS["list"]
        assert list(found.column("number"))[:3] == [1, None, 2.5]
        assert str(list(found.column("number"))[3]) in ("None", "nan")


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz"])
def test_csv_writes_lists_as_json_and_what_is_missing_as_nothing(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, COLUMNS | {"more": [True, {"a": 1}, date(2020, 1, 2), "b"]})
    found = read_file(tmp_path / name)
    assert found.column("text") == COLUMNS["text"]
    assert found.column("number") == ["1", "", "2.5", ""]
    assert found.column("list") == ['["a", "b"]', "[]", "", '["c"]']
    assert found.column("more") == ["true", '{"a": 1}', "2020-01-02", "b"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_table_with_a_nul_can_be_read_again(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, {"text": ["a\0b"]})
    assert read_file(tmp_path / name).texts("text") == ["a b"]


@pytest.mark.parametrize(
    ("name", "cells", "said"),
    [
        ("a.jsonl", [b"x"], "of type bytes can't be written"),
        ("a.csv", [b"x"], "of type bytes can't be written"),
        ("a.csv", ["\ud800"], "an unpaired surrogate"),
        ("a.jsonl", ["\ud800"], "an unpaired surrogate"),
        ("a.parquet", ["a", 1], "name a .jsonl file"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(
    tmp_path: Path, name: str, cells: list[object], said: str
) -> None:
    (tmp_path / name).write_text("old")
    with pytest.raises(UserError, match=said):
        write_table(tmp_path / name, {"c": cells})
    assert (tmp_path / name).read_text() == "old"
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208


def test_an_interrupted_writing_leaves_the_old_file(tmp_path: Path) -> None:
    class Stopping(list[str]):
        def __iter__(self):
            yield "a"
            raise KeyboardInterrupt

    (tmp_path / "a.csv").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_table(tmp_path / "a.csv", {"c": Stopping(["a", "b"])})
    assert [file.name for file in tmp_path.iterdir()] == ["a.csv"]
    assert (tmp_path / "a.csv").read_text() == "old"


def test_folders_are_made(tmp_path: Path) -> None:
    write_table(tmp_path / "x" / "y" / "a.csv", {"c": ["1"]})
    assert read_file(tmp_path / "x" / "y" / "a.csv").column("c") == ["1"]


def test_a_file_that_could_not_be_written_is_refused_before(tmp_path: Path) -> None:
    there = tmp_path / "there.csv"
    there.write_text("old")
    for path, said in (
        (tmp_path / "a.xlsx", "unknown ending '.xlsx'; written are .csv, .tsv, .jsonl, .parquet"),
        (tmp_path / "a.parquet.gz", "unknown ending"),
        (tmp_path / "a", "unknown ending"),
        (there, "exists; name another file, or add --overwrite-output"),
        (there / "a.csv", "is a file; name another path"),
    ):
        with pytest.raises(UserError, match="--output .*" + said.replace(".", r"\.")):
            check_output_file(path, overwrite=False)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match="a folder; name a file"):
        check_output_file(tmp_path / "folder.csv", overwrite=True)
    check_output_file(there, overwrite=True)
    check_output_file(tmp_path / "new" / "a.CSV", overwrite=False)
