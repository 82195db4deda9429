"""Stand in for what a system's stages haven't written yet, so that a dry run can measure them all.

Some of the documents are split in a temporary folder, rules ask questions on them, and the tables
are made as a run makes them. What is there already is taken as it is.
"""

import hashlib
import logging
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import TypeVar

from dalm import stop_signals
from dalm.adaptation import given_feedback
from dalm.adaptation.plan import Step, stands
from dalm.adaptation.question_tables import TRAIN, read_counts, read_human, share_of
from dalm.adaptation.served_pair import Pair
from dalm.adaptation.stages import Stage
from dalm.adaptation.state import State
from dalm.adaptation.system import System
from dalm.adaptation.system_stages import stage_of, stages_of
from dalm.config import Columns
from dalm.errors import UserError, reason_of
from dalm.ingest.ingestion import ingest, to_json
from dalm.io.examples import read_passages
from dalm.io.tables import read_table
from dalm.io.writers import LISTED, write_table
from dalm.records import Passage

MOST_SECONDS, MOST_PASSAGES = 5.0, 2_000
"""With which a sample of the documents ends; what is being read then is read to its end."""
MOST_QUESTIONS = 2_000
"""Questions of people that a sample has."""

T = TypeVar("T")


class RehearsedSystem(System):
    """A system on a sample: questions by rules, the untuned pair instead of the tuned one.

    `share` is the sample's part of the documents, by their bytes, `asked_share` that of people's
    questions.
    """

    share = asked_share = 1.0

    @property
    def tuned(self) -> Pair:
        """The untuned pair, which is of the same size."""
        return self.pairs.untuned

    def trained_questions(self) -> int:
        """Return how many questions of all documents there are to train on."""
        counts = read_counts(self.tables)
        return ceil(sum(each.train / self.share_of(name) for name, each in counts.items()))

    def share_of(self, origin: str) -> float:
        """Return the part of the questions of an origin that the sample has."""
        return self.asked_share if origin == "human" else self.share

    def times(self, questions: Path) -> float:
        """Return how many times as many rows a table to train on has for all documents."""
        if self.share == self.asked_share == 1:
            return 1.0
        origins = read_table(questions).texts("Origin")
        return sum(1 / self.share_of(each) for each in origins) / max(1, len(origins))

    def scaled(self, count: float) -> int:
        """Return a number of the sample's as it is for all documents."""
        return ceil(count / self.share)


@dataclass(frozen=True)
class Rehearsal:
    """Stages by name, on a sample of so many passages.

    `splitting` is in how many seconds all documents are split; None: they are split already.
    """

    system: RehearsedSystem
    stages: dict[str, Stage]
    passages: int
    splitting: float | None


