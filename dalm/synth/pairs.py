"""Hold question-answer pairs, and write a run's tables into its folder."""

import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dalm import progress, stop_signals
from dalm.artifacts import explained, write_yaml
from dalm.config import QaGen, public
from dalm.config.questions import Kind
from dalm.errors import UserError, reason_of
from dalm.io import question_sources
from dalm.io.writers import Columns, columns_of_provenance, write_table
from dalm.next_step import GENERATOR, RETRIEVER, log_next
from dalm.records import Passage
from dalm.synth.query_checks import UNANSWERABLE, overlap

logger = logging.getLogger(__name__)

TABLE = "question_answer_pairs"
NAMES = ("train", "test", "test_hard")
REJECTIONS = "rejections.jsonl"
SETTINGS = "settings.yaml"
STAGING = ".writing"
"""Folder in which a run writes its files; it is gone once they are all in their places."""
FORMS = ("csv", "jsonl", "dataset")
NO_PASSAGE = Passage("", "")


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and its answer, with the words of the passage that support it.

    `kind` is that of a whole question. `passage.text[start:end]` is the quote once it was found
    there. A multi-passage pair has a second passage and the quote from it. `rank` is the best place
    of the passage among what the query finds, 1 first, and `bm25_rank` that among what BM25 finds;
    `also` are ids of passages found that seem to answer it as well. The passage of an unanswerable
    query is near it, and doesn't answer it.
    """

    passage: Passage
    query: str
    answer: str
    quote: str
    kind: Kind | None
    generator: str
    prompt_version: str
    query_type: str = "question"
    answer_type: str = "short"
    start: int = -1
    end: int = -1
    other: Passage | None = None
    other_quote: str = ""
    rank: int | None = None
    bm25_rank: int | None = None
    also: tuple[str, ...] = ()

    @property
    def answerable(self) -> bool:
        """Whether the passage answers the query."""
        return self.answer_type != UNANSWERABLE

    @property
    def hard(self) -> bool:
        """Whether BM25 doesn't rank the passage first."""
        return self.answerable and self.bm25_rank != 1


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a filter rejected, and why; `pair` is None if it couldn't be read as one."""

    filter: str
    reason: str
    passage: Passage
    query: str = ""
    answer: str = ""
    quote: str = ""
    pair: Pair | None = None


def check_results(folder: Path, overwrite: bool) -> None:
    """Refuse to replace an earlier run's results, unless it was killed while writing them.

    Raises:
        UserError: the folder holds results.
    """
    earlier = _results(folder)
    if earlier and not overwrite and not (folder / STAGING).is_dir():
        raise UserError(
            f"--output-dir {folder} holds results ({earlier[0].name}); name another folder, or add "
            "--overwrite-output-dir (a model's replies are kept, and not generated again)"
        )


def write_run(
    folder: Path,
    settings: QaGen,
    dataset_path: str,
    sides: tuple[Sequence[Pair], Sequence[Pair]],
    rejections: Sequence[Rejection],
) -> None:
    """Write the tables, the rejections and the settings, all or nothing, and log where they are.

    The folder is claimed by the caller.

    Raises:
        UserError: there is no pair; the rejections are written even so.
    """
    train, test = sides
    hard = [pair for pair in test if pair.hard]
    tables = dict(zip(NAMES, (train, test, hard), strict=True))
    forms = [form for form in FORMS if getattr(settings, f"as_{form}")] or ["csv"]
    with _staged(folder) as staging:
        _write_rejections(staging, rejections)
        _write_pairs(staging, {name: rows for name, rows in tables.items() if rows}, forms)
        if train:
            write_yaml(staging / SETTINGS, public(settings, dataset_path=dataset_path))
            files = (path.name for path in staging.iterdir() if path.name.startswith(TABLE))
            columns = settings.as_pair_columns()
            question_sources.remember(staging, folder, files, dataset_path, columns)
    if not train:
        what = "question with an answer" if test else "question"
        raise UserError(
            f"no {what} passed the filters: {folder / REJECTIONS} says why; "
            "try another model, or --round-trip-k 0"
        )
    _log_files(folder, tables, forms)
    first = folder / f"{TABLE}_train{'' if forms[0] == 'dataset' else f'.{forms[0]}'}"
    models = [settings.retriever_name_or_path or RETRIEVER, GENERATOR]
    log_next(["train-rag-e2e", first, *models, "--output-dir", f"{folder}-tuned"])


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """Yield a folder to write into; its files replace an earlier run's when the block ends.

    A process that is killed while they are moved leaves it behind, and the next run starts over.
    The journal stays where it is.
    """
    staging = folder / STAGING
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with explained(folder):
            staging.mkdir(parents=True)
            yield staging
    except (
        Exception,
        KeyboardInterrupt,
    ):  # after a kill it stays, and allows the next run to replace what is there
        shutil.rmtree(staging, ignore_errors=True)
        raise
    with stop_signals.put_off():
        for path in _results(folder):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        for path in sorted(staging.iterdir()):
            path.replace(folder / path.name)
        staging.rmdir()


