"""Folders in BEIR's layout."""

import json

import pytest

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.evaluation_set import read_evaluation_set


def table(tmp_path, rows, name="rows.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def read(source, columns=None, **options):
    return read_evaluation_set(source, columns or Columns(), **{"needs": {"passage"}} | options)


def beir(tmp_path, qrels="query-id\tcorpus-id\tscore\nq1\td2\t2\nq1\td1\t1\nq2\td1\t0\n"):
    table(
        tmp_path,
        [{"_id": "d1", "title": "One", "text": "first"}, {"_id": "d2", "title": "", "text": "2nd"}],
        "corpus.jsonl",
    )
    queries = [{"_id": name, "text": f"question {name}"} for name in ("q1", "q2", "q3")]
    table(tmp_path, queries, "queries.jsonl")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text(qrels)
    (tmp_path / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq3\td1\t1\n")
    return str(tmp_path)


def test_a_beir_folder(tmp_path):
    found = read(beir(tmp_path))
    assert [query.id for query in found.queries] == ["q1", "q2"]
    assert found.queries[0].relevant == {"d2": 2, "d1": 1}
    assert found.queries[0].gold == ["d2", "d1"]
    assert found.queries[0].query == "question q1"
    assert (found.unjudged, found.passages["d1"].text) == (1, "first")
    titled = read(str(tmp_path), Columns(prepend_title=True))
    assert [titled.passages[name].text for name in ("d1", "d2")] == ["One\nfirst", "2nd"]


def test_another_split_of_it(tmp_path):
    beir(tmp_path)
    found = read(f"{tmp_path}:dev")
    assert [query.id for query in found.queries] == ["q3"]
    with pytest.raises(UserError, match="its splits are: dev, test"):
        read(f"{tmp_path}:train")


@pytest.mark.parametrize(
    ("qrels", "said"),
    [
        ("q1\td9\t1\n", "judges 1 passage ids that the folder doesn't have, such as 'd9'"),
        ("q9\td1\t1\n", "judges 1 query ids .* 'q9'"),
        ("q1\td1\t0\n", "no passage is relevant to any"),
    ],
)
def test_ids_that_do_not_match_are_named(tmp_path, qrels, said):
    with pytest.raises(UserError, match=said):
        read(beir(tmp_path, qrels))


def test_a_corpus_without_ids_is_refused(tmp_path):
    source = beir(tmp_path)
    table(tmp_path, [{"text": "first"}], "corpus.jsonl")
    with pytest.raises(UserError, match="no field '_id'"):
        read(source)


@pytest.mark.parametrize("name", ["corpus", "queries"])
def test_an_id_on_two_lines_is_refused(tmp_path, name):
    folder = beir(tmp_path)
    file = tmp_path / f"{name}.jsonl"
    first = json.loads(file.read_text().splitlines()[0])["_id"]
    with file.open("a") as out:
        out.write(json.dumps({"_id": first, "text": "another"}) + "\n")
    with pytest.raises(UserError, match=f"1 ids on several lines, such as '{first}'; keep one"):
        read(folder)
