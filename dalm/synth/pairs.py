"""The record that flows through the making of questions."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dalm.config.data import Kind
from dalm.errors import UserError, one_line
from dalm.io.provenance import columns_of_provenance
from dalm.io.writers import Columns, write_table
from dalm.records import Passage


@dataclass(frozen=True, slots=True)
class Pair:
    """A question and its answer, with the words of the passage that support it.

    `passage.text[start:end]` is the quote once it was found there. A multi-passage pair has a
    second passage and the quote from it. `rank` is the best place of the passage among what the
    question finds, 1 first; `also` are ids of passages found that seem to answer it as well.
    """

    passage: Passage
    query: str
    answer: str
    quote: str
    kind: Kind
    generator: str
    prompt_version: str
    start: int = -1
    end: int = -1
    other: Passage | None = None
    other_quote: str = ""
    rank: int | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a gate turned away, and why."""

    gate: str
    reason: str
    passage: Passage
    query: str = ""
    answer: str = ""
    quote: str = ""


# FOLDED output.py: Write what was made: pairs and rejections in, tables that training reads out.

TABLE = "question_answer_pairs"
NAMES = ("train", "test", "test_hard")
REJECTIONS = "rejections.jsonl"
SETTINGS = "settings.yaml"
WRITING = ".writing"
"""Folder in which a run's files grow; while it is there, they are not all in their places."""


def columns_of(pairs: Sequence[Pair]) -> Columns:
    """Return the columns of a table of pairs; all but the first four are for whoever looks."""
    pick: dict[str, Callable[[Pair], object]] = {
        "Title": lambda p: p.passage.title,
        "Passage": lambda p: p.passage.text,
        "Query": lambda p: p.query,
        "Answer": lambda p: p.answer,
        "Quote": lambda p: p.quote,
        "QuoteStart": lambda p: p.start,
        "QuoteEnd": lambda p: p.end,
        "Kind": lambda p: p.kind,
        "PassageId": lambda p: p.passage.id,
        "Generator": lambda p: p.generator,
        "PromptVersion": lambda p: p.prompt_version,
        "Rank": lambda p: p.rank,
        "AlsoAnsweredBy": lambda p: " ".join(p.also),
        "SecondPassageId": lambda p: p.other.id if p.other else "",
        "SecondQuote": lambda p: p.other_quote,
    }
    columns: dict[str, Sequence[object]] = {n: [get(p) for p in pairs] for n, get in pick.items()}
    return columns | columns_of_provenance([pair.passage for pair in pairs], taken=columns)


def write_pairs(folder: Path, tables: dict[str, Sequence[Pair]], forms: Iterable[str]) -> None:
    """Write each table, by its name's end, in each form: csv, jsonl or dataset."""
    for name, pairs in tables.items():
        columns = columns_of(pairs)
        for form in forms:
            if form == "dataset":
                _save_dataset(folder / f"{TABLE}_{name}", columns)
            else:
                write_table(folder / f"{TABLE}_{name}.{form}", columns)


def _save_dataset(folder: Path, columns: Columns) -> None:
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        datasets.Dataset.from_dict(dict(columns)).save_to_disk(str(folder))
    except OSError as error:
        raise UserError(f"{folder} can't be written: {one_line(error)}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def write_rejections(folder: Path, rejections: Sequence[Rejection]) -> None:
    """Write what the gates turned away, and why."""
    pick: dict[str, Callable[[Rejection], object]] = {
        "Gate": lambda r: r.gate,
        "Reason": lambda r: r.reason,
        "Query": lambda r: r.query,
        "Answer": lambda r: r.answer,
        "Quote": lambda r: r.quote,
        "PassageId": lambda r: r.passage.id,
        "Title": lambda r: r.passage.title,
    }
    columns = {name: [get(each) for each in rejections] for name, get in pick.items()}
    write_table(folder / REJECTIONS, columns)


def written(folder: Path) -> list[Path]:
    """Return the files and folders of an earlier run that another one would replace."""
    tables = [f"{TABLE}_{name}{form}" for name in NAMES for form in ("", ".csv", ".jsonl")]
    paths = (folder / name for name in (*tables, REJECTIONS, SETTINGS))
    return [path for path in paths if path.exists()]


def is_unfinished(folder: Path) -> bool:
    """Tell whether a run was killed while it put its files in their places."""
    return (folder / WRITING).is_dir()


def start_writing(folder: Path) -> Path:
    """Return an empty folder beside the results, to write into."""
    growing = folder / WRITING
    shutil.rmtree(growing, ignore_errors=True)
    growing.mkdir(parents=True)
    return growing


def put_in_place(folder: Path) -> None:
    """Replace an earlier run's files by those that have been written.

    A run that is killed meanwhile leaves `.writing`, and the next one does it all again.
    """
    growing = folder / WRITING
    for path in written(folder):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    for path in sorted(growing.iterdir()):
        path.replace(folder / path.name)
    growing.rmdir()
