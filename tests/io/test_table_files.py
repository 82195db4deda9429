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
        (b"Q,A\na,b\nc,caf\xe9\n", ["line 3, byte 6 (0xe9)", "save it as UTF-8", "--encoding"]),
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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.csv.gz"])
def test_utf_16_is_read_without_a_mark(write, name, encoding):
    texts = {
        "csv": "a,b\nKöln,日本\n",
        "tsv": "a\tb\nKöln\t日本\n",
        "jsonl": '{"a": "Köln", "b": "日本"}\n',
    }
    data = texts[name.split(".")[1]].encode(encoding)
    found = cells(write(name, gzip.compress(data) if name.endswith(".gz") else data))
    assert found == {"a": ["Köln"], "b": ["日本"]}


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "Die Größe der Räder hängt von der Übersetzung ab und die schöne fährt."),
        ("cp1251", "Насос в южном доме работает под давлением и требует масла каждую неделю."),
        ("utf-8", "Köln"),
        ("utf-16", "Köln"),
    ],
)
def test_an_encoding_is_guessed_for_each_file(write, caplog, encoding, text):
    caplog.set_level("INFO")
    path = write(f"{encoding}.csv", f"a\nplain\n{text}\n".encode(encoding))
    for _ in range(2):
        assert cells_of(path, "auto") == {"a": ["plain", text]}
    guesses = [line for line in caplog.messages if "a guess" in line]
    assert len(guesses) == (0 if encoding.startswith("utf") else 1)
    assert all(f"{path.name}: read as {encoding}, a guess" in line for line in guesses)


# Delimiters


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_the_delimiter_is_found(write, name, mark):
    rows = [
        ["Titel", "Preis, netto", "Text; mehr"],
        ["A", "1,5", "x"],
        ["B", "2,75", "y, z; and | more"],
    ]
    text = "\n".join(
        mark.join(f'"{cell}"' if mark in cell else cell for cell in row) for row in rows
    )
    assert list(cells(write(name, text))) == rows[0]
    assert list(zip(*cells(write(name, text)).values(), strict=True)) == [
        tuple(r) for r in rows[1:]
    ]


@pytest.mark.parametrize("line", ["sep=;\n", "SEP=;\r\n", '"sep=;"\n', "\ufeffsep=;\n"])
def test_excels_line_says_the_delimiter(write, line):
    table = read_file(write("a.csv", line + "Titel, lang;Text\na,b;c\n"))
    assert table.columns == ("Titel, lang", "Text")
    assert table.column("Text") == ["c"]
    assert table.place(0) == "line 3"


def test_a_column_of_texts_with_marks_in_them_is_one_column(write):
    texts = ["a; b; c", "one, two", "x | y", "plain"]
    path = write("a.csv", "Text\n" + "\n".join(f'"{text}"' for text in texts) + "\n")
    assert cells(path) == {"Text": texts}
    assert cells(write("b.csv", "Question; answer\nplain\nother\n")) == {
        "Question; answer": ["plain", "other"]
    }


def test_a_header_alone_is_a_table(write):
    assert read_file(write("a.csv", "a;b\n")).columns == ("a", "b")


# Going on after broken rows


def recovered(path: Path, **options) -> tuple[list[dict[str, object]], list[tuple[int, str]]]:
    rows, unread = [], []
    for row in read_rows(path, recover=True, **options).rows:
        if isinstance(row, UnreadRow):
            unread.append((row.number, row.reason))
        else:
            rows.append(row.cells)
    return rows, unread


GOOD = [{"n": str(n), "text": f"text {n}"} for n in range(200)]