def _results(folder: Path) -> list[Path]:
    """Return the files and folders of an earlier run that another one would replace."""
    tables = [f"{TABLE}_{name}{form}" for name in NAMES for form in ("", ".csv", ".jsonl")]
    paths = (folder / name for name in (*tables, REJECTIONS, SETTINGS, question_sources.FILE))
    return [path for path in paths if path.exists()]


def _log_files(folder: Path, tables: Mapping[str, Sequence[Pair]], forms: Sequence[str]) -> None:
    endings = ["" if form == "dataset" else f".{form}" for form in forms]
    for name, rows in tables.items():
        what = "not ranked first by BM25" if name == "test_hard" else "queries"
        for ending in endings if rows else ():
            path = folder / f"{TABLE}_{name}{ending}"
            logger.info("%-9s  %d %s: %s", name, len(rows), what, path)
    logger.info("rejected   %s", folder / REJECTIONS)
    logger.info("settings   %s (a --config for the same run)", folder / SETTINGS)


def columns_of(pairs: Sequence[Pair]) -> Columns:
    """Return the columns of a table of pairs; training reads the first four.

    The last ones are the provenance of the passages, as far as it is known. An unanswerable query
    has no passage, whose place `NearPassageId` takes, so that nothing can take it for a gold one;
    the column that marks it is there if the table has such queries.
    """
    golds = [p.passage if p.answerable else NO_PASSAGE for p in pairs]
    columns: dict[str, Sequence[object]] = {
        "Title": [gold.title for gold in golds],
        "Passage": [gold.text for gold in golds],
        "Query": [p.query for p in pairs],
        "Answer": [p.answer if p.answerable else "" for p in pairs],
        "Quote": [p.quote if p.answerable else "" for p in pairs],
        "QuoteStart": [p.start for p in pairs],
        "QuoteEnd": [p.end for p in pairs],
        "QueryType": [p.query_type for p in pairs],
        "AnswerType": [p.answer_type for p in pairs],
        "Kind": [p.kind or "" for p in pairs],
        "PassageId": [gold.id for gold in golds],
        "Generator": [p.generator for p in pairs],
        "PromptVersion": [p.prompt_version for p in pairs],
        "Rank": [p.rank for p in pairs],
        "BM25Rank": [p.bm25_rank for p in pairs],
        "Overlap": [round(overlap(p.query, p.quote), 2) for p in pairs],
        "AlsoAnsweredBy": [" ".join(p.also) for p in pairs],
        "SecondPassageId": [p.other.id if p.other else "" for p in pairs],
        "SecondQuote": [p.other_quote for p in pairs],
    }
    if not all(pair.answerable for pair in pairs):
        columns["Answerable"] = [str(p.answerable).lower() for p in pairs]
        columns["NearPassageId"] = ["" if p.answerable else p.passage.id for p in pairs]
    return columns | columns_of_provenance(golds, taken=columns)


def _write_pairs(folder: Path, tables: Mapping[str, Sequence[Pair]], forms: Iterable[str]) -> None:
    for name, pairs in tables.items():
        columns = columns_of(pairs)
        for form in forms:
            if form == "dataset":
                _save_dataset(folder / f"{TABLE}_{name}", columns)
            else:
                write_table(folder / f"{TABLE}_{name}.{form}", columns)


def _save_dataset(folder: Path, columns: Columns) -> None:
    import datasets

    try:
        with progress.quiet_bars():
            datasets.Dataset.from_dict(dict(columns)).save_to_disk(str(folder))
    except OSError as error:
        raise UserError(f"{folder} can't be written: {reason_of(error)}") from error


def _write_rejections(folder: Path, rejections: Sequence[Rejection]) -> None:
    columns = {
        "Gate": [r.filter for r in rejections],
        "Reason": [r.reason for r in rejections],
        "Query": [r.query for r in rejections],
        "Answer": [r.answer for r in rejections],
        "Quote": [r.quote for r in rejections],
        "PassageId": [r.passage.id for r in rejections],
        "Title": [r.passage.title for r in rejections],
    }
    write_table(folder / REJECTIONS, columns)
