import csv
import gzip
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from dalm.ingest.loaders.loader import Skipped

ROWS = [
    {"Title": "T", "Passage": "one, \n\n two", "n": 1},
    {"Title": "", "Passage": 'a "quoted" NA', "n": 2},
]
TEXTS = [("one, \n\n two", "T"), ('a "quoted" NA', "")]


def pairs(found) -> list[tuple[str, str]]:
    return [each if isinstance(each, Skipped) else (each.text, each.title) for each in found]


def delimited(mark: str) -> str:
    def cell(value: object) -> str:
        return '"' + str(value).replace('"', '""') + '"'

    return "\n".join(
        mark.join(map(cell, row)) for row in [list(ROWS[0]), *(r.values() for r in ROWS)]
    )


def test_every_format_gives_the_same_documents(read, tmp_path):
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "made.parquet")
    files = {
        "a.csv": delimited(","),
        "b.tsv": delimited("\t"),
        "c.jsonl": "\n".join(map(json.dumps, ROWS)) + "\n\n",
        "d.ndjson": "\ufeff" + "\n".join(map(json.dumps, ROWS)),
        "e.json": json.dumps(ROWS, indent=1),
        "f.json": "\n".join(map(json.dumps, ROWS)),
        "g.parquet": (tmp_path / "made.parquet").read_bytes(),
    }
    for name, content in files.items():
        assert pairs(read(name, content)) == TEXTS, name


def test_a_row_says_where_it_stands(read):
    found = read("a.csv", 'text\none\n\n"two\nlines"\n')
    assert [each.source.split("/")[-1] for each in found] == ["a.csv, line 2", "a.csv, line 5"]
    [first, second] = read("a.json", '["one", {"body": "two"}]')
    assert (first.source.endswith("a.json, item 1"), second.text) == (True, "two")


def test_columns_are_found_or_named(read, unread):
    assert pairs(read("a.csv", "id,Body,TITLE\n1,b,t\n")) == [("b", "t")]
    assert pairs(read("a.csv", "x,y\nb,t\n", text_column="x", title_column="y")) == [("b", "t")]
    assert "no column of texts among 'x', 'y'; name it: --text-column NAME" in unread(
        "a.csv", "x,y\nb,t\n"
    )
    assert "no column 'z', only 'x', 'y'; set --text-column" in unread(
        "a.csv", "x,y\nb,t\n", text_column="z"
    )
    assert "set --title-column" in unread("a.csv", "x,y\nb,t\n", text_column="x", title_column="z")


def test_a_path_leads_through_json(read):
    squad = {
        "data": [
            {"title": "A", "paragraphs": [{"context": "one"}, {"context": "two"}]},
            {"title": "B", "paragraphs": [{"context": "three", "title": "own"}]},
        ]
    }
    found = read("a.json", json.dumps(squad), text_column="data.paragraphs.context")
    assert pairs(found) == [("one", "A"), ("two", "A"), ("three", "own")]
    lines = '{"a": {"b": "x"}}\n{"a": {"c": 1}}\n{"a.b": "y"}\n{"a": {"b": {}}}\n'
    x, missing, y, no_text = read("a.jsonl", lines, text_column="a.b")
    assert (x.text, y.text) == ("x", "y")
    assert "no text at 'a.b'" in missing.reason
    assert missing.source.endswith("line 2")
    assert "an object, not a text" in no_text.reason