def with_line(line: str | bytes, at: int = 3) -> bytes:
    lines = [b"n,text", *(f"{row['n']},{row['text']}".encode() for row in GOOD)]
    lines.insert(at, line.encode() if isinstance(line, str) else line)
    return b"\n".join(lines) + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        '9,"never closed',
        '9,"closed" too early',
        '"9,x',
        '9,"one ""two',
        "9,b\xe9".encode("latin-1"),
        b"9,a\0b",
        '9,"one\nand "two" here\nthree",',
        "9,x,y",
    ],
)
def test_a_bad_row_costs_only_itself(write, line):
    rows, unread = recovered(write("a.csv", with_line(line)))
    assert rows == GOOD
    assert [number for number, _ in unread] == [4]
    packed = gzip.compress(with_line(line))
    assert recovered(write("b.csv.gz", packed))[0] == GOOD
    assert recovered(write("c.tsv", with_line(line).replace(b",", b"\t")))[0] == GOOD


def test_bad_rows_one_after_the_other_and_at_the_end_are_named(write):
    data = with_line('9,"a\n9,"b\n9,"c') + b'10,"end\n'
    rows, unread = recovered(write("a.csv", data))
    assert rows == GOOD
    assert [number for number, _ in unread] == [4, 205]
    assert "lines 4 to 6 are left out: the quotes of a row from line 4" in unread[0][1]


def test_rows_after_a_closed_cell_of_several_lines_are_read(write):
    data = with_line('9,"a ""b"" c\nd, e\n\nf"')
    rows, unread = recovered(write("a.csv", data))
    assert rows == [*GOOD[:2], {"n": "9", "text": 'a "b" c\nd, e\n\nf'}, *GOOD[2:]]
    assert unread == []


def test_lines_that_are_too_long_or_not_utf_16_cost_only_themselves(write):
    rows, unread = recovered(write("a.csv", with_line("9," + "x" * 5000)), max_bytes=1000)
    assert rows == GOOD
    assert unread[0][0] == 4
    assert "over 0.001 MB" in unread[0][1]
    wide = (
        with_line("9,BAD")
        .decode()
        .encode("utf-16")
        .replace("BAD".encode("utf-16-le"), b"\x00\xd8a\x00b\x00")
    )
    rows, unread = recovered(write("b.csv", wide))
    assert rows == GOOD
    assert unread[0][0] == 4
    assert "not UTF-16" in unread[0][1]


def test_many_broken_quotes_are_passed_over_in_a_moment(write):
    rows, unread = recovered(write("a.csv", "n,text\n" + '9,"a\n8,b\n7,""x\n' * 20_000))
    assert len(rows) + len(unread) > 20_000


def test_a_table_for_training_is_refused_where_rows_cannot_be_told_apart(write):
    with pytest.raises(UserError, match="quotes of a row from line 4"):
        read_file(write("a.csv", with_line('9,"never closed')))


def test_a_broken_list_is_read_up_to_the_error(write):
    rows, unread = recovered(write("a.json", '[{"a": 1},\n {"a": 2}, {"a" 3}, {"a": 4}]'))
    assert rows == [{"a": 1}, {"a": 2}]
    assert unread[0][0] == 3
    assert "nothing is read from here on" in unread[0][1]


def test_damaged_parts_of_parquet_cost_only_their_rows(write, tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {n}" for n in range(3000)]
    parquet.write_table(
        pa.table({"a": texts}), path, row_group_size=1000, compression="none", use_dictionary=False
    )
    data = bytearray(path.read_bytes())
    at = data.index(b"text 1500")
    data[at - 4 : at] = b"\xff\xff\xff\x7f"  # the length of a text
    rows, unread = recovered(write("b.parquet", bytes(data)))
    assert [row["a"] for row in rows[:1000]] == texts[:1000]
    assert rows[-1]["a"] == "text 2999"
    assert len(unread) == 1
    assert "damaged" in unread[0][1]
    latin = pa.array([b"one", b"caf\xe9", b"two"]).view(pa.string())
    parquet.write_table(pa.table({"a": latin}), tmp_path / "c.parquet")
    rows, unread = recovered(tmp_path / "c.parquet")
    assert ([row["a"] for row in rows], unread[0][0]) == (["one", "two"], 2)


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
