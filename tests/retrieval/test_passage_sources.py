"""An index's sources are collected part by part, and never cost the index what can't be read."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dalm.config import Index, PairColumns
from dalm.errors import UserError
from dalm.io import table_parts
from dalm.io.examples import PassageFile, read_passages
from dalm.records import distinct_by_id
from dalm.retrieval.index_folder import IndexFolder
from dalm.retrieval.indexing import bring_up_to_date
from dalm.retrieval.passage_sources import collected
from tests.retrieval.test_indexing import MADE, Encoder

SETTINGS = Index(index_dir="unused")


@pytest.fixture
def generation(tmp_path, caplog):
    caplog.set_level("INFO")
    folder = IndexFolder(tmp_path / "index")
    folder.begin(MADE)
    folder.switch(1)
    return folder.current(to_search=False)


def index(generation, *sources, prune=False, settings=SETTINGS):
    folder = generation.folder.parents[1]
    with collected([str(each) for each in sources], settings, folder) as passages:
        bring_up_to_date(generation, passages, Encoder(), prune=prune)
    assert not (folder / ".reading").exists()
    return set(generation.store.texts_of(list(generation.store.digests())).values())


def table(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def docs(tmp_path):
    (tmp_path / "docs" / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c"):
        (tmp_path / "docs" / f"{name}.txt").write_text(f"All about the letter {name[-1]}.")
    return tmp_path / "docs"


LETTERS = {f"All about the letter {letter}." for letter in "abc"}


# Tables in parts


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "json"])
def test_parts_give_the_passages_of_the_whole(tmp_path, monkeypatch, kind):
    import pandas as pd

    rows = [
        {"Passage": f"text {n % 17}", "source": f"{n}.pdf", "Year": 1900 + n} for n in range(50)
    ]
    rows[3]["Passage"] = rows[20]["Passage"] = ""
    frame, path = pd.DataFrame(rows), tmp_path / f"t.{kind}"
    write = {
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        "json": lambda: frame.to_json(path, orient="records"),
        "csv": lambda: frame.to_csv(path, index=False),
        "parquet": lambda: frame.to_parquet(path),
    }
    write[kind]()
    monkeypatch.setattr(table_parts, "ROWS", 7)
    whole = read_passages(path, PairColumns())
    parts = PassageFile(path, PairColumns())
    found = list(parts)
    assert len(found) == 48
    assert [p.to_dict() for p in distinct_by_id(found)] == [p.to_dict() for p in whole]
    assert parts.unread == 0


def test_parts_find_nested_texts_and_count_unread_rows(tmp_path, monkeypatch):
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n{"body": {"text": "one"}}\n{broken\n{"body": {"text": "two"}}\n')
    monkeypatch.setattr(table_parts, "ROWS", 2)
    parts = PassageFile(path, PairColumns(passage_column="body.text"))
    assert [passage.text for passage in parts] == ["one", "two"]
    assert parts.unread == 1


@pytest.mark.parametrize(("content", "problem"), [("", "is empty"), ('{"Passage": ""}\n', "none")])
def test_a_table_without_passages_is_refused(tmp_path, content, problem):
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(UserError, match=problem):
        list(PassageFile(tmp_path / "t.jsonl", PairColumns()))


def test_rows_that_say_something_else_of_the_same_text_are_counted(generation, tmp_path, caplog):
    rows = [{"Passage": "Press it.", "source": f"{name}.pdf"} for name in "aabc"]
    assert index(generation, table(tmp_path / "t.jsonl", rows)) == {"Press it."}
    assert "left out   2 rows with the text of another row" in caplog.text


# Pruning


def test_a_document_that_cannot_be_read_keeps_its_passages(generation, docs, caplog):
    assert index(generation, docs) == LETTERS
    (docs / "a.txt").write_bytes(b"\xff\xfe\x00")
    (docs / "b.txt").unlink()
    assert index(generation, docs, prune=True) == LETTERS
    assert "docs/a.txt couldn't be read, and has passages in the index" in caplog.text
    (docs / "a.txt").unlink()
    (docs / "never.read").write_text("no such kind")
    assert index(generation, docs, prune=True) == {"All about the letter c."}


def test_strict_names_what_could_not_be_read(tmp_path, docs):
    path = table(tmp_path / "t.jsonl", [{"Passage": "text 1"}])
    path.write_text(path.read_text() + '{"Passage": "tw\n')
    places = [docs, path]
    with (
        collected([str(each) for each in places], SETTINGS, tmp_path / "index") as passages,
        pytest.raises(UserError, match="--strict: 1 rows of tables could not be read"),
    ):
        passages.check_all_read()
    (docs / "a.txt").write_bytes(b"\xff\xff")
    with (
        collected([str(docs)], SETTINGS, tmp_path / "index") as passages,
        pytest.raises(UserError, match=r"--strict: .* docs/a\.txt: line 1.* 1 in all"),
    ):
        passages.check_all_read()


def test_a_row_that_cannot_be_read_may_be_what_is_gone(generation, tmp_path, caplog):
    path = table(tmp_path / "t.jsonl", [{"Passage": "one"}, {"Passage": "two"}])
    assert index(generation, path) == {"one", "two"}
    path.write_text('{"Passage": "one"}\n{"Passage": "tw\n')
    assert index(generation, path, prune=True) == {"one", "two"}
    assert "1 rows couldn't be read" in caplog.text


def test_an_empty_folder_deletes_nothing(generation, docs, tmp_path):
    index(generation, docs)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no files in .*empty"):
        index(generation, docs, tmp_path / "empty", prune=True)
    assert generation.store.count() == 3


def test_a_renamed_document_keeps_its_vectors(generation, docs, caplog):
    index(generation, docs)
    (docs / "a.txt").rename(docs / "z.txt")
    assert index(generation, docs, prune=True) == LETTERS
    assert "0 new, 1 changed, 2 unchanged" in caplog.text


def test_documents_split_otherwise_are_not_mixed(generation, docs):
    index(generation, docs)
    otherwise = replace(SETTINGS, max_words=8)
    with pytest.raises(UserError, match=r"split with --max-words 100; use that again, or add"):
        index(generation, docs, settings=otherwise)
    index(generation, docs, settings=otherwise, prune=True)
    assert generation.description.chunking["max_words"] == 8
