"""Odd tables: every command reads the same rows, and names the others by the same lines."""

import csv
import gzip
import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import Columns
from dalm.ingest.texts import read_texts
from dalm.io.examples import read_examples, read_passages
from dalm.records import PROVENANCE, Passage

COMMANDS = ("passages", "qa-gen", "train-retriever-only", "eval-retriever", "mine-negatives")
COMMANDS += ("reading-comprehension", "pretrain")
STREAMED = ("passages", "pretrain")
"""They have many files: of one that breaks in the middle they read the rows up to there."""
TOWNS = ("Ulm", "Bern", "Graz", "Linz", "Kiel", "Trier", "Basel", "Essen", "Halle", "Mainz")
ROWS = [
    {
        "Title": f"{town} museum",
        "Passage": f"The {town} museum was founded in {1900 + place} by Gero Köhler. "
        f"It shows {place + 2} paintings because the town council of {town} bought them.",
        "Query": f"When was the {town} museum founded?",
        "Answer": f"in {1900 + place}",
    }
    for place, town in enumerate(TOWNS)
]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def renamed(**names: str) -> list[dict[str, str]]:
    return [{names.get(name, name): cell for name, cell in row.items()} for row in ROWS]


@dataclass(frozen=True)
class Odd:
    """A table, how to read it, and what is logged of it or why it is refused."""

    name: str
    content: bytes
    logged: tuple[str, ...] = ()
    refused: str = ""
    options: tuple[str, ...] = ()
    column: str = ""


LINES = as_lines(ROWS).splitlines()
NESTED = [row | {"Passage": {"text": row["Passage"]}} for row in ROWS]
TABLES = {
    "a broken line": Odd(
        "a.jsonl",
        "\n".join([*LINES[:1], '{"Passage": ', "[1]", *LINES[1:]]).encode(),
        ("line 2", "broken JSON", "line 3", "a list, not an object"),
    ),
    "bytes of another encoding in a line": Odd(
        "a.jsonl",
        b"\n".join([LINES[0].encode(), b'{"Passage": "K\xf6ln"}', *map(str.encode, LINES[1:])]),
        ("line 2", "byte 15 (0xf6): not UTF-8", "--encoding"),
    ),
    "no line that can be read": Odd("a.jsonl", b"{\n{\n", refused="broken JSON"),
    "a row of too many fields": Odd(
        "a.csv",
        as_csv(ROWS).replace("\r\n", "\r\nT,p,q,a,one too many\r\n", 1).encode(),
        ("line 2", "a row of 5 fields, the header has 4"),
    ),
    "a quote that is never closed": Odd(
        "a.csv",
        (as_csv(ROWS) + '"x,y\r\n' + as_csv(ROWS)).encode(),
        ("quotes of a row from line 12 on are broken",),
        refused="quotes of a row from line 12 on are broken",
    ),
    "a cell that is no text": Odd(
        "a.jsonl",
        (as_lines(ROWS) + as_lines([ROWS[0] | {"Passage": {"text": "in here"}}])).encode(),
        ("line 11", "an object, not a text; name the field inside"),
    ),
    "an unpaired surrogate": Odd(
        "a.jsonl",
        (as_lines(ROWS) + as_lines([ROWS[0] | {"Passage": "\ud800"}])).encode(),
        ("line 11", r"'\ud800' is an unpaired surrogate"),
    ),
    "csv.gz": Odd("a.csv.gz", gzip.compress(as_csv(ROWS).encode())),
    "tsv.gz": Odd("a.tsv.gz", gzip.compress(as_csv(ROWS, "\t").encode())),
    "jsonl.gz": Odd("a.jsonl.gz", gzip.compress(as_lines(ROWS).encode())),
    "UTF-16": Odd("a.csv", as_csv(ROWS).encode("utf-16")),
    "cp1252": Odd("a.csv", as_csv(ROWS).encode("cp1252"), options=("--encoding", "cp1252")),
    "cp1252, unnamed": Odd(
        "a.csv", as_csv(ROWS).encode("cp1252"), refused="line 2, byte 56 (0xf6): not UTF-8"
    ),
    "no such encoding": Odd(
        "a.csv", as_csv(ROWS).encode(), options=("--encoding", "x"), refused="--encoding x: unknown"
    ),
    "text": Odd("a.csv", as_csv(renamed(Passage="text")).encode()),
    "content": Odd("a.jsonl", as_lines(renamed(Passage="Content")).encode()),
    "a path": Odd("a.jsonl", as_lines(NESTED).encode(), column="Passage.text"),
    "a name that is nowhere": Odd(
        "a.csv", as_csv(ROWS).encode(), column="nowhere", refused="no column 'nowhere'"
    ),
}


