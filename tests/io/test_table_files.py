import csv
import gzip
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dalm.errors import UserError
from dalm.io.table_files import UnreadRow, read_rows
from dalm.io.tables import read_file
from dalm.io.text_lines import UnreadableError


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def cells(path: Path) -> dict[str, list[object]]:
    table = read_file(path)
    read = {name: list(table.column(name)) for name in table.columns}
    assert {len(column) for column in read.values()} == {table.rows}
    return read


def message(path: Path) -> str:
    """Return why a file can't be read, or the first of its rows that can't."""
    try:
        rows = read_rows(path)
        row = next(row for row in rows.rows if isinstance(row, UnreadRow))
        text = f"{path}: {rows.unit} {row.number}, {row.reason}"
    except Exception:  # as a library raises over a broken file
        with pytest.raises(UserError) as caught:
            read_file(path)
        text = str(caught.value)
    assert "\n" not in text
    assert path.name in text
    return text


CSV = 'Query,Passage\nwhat?,"one, two\nthree ""four"""\nNA,null\n'
CELLS = {"Query": ["what?", "NA"], "Passage": ['one, two\nthree "four"', "null"]}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_is_text_whatever_its_line_ends_and_mark(write, end, mark):
    read = cells(write("a.csv", mark + CSV.replace("\n", end).encode()))
    assert {
        name: [cell.replace(end, "\n") for cell in column] for name, column in read.items()
    } == CELLS


def test_names_in_capitals_and_compressed_files_are_read(write):
    assert cells(write("v1.2.CSV", CSV)) == CELLS
    assert cells(write("a.csv.gz", gzip.compress(CSV.encode()))) == CELLS


def test_tsv(write):
    assert cells(write("a.tsv", "Query\tAnswer\na,b\tNone\n")) == {
        "Query": ["a,b"],
        "Answer": ["None"],
    }


def test_csv_forgives_blank_lines_short_rows_empty_extras_and_unnamed_columns(write):
    path = write("a.csv", "\n,Query , Answer,\n\n0,a,b,,,\n1,c\n\n")
    assert cells(path) == {"Query": ["a", "c"], "Answer": ["b", ""]}


def test_line_separators_inside_a_text_end_no_line(write):
    text = "a\u2028b\u0085c\x0cd"
    assert cells(write("a.csv", f"Query\n{text}\n")) == {"Query": [text]}
    assert cells(write("a.jsonl", f'{{"Query": "{text.replace(chr(12), "")}"}}\n')) == {
        "Query": [text.replace("\x0c", "")]
    }


def test_a_huge_field_is_read_and_the_process_keeps_its_limit(write):
    limit = csv.field_size_limit()
    assert cells(write("a.csv", "Passage\n" + "x" * 200_000))["Passage"] == ["x" * 200_000]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["is empty"]),
        ("\n\n", ["is empty"]),
        ('Q,A\n"a\nb",c\nd,e,f\n', ["line 4", "3 fields", "header has 2"]),
        ('Q,A\na,b\n"c,d\ne,f\n', ["line 3", "quotes"]),
        ('Q,A\n"a" b,c\n', ["line 2", "quotes"]),
        ("Q;A\na;b\n", ["';'", "','"]),
        (b"Q,A\na,b\nc,caf\xe9\n", ["line 3, byte 6 (0xe9)", "save it as UTF-8", "--encoding"]),
        ("Q,A\na,b\n".encode("utf-16-le"), ["line 1", "NUL", "UTF-8"]),
        ("Q,A\na,\0b\n", ["line 2", "NUL"]),
    ],
)
def test_a_broken_csv_gets_one_line(write, content, parts):
    text = message(write("a.csv", content))
    assert all(part in text for part in parts), text


def test_a_broken_byte_is_found_far_into_the_file_and_in_compressed_ones(write):
    content = b"Q\n" + b"word\n" * 50_000 + b"caf\xe9\n"
    assert "line 50002, byte 4 (0xe9)" in message(write("a.csv", content))
    assert "line 50002, byte 4 (0xe9)" in message(write("a.csv.gz", gzip.compress(content)))


