"""`dalm mine-negatives` from the command line, and training on what it wrote."""

import csv
import json
import logging
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dalm import stop_signals
from dalm.artifacts import claim
from dalm.cli import app, run
from dalm.io.tables import read_file
from dalm.records import normalise


@pytest.fixture
def call(tiny_models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """Mine with the small encoder, and return the lines that were logged."""

    def mine(table: Path, output: Path, *more: object) -> str:
        caplog.clear()
        line = ["mine-negatives", table, "--retriever-name-or-path", tiny_models.encoder]
        line += ["--output", output, *more]
        if "--no-cache" not in more:
            line += ["--cache-dir", tmp_path / "cache"]
        with caplog.at_level(logging.INFO, "dalm"):
            assert run(app, [str(word) for word in line]) == 0
        return caplog.text

    return mine


@pytest.fixture
def refused(tiny_models: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def mine(table: Path, output: object, *more: object, encoder: object = None) -> str:
        line = ["mine-negatives", table, "--retriever-name-or-path", encoder or tiny_models.encoder]
        capsys.readouterr()
        assert run(app, [str(word) for word in [*line, "--output", output, *more]]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert error.startswith("dalm: ")
        return error

    return mine


EVERYTHING = ("--max-share", "off")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_the_table_with_its_negatives(
    call: Callable[..., str], tiny_table: Path, tmp_path: Path, ending: str
) -> None:
    output = tmp_path / f"mined.{ending}"
    log = call(tiny_table, output, *EVERYTHING, "--num-negatives", 3)
    assert "mined      60 negatives for 20 questions: 20 of them have all 3, 0 have none" in log
    assert f"table      {output}" in log
    assert "next       dalm train-retriever-only" in log
    before, after = read_file(tiny_table), read_file(output)
    assert all(after.column(name) == before.column(name) for name in before.columns)
    if ending == "csv":
        columns = [after.column(f"Negative {place}") for place in (1, 2, 3)]
        negatives = list(zip(*columns, strict=True))
        scores = [json.loads(cell) for cell in after.column("Negative scores")]
    else:
        negatives, scores = after.column("Negatives"), after.column("Negative scores")
    passages = {normalise(text) for text in before.column("Passage")}
    for found, scored, gold in zip(negatives, scores, before.column("Passage"), strict=True):
        assert len({normalise(text) for text in found} & passages - {normalise(gold)}) == 3
        assert scored == sorted(scored, reverse=True)


def test_it_is_repeatable_and_the_second_run_encodes_nothing(
    call: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    options = ("--bm25", *EVERYTHING, "--sampling", "random", "--seed", 7)
    first, second = tmp_path / "1.jsonl", tmp_path / "2.jsonl"
    assert "0 from the cache, 10 encoded" in call(tiny_table, first, *options)
    assert "10 from the cache, 0 encoded" in call(tiny_table, second, *options)
    assert first.read_bytes() == second.read_bytes()
    third = tmp_path / "3.jsonl"
    log = call(tiny_table, third, "--bm25", *EVERYTHING, "--sampling", "random", "--no-cache")
    assert "from the cache" not in log
    assert third.read_bytes() != first.read_bytes(), "another seed"


def test_share_margin_document_and_ranks(
    call: Callable[..., str], tiny_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    table = tmp_path / "titled.jsonl"
    rows = [{"Title": f"doc {place // 4}"} | row for place, row in enumerate(tiny_rows)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    titles = {row["Passage"]: row["Title"] for row in rows}

    def mined(*options: object) -> list[dict[str, Any]]:
        call(table, tmp_path / "out.jsonl", "--overwrite-output", "--num-negatives", 9, *options)
        return [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]

    every = mined(*EVERYTHING, "--no-skip-same-document")
    assert {len(row["Negatives"]) for row in every} == {9}
    for row in mined(*EVERYTHING):
        assert len(row["Negatives"]) == 8
        assert row["Title"] not in {titles[text] for text in row["Negatives"]}
    for options, limit in (
        (("--max-share", 0.9), lambda s: s - 0.1 * abs(s)),
        ((*EVERYTHING, "--margin", 0.05), lambda s: s - 0.05),
    ):
        for full, row in zip(every, mined(*options, "--no-skip-same-document"), strict=True):
            most = limit(full["Gold score"])
            assert row["Negative scores"] == [s for s in full["Negative scores"] if s <= most]
    ranked = mined(*EVERYTHING, "--no-skip-same-document", "--first-rank", 2, "--last-rank", 4)
    assert [row["Negatives"] for row in ranked] == [row["Negatives"][1:4] for row in every]


def test_a_whole_knowledge_base_is_searched(
    call: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.csv"
    base.write_text("Passage\nFanny lives in Ulm.\nFanny lives in Bern.\n")
    options = ("--passages", base, "--num-negatives", 20, *EVERYTHING)
    assert "searching  12 passages" in call(tiny_table, tmp_path / "out.jsonl", *options)
    first = json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])
    assert len(first["Negatives"]) == 11
    assert "Fanny lives in Bern." in first["Negatives"]


def test_rows_that_cannot_be_mined_stay_in_the_table(
    call: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    table = tmp_path / "holes.csv"
    table.write_text(tiny_table.read_text() + ",no passage,none\nno query,,none\n")
    log = call(table, tmp_path / "out.jsonl", *EVERYTHING)
    assert "skipped 2 of 22 rows" in log
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == 22
    assert [row["Query"] for row in rows[-2:]] == ["no passage", ""]
    assert [row["Negatives"] for row in rows[-2:]] == [[], []]
    assert rows[-1]["Gold score"] is None


def test_no_negatives_left_is_a_warning(
    call: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    log = call(tiny_table, tmp_path / "out.csv", "--first-rank", 50)
    assert "no negatives are left" in log
    with (tmp_path / "out.csv").open(newline="") as file:
        assert "Negative 1" not in next(csv.reader(file))


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_training_takes_them_without_another_option(
    call: Callable[..., str],
    tiny_table: Path,
    tiny_models: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    ending: str,
) -> None:
    output = tmp_path / f"mined.{ending}"
    call(tiny_table, output, "--max-share", 1, "--num-negatives", 3)
    losses = []
    for more in ([], ["--negatives-column", ""]):
        line = ["train-retriever-only", tiny_models.encoder, output, "--output-dir", tmp_path / "o"]
        line += ["--overwrite-output-dir", "--batch-size", 4, "--max-train-steps", 1, *more]
        caplog.clear()
        with caplog.at_level(logging.INFO, "dalm"):
            assert run(app, [str(word) for word in [*line, "--logging-steps", 1]]) == 0
        assert ("negatives  " in caplog.text) is not bool(more)
        metrics = (tmp_path / "o" / "metrics.jsonl").read_text().splitlines()
        losses.append(json.loads(metrics[0])["loss"])
    assert losses[0] > losses[1], "more to tell the gold passage apart from"


# Mistakes


def test_mistakes(
    refused: Callable[..., str],
    tiny_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("a model was loaded before the mistake was found")

    monkeypatch.setattr("dalm.models.loading.loaded", load)
    out = tmp_path / "out.jsonl"
    there = tmp_path / "there.csv"
    there.write_text("mine")
    one = tmp_path / "one.csv"
    one.write_text("Query,Passage\nq,p\nr,p\n")
    for output, more, error in (
        (tmp_path / "out.txt", (), "unknown ending '.txt'"),
        (there, (), "add --overwrite-output"),
        (
            out,
            ("--first-rank", 5, "--last-rank", 4),
            "--first-rank 5 is greater than --last-rank 4",
        ),
        (out, ("--max-share", 1.5), "--max-share 1.5: must be at most 1"),
        (out, ("--max-share", 0), "--max-share 0.0: must be a number over 0"),
        (out, ("--num-negatives", 0), "--num-negatives 0: must be a number of at least 1"),
        (out, ("--seed", 3), "--seed has no effect without --sampling random"),
        (out, ("--no-cache", "--cache-dir", "c"), "--cache-dir has no effect without --cache"),
        (out, ("--cache-dir", there), "a file; name a folder"),
        (out, ("--passages", tmp_path / "none.csv"), "no file or folder"),
    ):
        assert error in refused(tiny_table, output, *more)
    assert "only one distinct passage" in refused(one, out)
    assert "no such folder" in refused(tiny_table, out, encoder=tmp_path / "none")
    assert there.read_text() == "mine"
    assert not out.exists()


def test_a_file_that_another_process_writes_is_refused(
    refused: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    with claim(out, "--output"):
        assert "another process is writing there" in refused(tiny_table, out, "--no-cache")
    assert list(tmp_path.iterdir()) == []


def test_as_a_script(
    tiny_table: Path, tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpy

    file = Path(__file__).parents[2] / "dalm/retrieval/mine_negatives.py"
    shutil.copy(tiny_table, tmp_path / "table.csv")
    line = ["--dataset_path", tmp_path / "table.csv", "--output", tmp_path / "out.csv"]
    line += ["--retriever_name_or_path", tiny_models.encoder, "--no_cache"]
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, line)])
    monkeypatch.syspath_prepend(str(file.parent))  # as the interpreter does
    monkeypatch.setattr(stop_signals, "listen", lambda: None)  # this process isn't the script's
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(file), run_name="__main__")
    assert end.value.code == 0
    assert (tmp_path / "out.csv").is_file()
