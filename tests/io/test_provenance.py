"""Where a passage was taken from: written by `dalm passages`, kept by every reader."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dalm.config import Columns, RetrieverOnly
from dalm.io.evaluation_set import read_evaluation_set
from dalm.io.examples import read_examples, read_passages
from dalm.io.tables import read_table
from dalm.io.writers import columns_of_provenance, write_table
from dalm.records import Passage

PLACED = Passage.of(
    "Turn the valve.",
    "Pump manual",
    document="0123456789abcdef",
    source="manuals/manual.pdf",
    headings=("Upkeep", "Valves"),
    page=12,
    start=0,
    end=15,
    extra={"department": "works", "revision": 3},
)
BARE = Passage.of("Wait.")


def same(found: Passage, expected: Passage, *, extra: bool = True) -> bool:
    known, wanted = found.provenance(), expected.provenance()
    if not extra:
        wanted = {name: value for name, value in wanted.items() if name not in expected.extra}
    return found == expected and known == wanted


def table(path: Path, passages: list[Passage], **more: list[object]) -> Path:
    columns: dict[str, list[object]] = {
        "id": [passage.id for passage in passages],
        "Title": [passage.title for passage in passages],
        "Passage": [passage.text for passage in passages],
        **more,
    }
    write_table(path, columns | columns_of_provenance(passages, taken=columns))
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.csv", "a.tsv.gz"])
def test_every_format_keeps_it(tmp_path: Path, name: str) -> None:
    source = table(tmp_path / name, [PLACED, BARE])
    first, second = read_passages(source, Columns())
    if "sv" in name:  # numbers of further columns are texts there
        assert first.extra == {"department": "works", "revision": "3"}
        assert same(first, PLACED, extra=False) or first.headings == PLACED.headings
    else:
        assert same(first, PLACED)
    assert (first.page, first.start, first.headings) == (12, 0, ("Upkeep", "Valves"))
    assert same(second, BARE)


def test_nothing_known_writes_no_column() -> None:
    assert columns_of_provenance([BARE, BARE]) == {}
    assert list(columns_of_provenance([PLACED, BARE], taken={"revision"})) == [
        *("document", "source", "headings", "page", "start", "end", "department")
    ]


def test_a_further_column_of_mixed_values_is_written_as_texts(tmp_path: Path) -> None:
    mixed = [
        Passage.of("a", extra={"x": 1}),
        Passage.of("b", extra={"x": "two"}),
        Passage.of("c", extra={}),
    ]
    source = table(tmp_path / "a.parquet", mixed)
    assert [p.extra for p in read_passages(source, Columns())] == [{"x": "1"}, {"x": "two"}, {}]


def test_examples_and_their_negatives_know_it(tmp_path: Path) -> None:
    other = Passage.of("Close the lid.", source="lid.txt", document="f" * 16)
    source = table(
        tmp_path / "a.jsonl",
        [PLACED, other],
        Query=["How?", "What?"],
        Negatives=[["Close the lid.", "Run."], []],
        Kind=["how", "fact"],
    )
    first, second = read_examples(source, RetrieverOnly(output_dir="out"))
    assert first.passage is not None
    assert same(first.passage, PLACED, extra=False)
    assert first.passage.extra == {}, "further columns of a table of questions are the questions'"
    assert first.negatives[0] is second.passage
    assert second.passage is not None
    assert second.passage.place == "lid.txt"
    assert first.negatives[1].provenance() == {}, "a text alone has no provenance"


def test_an_evaluation_takes_it_from_either_table(tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    questions.write_text(json.dumps({"Query": "How?", "Passage": "Turn the VALVE."}))
    base = table(tmp_path / "base.jsonl", [PLACED, BARE])
    found = read_evaluation_set(
        str(questions), Columns(), needs={"passage"}, knowledge_base=[str(base)]
    )
    gold = found.passages[PLACED.id]
    assert gold.text == "Turn the VALVE.", "the passage of the questions' own table"
    assert gold.place == "manuals/manual.pdf, page 12"
    assert gold.extra == PLACED.extra


def test_beir_has_its_own_ids_and_may_have_more_fields(tmp_path: Path) -> None:
    fields = {"source": "a.pdf", "page": 3, "year": 2020, "metadata": {"url": "x"}}
    (tmp_path / "corpus.jsonl").write_text(
        json.dumps({"_id": "d1", "title": "T", "text": "one"} | fields) + "\n"
    )
    (tmp_path / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "Q?"}) + "\n")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    found = read_evaluation_set(str(tmp_path), Columns(), needs={"passage"}).passages["d1"]
    assert found.provenance() == {"source": "a.pdf", "page": 3, "year": 2020}


@pytest.mark.parametrize(
    ("row", "known"),
    [
        ({"start": 3, "end": 9}, {}),  # the answer's span, perhaps
        ({"page": 3}, {}),
        ({"source": "a.pdf", "page": 3.0}, {"source": "a.pdf", "page": 3}),
        ({"source": "a.pdf", "page": "iv"}, {"source": "a.pdf"}),
        ({"document": "d", "start": "3", "end": True}, {"document": "d", "start": 3}),
        ({"document": "x" * 501}, {}),  # the document's text
        ({"source": {"url": "x"}, "headings": "One"}, {"headings": ["One"]}),
        ({"source": "a", "headings": "[1] One"}, {"source": "a", "headings": ["[1] One"]}),
        ({"source": 7, "headings": []}, {"source": "7"}),
    ],
)
def test_columns_that_mean_something_else_are_no_provenance(
    tmp_path: Path, row: dict[str, object], known: dict[str, object]
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text(json.dumps({"Passage": "p", "Query": "q"} | row))
    [passage] = read_passages(source, Columns())
    assert passage.provenance() == known


def test_further_columns_may_be_categories_and_decimals(tmp_path: Path) -> None:
    categories = pa.array(["a", None, "b"]).dictionary_encode()
    prices = pa.array([Decimal("1.50"), Decimal("2.00"), None])
    rows = {"Passage": ["p", "q", "r"], "kind": categories, "price": prices}
    parquet.write_table(pa.table(rows), tmp_path / "a.parquet")
    found = [passage.extra for passage in read_passages(tmp_path / "a.parquet", Columns())]
    assert found == [{"kind": "a", "price": 1.5}, {"price": 2}, {"kind": "b"}]


def test_further_columns_are_plain_values(tmp_path: Path) -> None:
    rows = {"Passage": ["p"], "n": [1.5], "ok": [False], "none": [None], "image": [b"x"]}
    parquet.write_table(pa.table(rows | {"tags": [["a"]]}), tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").plain == ("Passage", "n", "ok")
    [passage] = read_passages(tmp_path / "a.parquet", Columns())
    assert passage.extra == {"n": 1.5, "ok": False}