@pytest.mark.parametrize(
    "content", [b"Q\nword\n", gzip.compress(b"Q\nword\n" * 99)[:-12]], ids=["no gzip", "cut off"]
)
def test_a_broken_gzip_gets_one_line(write, content):
    assert "could not be read" in message(write("a.csv.gz", content))


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.json.gz"])
@pytest.mark.parametrize(
    "content",
    [
        '{"Query": "a", "n": 1}\n\n{"Query": null, "Answer": "é"}\n',
        '\ufeff[{"Query": "a", "n": 1},\n {"Query": null, "Answer": "é"}]',
    ],
)
def test_json_by_line_and_as_a_list(write, name, content):
    data = content.encode()
    read = cells(write(name, gzip.compress(data) if name.endswith(".gz") else data))
    assert read == {"Query": ["a", None], "n": [1, None], "Answer": [None, "é"]}


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ('{"a": 1}\n\n{"a": \n', ["line 3", "broken JSON", "one object a line"]),
        ('[{"a": 1},\n {"a" 2}]', ["line 2", "broken JSON"]),
        ('{\n "data": []\n}\n', ["line 1", "list of objects"]),
        ('{"a": 1}\n2\n', ["line 2", "not an object"]),
        ('[{"a": 1}, 2]', ["item 2", "not an object"]),
        ('{"a": ' + "9" * 5000 + "}", ["line 1", "broken JSON"]),
        ('{"a": ' + "[" * 100_000, ["line 1", "broken JSON"]),
        (b'{"a": "b"}\n{"a": "\xff"}\n', ["line 2, byte 8 (0xff)"]),
    ],
)
def test_broken_json_gets_one_line(write, content, parts):
    text = message(write("a.jsonl", content))
    assert all(part in text for part in parts), text


def test_parquet_reads_the_columns_that_are_asked_for(tmp_path):
    path = tmp_path / "a.parquet"
    columns = {"Query": ["a", None], "n": [1.5, 2.0], "day": [date(2024, 5, 6)] * 2}
    parquet.write_table(pa.table(columns), path)
    assert cells(path) == columns


def test_broken_parquet_gets_one_line(write, tmp_path):
    assert "could not be read" in message(write("a.parquet", b"no parquet at all"))
    latin = pa.array([b"caf\xe9"]).view(pa.string())
    parquet.write_table(pa.table({"Query": latin}), tmp_path / "latin.parquet")
    with pytest.raises(UserError, match=r"latin\.parquet could not be read"):
        cells(tmp_path / "latin.parquet")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "a.gz", "a.parquet.gz", "a.txt.gz"])
def test_an_unknown_extension_names_those_that_are_read(write, name):
    text = message(write(name, "Query\na\n"))
    assert "unknown extension" in text
    assert ".csv, .tsv, .jsonl" in text


# Rows that can't be read