@pytest.fixture
def call(
    tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str, Path, Odd], int]:
    """Run a command on a table, into the folder `out`; only as far as it reads, where it can."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, table: Path, odd: Odd) -> int:
        out = "out.jsonl"
        line: dict[str, list[object]] = {
            "passages": [table, "--output", out, "--max-words", 900, "--near-duplicates", 1],
            "qa-gen": [table, "--output-dir", "out"],
            "train-retriever-only": [
                *(tiny_models.encoder, table, "--output-dir", "out", "--batch-size", 4, "--dry-run")
            ],
            "eval-retriever": [table, "--retriever-name-or-path", tiny_models.encoder],
            "mine-negatives": [
                *(table, "--retriever-name-or-path", tiny_models.encoder, "--output", out)
            ],
            "reading-comprehension": [table, "--output", out],
            "pretrain": [
                *(table, tiny_models.generator, "--output-dir", "out", "--dry-run"),
                *("--sequence-length", 64),
            ],
        }
        reads_texts = name in ("passages", "pretrain")
        column = ["--text-column" if reads_texts else "--passage-column", odd.column]
        return run(app, [name, *map(str, line[name]), *odd.options, *(column if column[1] else [])])

    return call


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("table", TABLES)
def test_commands_agree(
    call: Callable[[str, Path, Odd], int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    command: str,
    table: str,
) -> None:
    odd = TABLES[table]
    if odd.logged and odd.refused and command in STREAMED:
        odd = replace(odd, refused="")
    source = tmp_path / odd.name
    source.write_bytes(odd.content)
    with caplog.at_level(logging.INFO, "dalm"):
        code = call(command, source, odd)
    printed = capsys.readouterr().err
    assert code == (2 if odd.refused else 0), printed
    assert odd.refused in printed
    if odd.refused:
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.jsonl").exists()
    else:
        assert all(part in caplog.text for part in odd.logged), caplog.text
        assert ("unread" in caplog.text) == bool(odd.logged), caplog.text


@pytest.mark.parametrize("table", [name for name, odd in TABLES.items() if not odd.refused])
def test_readers_agree(tmp_path: Path, table: str) -> None:
    odd = TABLES[table]
    source = tmp_path / odd.name
    source.write_bytes(odd.content)
    encoding = odd.options[1] if odd.options else None
    columns = Columns(passage_column=odd.column or "Passage", encoding=encoding)
    expected = [Passage.of(row["Passage"], row["Title"]) for row in ROWS]
    assert read_passages(source, columns) == expected
    assert [example.passage for example in read_examples(source, columns)] == expected
    texts = read_texts(str(source), text_column=odd.column or None, encoding=encoding)
    assert texts == expected


# Provenance


def test_provenance_from_documents_to_questions_to_training(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for row in ROWS:
        text = f"# {row['Title']}\n\n## History\n\n{row['Passage']}\n"
        (tmp_path / "docs" / f"{row['Title']}.md").write_text(text)
    table = tmp_path / "notes.csv"
    table.write_text(as_csv([{"text": "The Bonn museum was founded in 1950 by Ida Moser."}]))
    passages = tmp_path / "passages.jsonl"
    call = ["passages", tmp_path / "docs", table, "--output", passages]
    assert run(app, [*map(str, call)]) == 0
    written = [json.loads(line) for line in passages.read_text().splitlines()]
    assert {tuple(row) for row in written} == {("id", "Title", "Passage", *PROVENANCE)}

    read = {passage.id: passage for passage in read_passages(passages, Columns())}
    for row in written:
        assert read[row["id"]].provenance() == {
            name: row[name] for name in PROVENANCE if row[name] not in (None, "", [])
        }
    call = ["qa-gen", passages, "--output-dir", tmp_path / "qa", "--as-csv", "--as-jsonl"]
    assert run(app, [*map(str, [*call, "--as-dataset"])]) == 0
    for ending in (".csv", ".jsonl", ""):
        source = tmp_path / "qa" / f"question_answer_pairs_train{ending}"
        examples = read_examples(source, Columns(), needs=("passage", "answer"))
        assert examples
        for example in examples:
            assert example.passage is not None
            known = read[example.passage.id]
            assert example.passage.provenance() == known.provenance()
            assert example.passage.place in ("notes.csv, line 2", f"docs/{known.title}.md")


def test_mined_negatives_keep_the_columns_of_the_table(tmp_path: Path, tiny_models: Any) -> None:
    source = tmp_path / "questions.jsonl"
    placed = [row | {"source": f"{row['Title']}.pdf", "page": 3} for row in ROWS]
    source.write_text(as_lines(placed))
    output = tmp_path / "mined.jsonl"
    call = ["mine-negatives", source, "--retriever-name-or-path", tiny_models.encoder]
    assert run(app, [*map(str, [*call, "--output", output])]) == 0
    for example, row in zip(read_examples(output, Columns()), placed, strict=True):
        assert example.passage is not None
        assert example.passage.place == f"{row['source']}, page 3"
