import gzip
import json
import os
import time
from pathlib import Path

import datasets
import huggingface_hub
import pyarrow
import pyarrow.parquet
import pytest
from datasets import Dataset, DatasetDict

from dalm.config import PairColumns
from dalm.errors import UserError
from dalm.io.examples import read_examples
from dalm.io.tables import read_table


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """No progress bars, and no hub unless a test stands in for it."""
    datasets.disable_progress_bars()
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    yield
    datasets.enable_progress_bars()


def message(source) -> str:
    with pytest.raises(UserError) as caught:
        read_table(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(folder, **splits) -> str:
    made = {name: Dataset.from_dict({"Query": texts}) for name, texts in splits.items()}
    DatasetDict(made).save_to_disk(str(folder))
    return str(folder)


def test_a_file_is_read_by_path_and_by_string(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Query\na\n")
    for source in (path, str(path)):
        table = read_table(source)
        assert (table.name, table.columns, table.rows) == (str(path), ("Query",), 1)


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "a.csv").write_text("Query\na\n")
    assert read_table("~/a.csv").rows == 1


def test_a_saved_dataset_whatever_its_format_and_order(tmp_path):
    made = Dataset.from_dict({"Query": ["a", "b"], "n": [1, 2]}).select([1, 0]).with_format("numpy")
    made.save_to_disk(str(tmp_path / "set"))
    table = read_table(tmp_path / "set")
    assert table.columns == ("Query", "n")
    assert list(table.column("Query")) == ["b", "a"]
    assert [type(cell) for cell in table.column("n")] == [int, int]


def test_of_saved_splits_train_is_read_or_the_only_one(tmp_path):
    both = saved(tmp_path / "both", test=["t"], train=["a"])
    assert list(read_table(both).column("Query")) == ["a"]
    assert list(read_table(f"{both}/test").column("Query")) == ["t"]
    assert list(read_table(saved(tmp_path / "one", test=["t"])).column("Query")) == ["t"]
    text = message(saved(tmp_path / "neither", test=["t"], validation=["v"]))
    assert "no train split" in text
    assert "neither/validation" in text


def test_an_empty_train_split_is_empty_not_another_split(tmp_path, monkeypatch):
    splits = {
        "train": Dataset.from_dict({"Query": []}),
        "test": Dataset.from_dict({"Query": ["t"]}),
    }
    monkeypatch.setattr(datasets, "load_from_disk", lambda folder: DatasetDict(splits))
    assert "is empty" in message(tmp_path)


def test_an_empty_saved_dataset_which_the_library_cannot_load_gets_one_line(tmp_path):
    assert "broken or empty" in message(saved(tmp_path / "set", train=[]))


def test_a_folder_that_is_no_saved_dataset_names_its_files(tmp_path):
    assert "holds no saved dataset" in message(tmp_path)
    (tmp_path / "rows.csv").write_text("Query\na\n")
    assert "rows.csv" in message(tmp_path)


def test_a_saved_dataset_that_is_broken_gets_one_line(tmp_path):
    Dataset.from_dict({"Query": ["a"]}).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "set" / "state.json").write_text("{")
    assert "could not be read" in message(tmp_path / "set")


def test_a_missing_file_suggests_its_neighbours(tmp_path):
    (tmp_path / "train.csv").write_text("Query\na\n")
    text = message(tmp_path / "trian.csv")
    assert "no file or folder" in text
    assert str(tmp_path / "train.csv") in text
    assert "check the path" in message(tmp_path / "zzz.csv")
    assert "no folder" in message(tmp_path / "nowhere" / "train.csv")


@pytest.mark.parametrize("source", ["", "csv", "json", "squad"])
def test_a_bare_word_is_never_looked_up(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("Query\na\n")
    assert "owner/name" in message(source)


def test_a_mistyped_path_is_never_looked_up(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "data" / "train", train=["a"])
    assert "data/train" in message("data/trian")
    assert "hub" not in message("data/trian")
    assert "hub" not in message("owner/name.csv")


def test_a_hub_name_that_cannot_be_loaded_gets_one_line():
    text = message("nobody/nothing")
    assert "taken for a dataset on the Hugging Face hub" in text
    assert "Offline" in text


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("owner/name", ("owner/name", "train")),
        ("owner/name:test", ("owner/name", "test")),
        ("owner/name:test[:10%]", ("owner/name", "test[:10%]")),
    ],
)
def test_a_hub_name_may_name_its_split(source, asked, monkeypatch):
    def load_dataset(name, split):
        assert (name, split) == asked
        return Dataset.from_dict({"Query": ["a"]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_table(source).column("Query")) == ["a"]


def test_a_table_without_rows_or_with_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("Query,Answer\n")
    assert "is empty" in message(path)
    path.write_text("Query,Answer, Query\na,b,c\n")
    assert "more than one column 'Query'" in message(path)


# Tables that no text ever filled


def wide(kind: str, columns: int, folder: Path) -> Path:
    """Write a table of so many columns; of `rows` each names a column of its own."""
    names = ["Passage", "Query", *(f"c{place}" for place in range(columns - 2))]
    path = folder / f"wide.{'jsonl' if kind == 'rows' else kind}"
    match kind:
        case "csv":
            path.write_text(",".join(names) + "\n" + ",".join("x" * columns) + "\n")
        case "jsonl":
            path.write_text(json.dumps(dict.fromkeys(names, "x")) + "\n")
        case "rows":
            path.write_text("".join(json.dumps({name: "x"}) + "\n" for name in names))
        case "parquet":
            pyarrow.parquet.write_table(pyarrow.table({name: ["x"] for name in names}), path)
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "rows", "parquet"])
def test_a_table_of_fifty_thousand_columns_is_refused_at_once(kind, tmp_path):
    path = wide(kind, 50_000, tmp_path)
    started = time.process_time()
    assert "it has 50,000 columns, more than 10,000" in message(path)
    assert time.process_time() - started < 10


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_of_eight_thousand_columns_is_read_at_once(kind, tmp_path):
    path = wide(kind, 8_000, tmp_path)
    started = time.process_time()
    assert read_table(path).texts("Query") == ["x"]
    assert read_examples(path, PairColumns())[0].query == "x"
    with pytest.raises(UserError, match=r"no column 'c' .*, …; set --query-column") as caught:
        read_examples(path, PairColumns(query_column="c"))
    assert len(str(caught.value)) < 400
    assert time.process_time() - started < 2


def test_a_packed_file_made_to_fill_the_memory_is_refused(tmp_path):
    path = tmp_path / "bomb.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(b"Passage,Query\n")
        for _ in range(30):
            out.write(bytes(4_000_000).replace(b"\0", b"a"))
    assert "it unpacks to over 100 MB, more than 100 times its size" in message(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    assert "it is a device or a pipe; save what it gives to a file" in message(
        tmp_path / "pipe.csv"
    )