@contextmanager
def rehearse(system: System, steps: Sequence[Step], state: State) -> Iterator[Rehearsal]:
    """Make what the stages read, as far as it isn't there, in a folder that lasts for the block.

    Raises:
        UserError: documents or tables that a run would refuse.
    """
    there = {step.stage.name for step in steps if stands(step, state)}
    runs = {step.stage.name for step in steps if step.choice == "runs"}
    with _temporary_folder() as folder:
        rehearsed = _on_a_sample(system, folder)
        try:
            with _quietly():
                splitting = _prepare_passages(system, rehearsed, there)
                if runs != {"passages"}:
                    _prepare_questions(system, rehearsed, there)
            count = len(read_passages(rehearsed.passages, Columns()))
            stages = {stage.name: stage for stage in stages_of(rehearsed)}
            yield Rehearsal(rehearsed, stages, count, splitting)
        except UserError as error:
            notes = []
            if rehearsed.share < 1:
                notes.append("of a sample of the documents; without --dry-run all are read")
            if str(folder) in str(error):
                notes.append("that file isn't kept; the same command with --to questions writes it")
            if not notes:
                raise
            said = str(error).replace(str(folder), str(system.folder))
            raise UserError(f"{said} ({'; '.join(notes)})") from error


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is gone after the block, also if a signal ends native code in it.

    Raises:
        UserError: there is no folder for temporary files.
    """
    try:
        made = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    except OSError as error:
        raise UserError(
            f"--dry-run needs a folder for temporary files: {reason_of(error)}; set TMPDIR to one"
        ) from error
    stop_signals.on_abrupt_end(made.cleanup)
    with made as folder:
        yield Path(folder)


def _on_a_sample(system: System, folder: Path) -> RehearsedSystem:
    settings, given = system.settings, dict(system.given)
    if settings.backend not in ("none", "extractive"):
        given.pop("questions", None)  # a model's
        settings = replace(settings, backend="extractive", question_model=None, base_url=None)
    if settings.feedback is not None:
        indexes = given_feedback.indexes_of(settings.feedback, system.pairs.index.path)
        settings = replace(settings, feedback=[str(each) for each in indexes])
    rehearsed = RehearsedSystem(system.docs, replace(settings, output_dir=str(folder)), given)
    rehearsed.documents = system.documents
    return rehearsed


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what commands say of the sample from the log: it holds for no run."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _prepare_passages(
    system: System, rehearsed: RehearsedSystem, there: Collection[str]
) -> float | None:
    """Make passages; return in how many seconds all documents are split, None: they are."""
    if "passages" not in there:
        return _split_some(system, rehearsed)
    if not system.generated() or "questions" in there:
        _take(system.passages, rehearsed.passages)
    else:
        _draw_some(system.passages, rehearsed)
    return None


def _prepare_questions(system: System, rehearsed: RehearsedSystem, there: Collection[str]) -> None:
    """Make questions, tables and negatives."""
    asked = system.generated()
    is_asked = "passages" in there and (not asked or "questions" in there)
    has_tables = is_asked and "tables" in there
    if has_tables:
        _take(system.tables, rehearsed.tables)
    else:
        if is_asked and asked:
            _take(asked[0].parent, rehearsed.generated()[0].parent)
        elif asked:
            _run(rehearsed, "questions")
        if rehearsed.share < 1:
            _fit_to_sample(rehearsed)
        _run(rehearsed, "tables")
    if has_tables and "negatives" in there:
        _take(system.mined, rehearsed.mined)
    else:
        _join_others(rehearsed.tables / TRAIN, rehearsed.mined)


def _take(there: Path, here: Path) -> None:
    here.parent.mkdir(exist_ok=True)
    here.symlink_to(there.absolute())


def _run(rehearsed: RehearsedSystem, name: str) -> None:
    stage_of(rehearsed, name).run(False)


def _split_some(system: System, rehearsed: RehearsedSystem) -> float:
    """Split documents for some seconds; return in how many all of them would be split."""
    settings = stage_of(system, "passages").options
    files = _mixed(system.documents, lambda each: each.source)
    lines: dict[str, bytes] = {}
    size, start = 0, time.perf_counter()
    with closing(ingest(files, settings)) as batches:
        for batch in batches:
            lines |= zip(batch.ids, batch.lines, strict=True)
            size += batch.size
            if time.perf_counter() - start > MOST_SECONDS or len(lines) >= MOST_PASSAGES:
                break
    seconds = time.perf_counter() - start
    _write(rehearsed, lines.values(), size / max(1, sum(each.size for each in files)))
    return seconds / rehearsed.share


def _draw_some(passages: Path, rehearsed: RehearsedSystem) -> None:
    """Draw documents until there are passages enough."""
    every = read_passages(passages, Columns())
    drawn = list[Passage]()
    by_document: dict[str, list[Passage]] = {}
    for each in every:
        by_document.setdefault(each.of_document, []).append(each)
    for document in _mixed(by_document, str):
        if len(drawn) < MOST_PASSAGES:
            drawn += by_document[document]
    _write(rehearsed, map(to_json, drawn), len(drawn) / max(1, len(every)))


def _mixed(items: Iterable[T], name: Callable[[T], str]) -> list[T]:
    """Return items in an order that only their names decide, mixed."""
    return sorted(items, key=lambda each: hashlib.sha256(name(each).encode()).digest())


def _write(rehearsed: RehearsedSystem, lines: Iterable[bytes], share: float) -> None:
    """Write the sample's passages."""
    rehearsed.share = min(1.0, share) or 1.0
    written = b"".join(lines)
    if not written:
        raise UserError(rehearsed.no_passages)
    rehearsed.passages.parent.mkdir()
    rehearsed.passages.write_bytes(written)


def _fit_to_sample(rehearsed: RehearsedSystem) -> None:
    """Hold out the part of the sample that is held out of all, and ask people's questions on it.

    These get passages of the sample in turn. Nearly always all are taken: whether the generator
    learns from people's answers alone depends on their number.
    """
    passages = read_passages(rehearsed.passages, Columns())
    settings = rehearsed.settings
    if settings.test_share is None:
        documents = len({each.of_document for each in passages})
        held_out = share_of(map(str, range(rehearsed.scaled(documents))))
        settings = replace(settings, test_share=held_out)
    if settings.questions is not None:
        asked, _ = read_human(settings)
        few = _mixed(asked, lambda each: each.query)[:MOST_QUESTIONS]
        rehearsed.asked_share = len(few) / len(asked)
        columns = {
            "Query": [each.query for each in few],
            "Answer": [each.answer or "" for each in few],
            "Passage": [
                each.text for each, _ in zip(cycle(_mixed(passages, str)), few, strict=False)
            ],
        }
        table = rehearsed.passages.with_name("asked.jsonl")
        write_table(table, columns)
        settings = replace(
            settings,
            questions=str(table),
            query_column="Query",
            answer_column="Answer",
            passage_column="Passage",
            encoding=None,
        )
    rehearsed.settings = settings


def _join_others(questions: Path, joined: Path) -> None:
    """Give each question another's passage as the negative that mining would find."""
    table = read_table(questions)
    passages = table.texts("Passage")
    columns = {name: table.column(name) for name in table.columns}
    joined.parent.mkdir()
    write_table(joined, {**columns, LISTED: [[each] for each in [*passages[1:], passages[0]]]})