@pytest.mark.parametrize(
    ("name", "content", "read", "unread"),
    [
        (
            "a.jsonl",
            b'{"a": "1"}\n{"a": \n\n{"a": "\xff"}\n[1]\n"a text"\n{"a": "2"}',
            {"a": ["1", None, "2"], "text": [None, "a text", None]},
            ["line 2, character 6: broken JSON", "line 4, byte 8 (0xff)", "line 5, a list, not an"],
        ),
        (
            "a.json",
            b'[{"a": "1"}, 2, {"a": "2"}]',
            {"a": ["1", "2"]},
            ["item 2, a number, not an object"],
        ),
        (
            "a.csv",
            b"a,b\n1,x\n2,y,z\n3\n",
            {"a": ["1", "3"], "b": ["x", ""]},
            ["line 3, a row of 3 fields, the header has 2"],
        ),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_passed_over(
    write, caplog, name, content, read, unread
):
    assert cells(write(name, content)) == read
    *named, count = caplog.messages
    assert len(named) == len(unread)
    assert all(part in line for part, line in zip(unread, named, strict=True)), named
    assert f"unread     {len(unread)} of " in count


def test_few_unread_rows_are_named_and_all_are_counted(write, caplog):
    table = read_file(write("a.jsonl", '{"a": 1}\n' + "{\n" * 100))
    assert table.rows == 1
    assert len(caplog.messages) == 5 + 1
    assert "unread     100 of 101 rows" in caplog.messages[-1]


def test_a_table_with_no_row_that_can_be_read_is_refused(write):
    with pytest.raises(UserError, match=r"none of its 2 rows can be read; line 1, .*broken JSON"):
        read_file(write("a.jsonl", "{\n{\n"))


@pytest.mark.parametrize("content", [b'a\n1\n"2\n3\n', b'a\n1\n"2" 3\n', b"a\n1\n\xff\n"])
def test_a_csv_file_whose_rows_cannot_be_told_apart_is_refused(write, content):
    with pytest.raises(UserError, match="line 3"):
        read_file(write("a.csv", content))


def test_rows_know_their_places(write):
    table = read_file(write("a.csv", 'a\n1\n\n"2\n3"\n'))
    assert [table.place(row) for row in range(table.rows)] == ["line 2", "line 5"]
    table = read_file(write("a.json", '[{"a": 1}, 2, {"a": 3}]'))
    assert [table.place(row) for row in range(table.rows)] == ["item 1", "item 3"]


# Encodings


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_a_byte_order_mark_names_the_encoding(write, name, encoding):
    data = "Query,Passage\nKöln?,日本 \u2028x\n".encode(encoding)
    path = write(name, gzip.compress(data) if name.endswith(".gz") else data)
    for named in (None, "cp1252"):
        table = read_file(path, encoding=named)
        assert table.column("Query") == ["Köln?"]
        assert table.column("Passage") == ["日本 \u2028x"]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "shift_jis", "cp037"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_encoding_by_name(write, encoding, end):
    text = "日本" if encoding == "shift_jis" else "Köln"
    data = end.join(["a,b", f"{text},1", f'"x{end}y",2', ""]).encode(encoding)
    table = read_file(write("a.csv", data), encoding=encoding)
    assert table.column("a") == [text, f"x{end}y"]
    lines = end.join(f'{{"a": "{cell}"}}' for cell in (text, "z")).encode(encoding)
    assert read_file(write("a.jsonl", lines), encoding=encoding).column("a") == [text, "z"]


def test_the_likeliest_encoding_is_named_once(write, caplog):
    german = "Die Größe der Räder hängt von der Übersetzung ab, die schöner fährt. " * 2
    path = write("a.jsonl", (f'{{"a": "{german}"}}\n' * 3 + '{"a": "b"}').encode("cp1252"))
    assert cells(path) == {"a": ["b"]}
    assert "--encoding (it may be cp1252" in caplog.messages[0]
    assert cells_of(path, "cp1252") == {"a": [german] * 3 + ["b"]}
    with pytest.raises(UserError, match=r"--encoding \(it may be cp1252"):
        read_file(write("a.csv", f"a\n{german}\n".encode("cp1252")))


@pytest.mark.parametrize("named", [None, "utf-16-le"])
def test_a_file_of_wide_characters_that_breaks_off_is_refused(write, named):
    data = "a\nKöln\n".encode("utf-16-le")[:-1]
    path = write("a.csv", data if named else b"\xff\xfe" + data)
    with pytest.raises(UserError, match=r"near line .: not UTF-16"):
        read_file(path, encoding=named)


def test_rows_are_read_one_after_the_other(write):
    rows = read_rows(write("a.csv", "a\n" + "1\n" * 3 + '"never closed\n')).rows
    assert [next(rows).cells for _ in range(3)] == [{"a": "1"}] * 3
    with pytest.raises(UnreadableError, match="line 5"):
        next(rows)


def cells_of(path: Path, encoding: str) -> dict[str, list[object]]:
    table = read_file(path, encoding=encoding)
    return {name: list(table.column(name)) for name in table.columns}


@pytest.mark.parametrize("encoding", ["nonsense", "base64"])
def test_an_unknown_encoding_is_refused(write, encoding):
    with pytest.raises(UserError, match=f"--encoding {encoding}: unknown"):
        read_file(write("a.csv", "a\nb\n"), encoding=encoding)


# Nested columns


def test_a_path_is_a_column_in_json_and_in_parquet(write, tmp_path):
    rows = [{"body": {"text": "one", "more": [{"text": "a"}, {"text": "b"}]}}, {"body": None}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    write("a.json", '[{"body": {"text": "one", "more": [{"text": "a"}, {"text": "b"}]}}, {}]')
    for name in ("a.json", "a.parquet"):
        table = read_file(tmp_path / name)
        assert table.column("body.text") == ["one", None]
        assert table.column("body.more.text") == [["a", "b"], None]
        assert [table.has(path) for path in ("body", "body.text", "body.none", "no.text")] == [
            *(True, True, False, False)
        ]
