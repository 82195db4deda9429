"""An evaluation searches the passages that its questions were made from, and says so."""

import json
import shutil

import pytest

from dalm.config import Columns, PairColumns
from dalm.errors import UserError
from dalm.io.evaluation_set import read_evaluation_set
from dalm.io.question_sources import FILE, passages_of, remember, source_of

TABLE = "question_answer_pairs_test.csv"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A table of two questions, made from five passages with a column of another name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work" / "questions").mkdir(parents=True)
    corpus = tmp_path / "work" / "corpus.jsonl"
    lines = [json.dumps({"note": f"Note {n} of Ulm.", "heading": f"{n}"}) for n in range(5)]
    corpus.write_text("\n".join(lines))
    folder = tmp_path / "work" / "questions"
    table = folder / TABLE
    table.write_text("Title,Passage,Query,Answer\n0,Note 0 of Ulm.,a?,b\n1,Note 1 of Ulm.,c?,d\n")
    columns = PairColumns(passage_column="note", title_column="heading")
    remember(folder, folder, [TABLE], "work/corpus.jsonl", columns)
    return table


def searched(table, **options) -> int:
    return len(read_evaluation_set(str(table), Columns(), needs={"passage"}, **options).passages)


def test_all_passages_are_searched(made, caplog):
    caplog.set_level("INFO", "dalm")
    assert searched(made) == 5
    assert "5 passages for 2 queries: all of work/corpus.jsonl, which " in caplog.text
    assert f"{TABLE} was made from" in caplog.text


def test_titles_are_prepended_to_both(made):
    columns = Columns(prepend_title=True)
    found = read_evaluation_set(str(made), columns, needs={"passage"})
    assert len(found.passages) == 5
    assert all(passage.text[1] == "\n" for passage in found.passages.values())


def test_what_is_named_is_searched_instead(made):
    assert searched(made, knowledge_base=[str(made)]) == 2
    assert searched(made, searched=False) == 2


def test_it_is_found_where_both_were_moved(made, tmp_path, caplog):
    shutil.move(tmp_path / "work", tmp_path / "elsewhere")
    assert searched(tmp_path / "elsewhere" / "questions" / TABLE) == 5
    assert "changed" not in caplog.text


def test_what_changed_is_told(made, caplog):
    with (made.parents[1] / "corpus.jsonl").open("a") as file:
        file.write('\n{"note": "Note 6 of Ulm.", "heading": "6"}')
    assert searched(made) == 6
    assert "corpus.jsonl has changed since" in caplog.text


def test_what_is_gone_is_told(made, caplog):
    (made.parents[1] / "corpus.jsonl").unlink()
    assert searched(made) == 2
    assert "work/corpus.jsonl, which" in caplog.text
    assert "is gone: name it with --passages" in caplog.text
    assert "only those of the questions" in caplog.text


def test_a_table_of_unknown_origin_is_warned_of(made, caplog):
    other = made.with_name("mine.csv")
    shutil.copy(made, other)
    assert source_of(str(other)) is None
    assert searched(other) == 2
    assert "2 passages for 2 queries: only those of the questions" in caplog.text


def test_a_name_on_the_hub_stays_one(tmp_path):
    remember(tmp_path, tmp_path, [TABLE], "somebody/passages", PairColumns())
    source = source_of(str(tmp_path / TABLE))
    assert source is not None
    assert passages_of(str(tmp_path / TABLE), source) == "somebody/passages"


def test_a_damaged_record_is_named(made):
    made.with_name(FILE).write_text("{")
    with pytest.raises(UserError, match=FILE):
        searched(made)