def test_a_broken_line_of_json_is_passed_over_alone(read):
    content = b'{"text": "a"}\n{"text": \n{"text": "\xff"}\n[1]\n{"text": "\\ud800"}\n{"text": "b"}'
    a, *broken, b = read("a.jsonl", content)
    assert (a.text, b.text) == ("a", "b")
    reasons = [each.reason for each in broken]
    assert "broken JSON" in reasons[0]
    assert "not UTF-8" in reasons[1]
    assert "a list, not an object" in reasons[2]
    assert "an unpaired surrogate" in reasons[3]
    assert [each.source.rsplit(" ", 1)[1] for each in broken] == ["2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", 'text\na\n"b" c\n', "quotes"),
        ("a.csv", b"text\na\n\xe9\n", "line 3, byte 1 (0xe9)"),
        ("a.csv", b"text\na\nb\0\n", "line 3: a NUL byte"),
    ],
)
def test_a_broken_table_is_read_up_to_there(read, name, content, part):
    first, rest = read(name, content)
    assert first.text == "a"
    assert part in rest.reason


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("a.csv", "", "it is empty"),
        ("a.csv", "\n\n", "it is empty"),
        ("a.csv", "text,n\n", "it is empty"),
        ("a.jsonl", "\n \n", "it is empty"),
        ("a.json", "[]", "it is empty"),
        ("a.json", "", "it is empty"),
        ("a.json", '{"text": "a"', "broken JSON"),
        ("a.json", "[" * 100_000, "broken JSON"),
        ("a.json", '{"text": ' + "9" * 5000 + "}", "broken JSON"),
        ("a.parquet", b"PAR1 no", "could not be read"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(unread, name, content, part):
    assert part in unread(name, content)


def test_a_csv_row_with_too_many_fields_is_passed_over_alone(read):
    a, broken, c = read("a.csv", "text,n\na,1\nb,2,3\nc\n")
    assert (a.text, c.text) == ("a", "c")
    assert broken.source.endswith("a.csv, line 3")
    assert "a row of 3 fields, the header has 2" in broken.reason


def test_compressed_tables_and_other_encodings_are_read(read):
    packed = gzip.compress(delimited(",").encode())
    assert pairs(read("a.csv.gz", packed)) == TEXTS
    assert pairs(read("a.csv", "text\nKöln\n".encode("utf-16"))) == [("Köln", "")]
    assert pairs(read("a.csv", "text\nKöln\n".encode("cp1252"), encoding="cp1252")) == [
        ("Köln", "")
    ]


def test_lists_in_a_row_are_several_documents(read, tmp_path):
    rows = [{"title": "A", "text": ["one", "two"]}, {"title": "B", "text": []}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "made.parquet")
    for name, content in (
        ("a.json", json.dumps(rows)),
        ("a.parquet", (tmp_path / "made.parquet").read_bytes()),
    ):
        one, two, none = read(name, content)
        assert pairs([one, two]) == [("one", "A"), ("two", "A")]
        assert two.source.endswith(" 1, text 2")
        assert "no text at 'text'" in none.reason


def test_a_line_over_the_limit_is_passed_over_alone(read):
    first, long, last = read("a.csv", "text\na\n" + "x" * 200 + "\nb\n", max_bytes=100)
    assert (first.text, last.text) == ("a", "b")
    assert long.source.endswith("a.csv, line 3")
    assert "is over" in long.reason
    assert csv.field_size_limit() < 2**31 - 1


def test_cells_become_text(read):
    found = read("a.jsonl", '{"text": 3}\n{"text": null}\n{"text": true}\n{"text": NaN}\n')
    assert [each.text for each in found] == ["3", "", "true", ""]


def test_a_bad_row_costs_only_itself(read):
    rows = "".join(f"P{n},text {n}\n" for n in range(50))
    for bad in ('P,"never closed\n', "P,a,b\n", "P,\0\n"):
        *found, last = read("a.csv", f"Title,Text\n{bad}{rows}")
        assert len(found) == 50
        assert found[0].source.endswith("a.csv, line 2")
        assert (last.text, last.title) == ("text 49", "P49")


def test_columns_are_named_for_one_table_or_for_all(read):
    named = {"text_column": "x,a.csv=y", "title_column": "a.csv=x"}
    assert pairs(read("a.csv", "x,y\nb,t\n", **named)) == [("t", "b")]
    assert pairs(read("b.csv", "x,y\nb,t\n", **named)) == [("b", "")]
    assert pairs(read("c.csv", '"x,y",z\nb,t\n', text_column="x,y")) == [("b", "")]


def test_a_column_that_one_of_several_tables_lacks_is_looked_for(read, caplog):
    options = {"text_column": "x", "several_tables": True}
    assert pairs(read("a.csv", "x,body\nb,t\n", **options)) == [("b", "")]
    assert not caplog.messages
    assert pairs(read("b.csv", "y,body\nb,t\n", **options)) == [("t", "")]
    assert "no column 'x', reading 'body'" in caplog.messages[0]
    lines = '{"x": "one"}\n{"body": "two"}\n{"body": "three"}\n'
    assert pairs(read("c.jsonl", lines, **options)) == [("one", ""), ("two", ""), ("three", "")]
    assert len(caplog.messages) == 2
