import csv
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from dalm.cli import app, run
from dalm.commands.passages import passages
from dalm.config import Columns, Passages
from dalm.errors import UserError
from dalm.ingest.loaders import LOADERS, by_extension, list_formats
from dalm.ingest.loaders.loader import Document, Loader, LoaderOptions
from dalm.io.examples import read_passages
from dalm.records import Passage

TEXTS = {
    "a.txt": "The first text has six words.\n\nIts second paragraph has six, too.",
    "sub/b.md": "# Title\n\n## One\n\nSome words that are below a heading here.\n",
    "c.html": "<title>Page</title><h1>Head</h1><p>What a page shows, in a paragraph of its own.",
    "d.csv": 'Title,Passage\nRow,"A row of a table, with a text."\n,\n,short\n',
}


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in TEXTS.items():
        (tmp_path / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "docs" / name).write_text(text)
    return tmp_path / "docs"


def make(*docs: object, output: str = "out/p.jsonl", **options: Any) -> list[dict[str, Any]]:
    passages([str(each) for each in docs], Passages(output=output, **options))
    return rows(output)


def rows(output: str = "out/p.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(output).read_text().splitlines()]


def refused(*docs: object, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        make(*docs, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO)
    return lambda: caplog.text


def test_passages_of_a_folder_can_be_read_as_a_knowledge_base(docs, log):
    found = make(docs)
    assert [row["source"] for row in found] == [
        "docs/a.txt",
        "docs/c.html",
        "docs/d.csv, line 2",
        "docs/sub/b.md",
    ]
    assert [row["Title"] for row in found] == ["a", "Page", "Row", "Title"]
    assert found[3]["headings"] == ["Title", "One"]
    text = TEXTS["sub/b.md"]
    assert all(text[r["start"] : r["end"]] == r["Passage"] for r in found[3:])
    assert read_passages("out/p.jsonl", Columns()) == [
        Passage(row["id"], row["Passage"], row["Title"]) for row in found
    ]
    for line in (
        "documents  5 (1 shorter than --min-words, without a passage; besides 1 rows without a",
        "unread     docs/d.csv, line 4: shorter than --min-words 5; lower that",
        "passages   4: 4 new, 0 existing; left out 0 duplicates, 0 near duplicates",
        "written    out/p.jsonl",
        "next       dalm qa-gen out/p.jsonl --output-dir out/questions",
    ):
        assert line in log()


def test_a_grown_folder_adds_only_what_is_new(docs, log):
    make(docs)
    before = Path("out/p.jsonl").read_bytes()
    make(docs)
    assert Path("out/p.jsonl").read_bytes() == before
    assert "4: 0 new, 4 existing; left out 0 duplicates, 0 near duplicates" in log()
    (docs / "0.txt").write_text("A new text that sorts before all of the others.")
    (docs / "e.txt").write_text(TEXTS["a.txt"].upper())
    (docs / "c.html").unlink()
    make(docs)
    after = Path("out/p.jsonl").read_bytes()
    assert after.startswith(before)
    assert [row["source"] for row in rows()[4:]] == ["docs/0.txt"]
    assert "5: 1 new, 4 existing" in log()
    assert "1 of the existing passages are in none of these documents" in log()
    make(docs, overwrite_output=True)
    assert next(row["source"] for row in rows()) == "docs/0.txt"
    assert len(rows()) == 4


def test_a_second_run_counts_as_the_first_did(docs, caplog):
    words = [f"word{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(90)]
    (docs / "x.txt").write_text(" ".join(words))
    (docs / "y.txt").write_text(" ".join([*words[:-1], "other"]))
    (docs / "z.txt").write_text(TEXTS["a.txt"])
    counted = []
    for _ in range(3):
        caplog.clear()
        caplog.set_level(logging.INFO)
        make(docs)
        counted.append(caplog.text.split("; left out ")[1].split("\n")[0])
    assert counted == ["1 duplicates, 1 near duplicates"] * 3


def test_passages_split_with_other_options_are_not_mixed(docs):
    make(docs)
    text = refused(docs, max_words=50)
    assert "was made with --max-words 100; name another --output" in text
    assert "or add --overwrite-output to replace it" in text
    Path("out/p.settings.yaml").unlink()
    assert "without the p.settings.yaml of the run that made it" in refused(docs)
    assert make(docs, max_words=50, overwrite_output=True)


def test_settings_reproduce_the_run(docs):
    make(docs, max_words=20, min_words=2)
    kept = yaml.safe_load(Path("out/p.settings.yaml").read_text())
    assert kept["docs"] == [str(docs)]
    assert "overwrite_output" not in kept
    first = Path("out/p.jsonl").read_bytes()
    assert run(app, ["passages", "--config", "out/p.settings.yaml", "--output", "q.jsonl"]) == 0
    assert Path("q.jsonl").read_bytes() == first


def test_near_duplicates_are_left_out_unless_they_are_wanted(docs, log):
    words = ["word" + a + b for a in "abcdefghi" for b in "klmnopqrst"]
    (docs / "x.txt").write_text(" ".join(words))
    (docs / "y.txt").write_text(" ".join([*words[:-1], "other"]))
    assert len(make(docs)) == 5
    assert "1 near duplicates" in log()
    assert len(make(docs, output="all.jsonl", near_duplicates=1.0)) == 6
    # what is there counts, too
    (docs / "z.txt").write_text(" ".join(["other", *words[1:]]))
    assert len(make(docs)) == 5


def test_the_number_of_processes_changes_nothing(docs):
    (docs / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with (docs / "many.jsonl").open("w") as file:
        for n in range(12_000):
            file.write(json.dumps({"text": f"Row {n} has a number, {n * n}, and this end."}) + "\n")
    one = make(docs, output="one.jsonl", near_duplicates=0.9)
    two = make(docs, output="two.jsonl", near_duplicates=0.9, processes=2)
    assert one == two
    assert Path("one.unread.tsv").read_text() == Path("two.unread.tsv").read_text()


def test_what_cannot_be_read_is_named_and_counted(docs, log):
    for name in ("bad1.txt", "bad2.txt"):
        (docs / name).write_bytes(b"ok\n\xe9")
    (docs / "image.png").write_bytes(b"x")
    (docs / "e.docx").write_bytes(b"PK")
    assert len(make(docs)) == 4
    listed = Path("out/p.unread.tsv").read_text().splitlines()
    assert listed[0] == "source\treason"
    assert [line.split("\t")[0] for line in listed[1:]] == [
        "docs/image.png",
        "docs/bad1.txt",
        "docs/bad2.txt",
        "docs/d.csv, line 4",
        "docs/e.docx",
    ]
    assert "unread     docs/bad1.txt: line 2, byte 1 (0xe9): not UTF-8" in log()
    assert (
        "5 in all: 2 not UTF-8, 1 unsupported file type .png, 1 shorter than --min-words 5, "
        "1 not a Word file, or truncated" in log()
    )
    for name in ("bad1.txt", "bad2.txt", "image.png", "e.docx", "d.csv"):
        (docs / name).unlink()
    make(docs)
    assert not Path("out/p.unread.tsv").exists()


def test_a_document_read_in_part_is_counted_and_its_reasons_are_listed(docs, log, monkeypatch):
    def load(data: bytes, source: str, _: LoaderOptions) -> Document:
        reasons = ("pages 2-3: no text in them; x", "page 5: no text in it; x")
        return Document(data.decode(), "", source, unread=reasons)

    monkeypatch.setitem(by_extension(), ".scanned", Loader("pages", "pages", (".scanned",), load))
    (docs / "page.scanned").write_text("A first page, which has a text of its own.")
    (docs / "image.png").write_bytes(b"x")
    assert len(make(docs)) == 5
    assert "documents  7: 5 whole, 1 in part, 1 unread (1 shorter" in log()
    assert "unread     docs/page.scanned: pages 2-3: no text in them" in log()
    assert Path("out/p.unread.tsv").read_text().splitlines()[2:] == [
        "docs/d.csv, line 4\tshorter than --min-words 5; lower that",
        "docs/page.scanned\tpages 2-3: no text in them; x",
        "docs/page.scanned\tpage 5: no text in it; x",
    ]


def test_strict_writes_what_it_can_and_ends_with_2(docs, capsys):
    line = ["passages", str(docs), "--output", "out/p.jsonl", "--strict"]
    assert run(app, line) == 0
    assert "strict" not in yaml.safe_load(Path("out/p.settings.yaml").read_text())
    (docs / "bad.txt").write_bytes(b"\xe9")
    (docs / "new.txt").write_text("A new text which can be read as it is.")
    capsys.readouterr()
    assert run(app, line) == 2
    shown = capsys.readouterr().err.splitlines()[-1]
    assert "--strict: not all could be read: docs/bad.txt: line 1" in shown
    assert "what could be read is written" in shown
    assert len(rows()) == 5
    assert "docs/bad.txt" in Path("out/p.unread.tsv").read_text()


def test_a_file_is_not_its_own_document(docs):
    first = make(docs, output="docs/p.jsonl")
    (docs / "image.png").write_bytes(b"x")
    assert make(docs, output="docs/p.jsonl") == first


def test_the_script_takes_several_documents(docs):
    script = Path(__file__).parents[2] / "dalm/datasets/documents/make_passages.py"
    line = [sys.executable, str(script), "docs/a.txt", "docs/d.csv", "--output", "p.jsonl"]
    done = subprocess.run([*line, "--max_words", "8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [row["source"] for row in rows("p.jsonl")] == ["a.txt", "a.txt", "d.csv, line 2"]


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"max_tokens": 64}, "--max-tokens has no effect without --tokenizer"),
        ({"tokenizer": "x"}, "--tokenizer has no effect without --max-tokens"),
        ({"overlap": 50}, "--overlap 50: must be under half a passage, 100"),
        ({"min_words": 101}, "--min-words 101: must be at most --max-words 100"),
        ({"near_duplicates": 0.4}, "--near-duplicates 0.4: must be a number of at least 0.5"),
        ({"encoding": "no-such"}, "--encoding no-such: unknown; use utf-8"),
        ({"output": "p.csv"}, "name a file that ends in .jsonl"),
        ({"output": "docs/a.txt/p.jsonl"}, "docs/a.txt is a file; name another path"),
        ({"processes": 0}, "--processes 0"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_read(docs, options, part):
    assert part in refused(docs, **options)
    assert not Path("out").exists()


def test_nothing_to_read_is_an_error_that_leaves_nothing(docs):
    Path("empty").mkdir()
    assert "no files in empty" in refused("empty")
    (docs / "only.png").write_bytes(b"")
    assert "nothing could be read: only.png: unsupported file type .png" in refused(
        docs / "only.png"
    )
    (docs / "blank.csv").write_text("text,x\n,1\n,2\n")
    assert "none of 2 rows has a text" in refused(docs / "blank.csv")
    assert "no file or folder 'gone'" in refused("gone")
    assert not list(Path("out").glob("*"))


def test_a_line_of_another_kind_in_the_file_is_refused(docs):
    make(docs)
    with Path("out/p.jsonl").open("a") as file:
        file.write('{"Passage": "no id"}\n')
    before = Path("out/p.jsonl").read_bytes()
    assert "p.jsonl, line 5: not a passage that this command wrote" in refused(docs)
    assert Path("out/p.jsonl").read_bytes() == before


def test_a_killed_run_leaves_the_file_as_it_was(docs):
    make(docs)
    before = Path("out/p.jsonl").read_bytes()
    with (docs / "many.jsonl").open("w") as file:
        for n in range(30_000):
            file.write(json.dumps({"text": f"Row {n} has a number, {n * n}, and this end."}) + "\n")
    line = [sys.executable, "-m", "dalm", "passages", "docs", "--output", "out/p.jsonl"]
    started = subprocess.Popen(line, stderr=subprocess.DEVNULL)

    def partial() -> list[Path]:
        return list(Path("out").glob(".p.jsonl.*.part"))

    end = time.monotonic() + 60
    while not any(path.stat().st_size > 2 * len(before) for path in partial()):
        assert time.monotonic() < end
        assert started.poll() is None
        time.sleep(0.005)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert Path("out/p.jsonl").read_bytes() == before
    assert partial()
    assert len(make(docs, near_duplicates=1.0)) == 4 + 30_000
    assert not partial()


def running() -> dict[int, int]:
    """Return the parent of every process that runs; one that nobody has waited for doesn't."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if state not in "ZX":
                found[int(stat.parent.name)] = int(parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_worker_processes_end_with_the_command_however_it_ends(docs, number):
    with (docs / "many.jsonl").open("w") as file:
        for n in range(60_000):
            file.write(json.dumps({"text": f"Row {n} has a number, {n * n}, and this end."}) + "\n")
    line = [sys.executable, "-m", "dalm", "passages", "docs", "--output", "out/p.jsonl"]
    started = subprocess.Popen([*line, "--processes", "2"], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (partial := list(Path("out").glob(".p.jsonl.*.part"))):
        assert time.monotonic() < end
        assert started.poll() is None
        time.sleep(0.005)
    while not any(path.stat().st_size for path in partial):  # the workers are at work
        time.sleep(0.005)
    workers = {process for process, parent in running().items() if parent == started.pid}
    assert len(workers) >= 2
    started.send_signal(number)
    _, errors = started.communicate(timeout=60)  # ends when nobody holds stderr any more
    end = time.monotonic() + 20
    while workers & running().keys():  # killed, and not quite ended yet
        assert time.monotonic() < end
        time.sleep(0.01)
    if number == signal.SIGTERM:
        assert started.returncode == 143
        assert "dalm: stopped\n" in errors
        assert "Traceback" not in errors
        assert not list(Path("out").iterdir())


def test_a_full_disk_is_one_line_and_changes_nothing(docs, monkeypatch):
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    assert "can't be written: No space left on device; free some space" in refused(docs)
    assert not Path("out/p.jsonl").exists()


def test_a_second_run_on_the_same_output_is_refused_in_one_line(docs):
    make(docs)
    before = Path("out/p.jsonl").read_bytes()
    code = (
        "import dalm.artifacts as a, pathlib, time\nwith a.claim(pathlib.Path('out/p.jsonl'), '-'):"
    )
    line = [sys.executable, "-c", code + "\n print('held', flush=True)\n time.sleep(60)"]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert "--output out/p.jsonl: another process is writing there" in refused(docs)
        other.kill()
    assert make(docs)
    assert Path("out/p.jsonl").read_bytes() == before


def test_help_lists_the_formats_of_the_registry(capsys):
    assert run(app, ["passages", "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"Folders and files: {list_formats()} with a text column." in shown
    for loader in LOADERS.values():
        assert loader.label in shown


def manual(rng: random.Random, name: str, paragraphs: int = 40) -> list[str]:
    """Return the paragraphs of a manual, with its name and figures in them."""
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(rng.choices(syllables, k=3)) for _ in range(2000)]
    return [
        f"The {name} has {rng.randrange(1000)} of it, {' '.join(rng.choices(words, k=60))}."
        for _ in range(paragraphs)
    ]


def as_html(paragraphs: list[str]) -> str:
    heads = (f"<h2>Part {n}</h2><p>{text}</p>" for n, text in enumerate(paragraphs))
    return f"<title>Manual</title><p>Home Search Contact</p>{''.join(heads)}"


def left_out(output: str = "out/p.duplicates.tsv") -> list[dict[str, str]]:
    lines = Path(output).read_text().splitlines()
    return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture
def manuals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a manual in two kinds of files, and another manual."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").mkdir()
    rng = random.Random(0)
    paragraphs = manual(rng, "NP-100")
    whole = " ".join([*paragraphs[:38], *manual(rng, "NP-100", 4)])
    (tmp_path / "docs" / "a.txt").write_text(whole)
    (tmp_path / "docs" / "b.html").write_text(as_html(paragraphs))
    (tmp_path / "docs" / "c.txt").write_text(" ".join(manual(rng, "XJ-7")))
    return tmp_path / "docs"


def test_the_same_manual_in_two_files_is_kept_once_where_it_has_headings(manuals, log):
    every = make(manuals, output="every.jsonl", keep_contained=True)
    found = make(manuals)
    of = Counter(row["source"] for row in found)
    was = Counter(row["source"] for row in every)
    assert of["docs/b.html"] == was["docs/b.html"] == 40
    assert of["docs/c.txt"] == was["docs/c.txt"]
    assert 3 <= of["docs/a.txt"] <= 6, "what stands in one file alone is kept"
    text = " ".join(row["Passage"] for row in found)
    last = (manuals / "a.txt").read_text().split("The NP-100")[-4:]
    assert all(paragraph[:40].strip() in text for paragraph in last)
    number = was["docs/a.txt"] - of["docs/a.txt"]
    assert f"0 near duplicates, {number} that stand in another document" in log()
    listed = left_out()
    assert len(listed) == number
    assert {(row["source"], row["kept_source"]) for row in listed} == {
        ("docs/a.txt", "docs/b.html")
    }
    assert all(float(row["similarity"]) >= 0.8 for row in listed)
    assert not Path("every.duplicates.tsv").exists()


def test_contained_passages_are_the_same_for_any_order_and_number_of_processes(manuals):
    one = make(manuals, output="one.jsonl")
    assert make(manuals, output="two.jsonl", processes=2) == one
    assert Path("one.duplicates.tsv").read_text() == Path("two.duplicates.tsv").read_text()


def test_a_second_run_leaves_out_what_the_first_did(manuals, log):
    make(manuals)
    before, listed = Path("out/p.jsonl").read_bytes(), Path("out/p.duplicates.tsv").read_text()
    make(manuals)
    assert Path("out/p.jsonl").read_bytes() == before
    assert Path("out/p.duplicates.tsv").read_text() == listed
    assert ": 0 new, " in log()
    assert log().count("left out 0 duplicates, 0 near duplicates, 38 that stand") == 2


def test_what_is_there_is_preferred_to_a_document_with_more_headings(manuals):
    (manuals / "b.html").rename(manuals.parent / "b.html")
    make(manuals)
    before = Path("out/p.jsonl").read_bytes()
    (manuals.parent / "b.html").rename(manuals / "b.html")
    for _ in range(2):
        found = make(manuals)
        assert Path("out/p.jsonl").read_bytes().startswith(before)
        assert 2 <= sum(row["source"] == "docs/b.html" for row in found) <= 6


def test_manuals_of_two_products_with_the_same_words_are_both_kept(manuals):
    text = (manuals / "a.txt").read_text()
    (manuals / "b.html").unlink()
    (manuals / "d.txt").write_text("Here it is. " + text.replace("NP-100", "NP-200"))
    of = Counter(row["source"] for row in make(manuals))
    assert of["docs/a.txt"] == of["docs/d.txt"]
    assert not Path("out/p.duplicates.tsv").exists()


def test_near_and_exact_duplicates_are_listed_with_what_is_kept(docs):
    words = ["word" + a + b for a in "abcdefghi" for b in "klmnopqrst"]
    (docs / "x.txt").write_text(" ".join(words))
    (docs / "y.txt").write_text(" ".join([*words[:-1], "other"]))
    (docs / "z.txt").write_text(TEXTS["a.txt"].upper())
    kept = {row["source"]: row["id"] for row in make(docs)}
    near, exact = left_out()
    assert (near["source"], near["kept"]) == ("docs/y.txt", kept["docs/x.txt"])
    assert 0.9 <= float(near["similarity"]) < 1
    assert near["passage"].startswith("wordak wordal")
    assert (exact["source"], exact["kept"]) == ("docs/z.txt", kept["docs/a.txt"])
    assert (exact["start"], exact["similarity"], exact["kept_source"]) == (
        "0",
        "1.00",
        "docs/a.txt",
    )


def test_keeping_contained_passages_needs_a_filter_of_near_duplicates(docs):
    text = refused(docs, keep_contained=True, near_duplicates=1.0)
    assert text.startswith("--keep-contained has no effect with --near-duplicates 1")


def test_passages_of_pages_read_otherwise_are_not_appended(docs, log, capsys):
    make(docs)
    assert "html       the main text by" in log()
    assert run(app, ["passages", str(docs), "--output", "out/p.jsonl", "--html", "all"]) == 2
    assert "out/p.jsonl was made with --html main" in capsys.readouterr().err
