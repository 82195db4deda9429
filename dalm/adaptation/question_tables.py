"""Make the tables to train and to evaluate on: of people's questions, feedback and generated ones.

A document is held out with all its questions, of whatever origin.
"""

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal

from dalm import artifacts
from dalm.adaptation.given_feedback import judged_examples
from dalm.adaptation.marked_questions import placed_in
from dalm.config import Columns
from dalm.config.adaptation import Adapt
from dalm.errors import UserError
from dalm.eval.significance import least_p
from dalm.file_reading import DamagedError, read_json, record_from
from dalm.io.examples import read_examples, read_passages, read_rows
from dalm.io.splits import split_by_document
from dalm.io.tables import read_table
from dalm.io.writers import columns_of_provenance, write_table
from dalm.records import Example, Passage, question_id

logger = logging.getLogger(__name__)

Origin = Literal["human", "feedback", "generated"]
ORIGINS: tuple[Origin, ...] = ("human", "feedback", "generated")
TRAIN, ANSWERS, SUMMARY = "train.jsonl", "answers.jsonl", "tables.json"
ENOUGH_ANSWERS = 100
"""Answers of people from which on the generator learns from these alone."""
WANTED_DOCUMENTS, MOST_HELD_OUT = 12, 0.4
"""Held-out documents with which a difference can be shown, by a test over documents whose p is
adjusted for a dozen measures, and the fraction of documents that this may cost."""
NOT_QUESTIONS = ("keywords", "title", "claim")
"""Types of query that rules and models answer with a sentence of the passage, as no person does."""
ALPHA = 0.05
NO_ANSWER = "no question has an answer for the generator to learn; add --backend"


@dataclass(frozen=True, slots=True)
class Row:
    """A question with where it is from; `answerable` False: it has no passage and no answer."""

    example: Example
    origin: Origin
    query_type: str = "question"
    answerable: bool = True
    copies: int = 1
    """How often it stands in the tables to train on."""

    @property
    def document(self) -> str:
        """What identifies the document of its passage."""
        passage = self.example.passage
        assert passage is not None
        return passage.of_document


def test_table(folder: Path, origin: Origin) -> Path:
    """Return the table of held-out questions of an origin."""
    return folder / f"{origin}_test.jsonl"


@dataclass(frozen=True, slots=True)
class Counts:
    """Questions of an origin: to train on, held out, with an answer; and held-out documents."""

    train: Annotated[int, 0] = 0
    test: Annotated[int, 0] = 0
    documents: Annotated[int, 0] = 0
    answered: Annotated[int, 0] = 0


def read_counts(folder: Path) -> dict[Origin, Counts]:
    """Return what is in the tables of a folder, by origin.

    Nothing, if they aren't there, or the summary is damaged: the stage makes it again.
    """
    file = folder / SUMMARY
    if not file.exists():
        return {}
    with suppress(DamagedError):
        rows = read_json(file)
        there = (each for each in ORIGINS if each in rows)
        return {each: record_from(rows[each], Counts, str(file)) for each in there}
    return {}


def make_tables(
    folder: Path,
    settings: Adapt,
    passages_file: Path,
    generated: Sequence[Path],
    indexes: Sequence[Path] = (),
) -> None:
    """Write the tables of a system, and a summary of what is in them.

    `generated` are tables of generated questions, `indexes` those whose feedback is read.

    Raises:
        UserError: no question is left to train on, or none has an answer.
    """
    passages = {each.id: each for each in read_passages(passages_file, Columns())}
    rows, unanswerable = _read_generated(generated, passages)
    if settings.questions:
        asked, left_out = read_human(settings)
        if left_out:
            logger.warning("questions  %d have neither a passage nor an answer: left out", left_out)
        rows += [Row(each, "human") for each in placed_in(asked, passages)]
    if indexes:
        rows += _judged(indexes, passages)
    if not rows:
        raise UserError("there is no question to train on; name --questions, or a --backend")
    every, test = split(rows, settings.test_share, settings.seed)
    train = [row for row in every if row.copies]
    if not train:
        raise UserError(
            f"judgments weigh too little to train on any of {len(every)} questions: they "
            "contradict each other, or are few; name --questions, or a --backend"
        )
    test += unanswerable
    answers = _to_answer(train)
    if not answers:
        raise UserError(NO_ANSWER)
    _write(folder, train, answers, test, settings)


def read_human(settings: Adapt) -> tuple[list[Example], int]:
    """Return people's questions that have a passage or an answer, and how many have neither.

    Raises:
        UserError: there are none.
    """
    columns = Columns(
        query_column=settings.query_column,
        answer_column=settings.answer_column,
        passage_column=settings.passage_column,
        encoding=settings.encoding,
    )
    assert settings.questions is not None
    examples = read_examples(settings.questions, columns, needs={"query"})
    usable = [each for each in examples if each.passage or each.answer]
    if not usable:
        raise UserError(
            f"{settings.questions}: no question has a passage or an answer; name their columns: "
            "--passage-column, --answer-column"
        )
    return usable, len(examples) - len(usable)


def _judged(indexes: Sequence[Path], passages: Mapping[str, Passage]) -> list[Row]:
    """Return the questions of feedback; the passages of those without one are found at once."""
    judged = judged_examples(indexes, passages)
    without = [example for example, _ in judged if example.passage is None]
    found = {each.query: each for each in placed_in(without, passages)} if without else {}
    rows = []
    for example, copies in judged:
        placed = example if example.passage else found.get(example.query)
        if placed is not None:
            rows.append(Row(placed, "feedback", copies=copies))
    return rows


def _read_generated(
    tables: Iterable[Path], passages: Mapping[str, Passage]
) -> tuple[list[Row], list[Row]]:
    """Return the generated questions with their passages, and those that are unanswerable."""
    rows: list[Row] = []
    unanswerable: list[Row] = []
    for path in tables:
        table = read_table(path)
        kinds = table.texts("QueryType")
        marks = table.texts("Answerable") if "Answerable" in table.columns else ()
        for place, each in read_rows(table, Columns(), needs={"query"}).items():
            if marks and marks[place] == "false":
                unanswerable.append(Row(each, "generated", kinds[place], answerable=False))
            elif each.passage is not None:
                passage = passages.get(each.passage.id, each.passage)
                rows.append(Row(replace(each, passage=passage), "generated", kinds[place]))
    return rows, unanswerable


def share_of(documents: Iterable[str]) -> float:
    """Return the fraction of documents to hold out: twelve of them, a tenth to four tenths."""
    count = len(set(documents))
    return min(MOST_HELD_OUT, max(0.1, WANTED_DOCUMENTS / count))


def split(rows: Sequence[Row], share: float | None, seed: int) -> tuple[list[Row], list[Row]]:
    """Split rows by document: first people's questions and feedback, then the other documents.

    So each kind has its share of the held-out questions, and no document is on both sides. Without
    a share it is that of `share_of`.
    """
    sides: dict[str, bool] = {}  # whether a document is held out
    for chosen in (("human", "feedback"), ("generated",)):
        own = [row for row in rows if row.origin in chosen and row.document not in sides]
        documents = {row.document for row in own}
        if len(documents) < 2:
            continue
        part = share or share_of(documents)
        for held_out, side in enumerate(
            split_by_document([row.example for row in own], part, seed)
        ):
            for example in side:
                sides[Row(example, "human").document] = bool(held_out)
    train = [row for row in rows if not sides.get(row.document, False)]
    return train, [row for row in rows if sides.get(row.document, False)]


def _to_answer(train: Sequence[Row]) -> list[Row]:
    """Return the rows that the generator learns to answer."""
    answered = [row for row in train if row.example.answer]
    people = [row for row in answered if row.origin != "generated"]
    if len(people) >= ENOUGH_ANSWERS:
        return people
    whole = [row for row in answered if row.query_type not in NOT_QUESTIONS]
    return whole or answered


def _write(
    folder: Path,
    train: Sequence[Row],
    answers: Sequence[Row],
    test: Sequence[Row],
    settings: Adapt,
) -> None:
    for name, rows in ((TRAIN, train), (ANSWERS, answers)):
        write_table(folder / name, columns_of([row for row in rows for _ in range(row.copies)]))
    summary: dict[str, Any] = {"answers": len(answers)}
    for origin in ORIGINS:
        own = [row for row in train if row.origin == origin]
        held = _drawn([row for row in test if row.origin == origin], settings)
        path = test_table(folder, origin)
        path.unlink(missing_ok=True)
        if held:
            write_table(path, columns_of(held))
        documents = {row.document for row in held if row.answerable}
        answered = sum(bool(row.example.answer) for row in held)
        counts = Counts(len(own), len(held), len(documents), answered)
        summary[origin] = asdict(counts)
        if own or held:
            _tell(origin, counts)
    logger.info("answers    the generator learns from %d of the questions", len(answers))
    artifacts.write_json(folder / SUMMARY, summary)


def _tell(origin: Origin, counts: Counts) -> None:
    logger.info(
        "%-10s %d questions to train on, %d held out, of %d documents",
        *(origin, counts.train, counts.test, counts.documents),
    )
    if counts.test and least_p(counts.documents) > ALPHA:
        logger.warning(
            "%-10s %d held-out documents are too few for any difference to be shown: the test is "
            "over documents; add documents, or raise --test-share",
            *(origin, counts.documents),
        )
    if counts.train and not counts.test:
        logger.warning("%-10s nothing is held out: all are of one document", origin)


def _drawn(rows: Sequence[Row], settings: Adapt) -> list[Row]:
    """Return all rows of at most `--max-test-questions` questions, drawn by their hash.

    They are drawn from each document in turn: a test's unit is the document.
    """
    documents: dict[str, dict[str, None]] = {}
    for row in rows:
        document = row.document if row.answerable else ""
        documents.setdefault(document, {})[question_id(row.example.query)] = None

    def place(question: str) -> bytes:
        return hashlib.sha256(f"{settings.seed}{question}".encode()).digest()

    columns = [sorted(each, key=place) for each in documents.values()]
    turns = (each for turn in zip_longest(*columns) for each in turn if each is not None)
    drawn = list(dict.fromkeys(turns))
    kept = set(drawn[: settings.max_test_questions])
    if len(kept) < len(drawn):
        logger.info("held out   %d questions are drawn of %d", len(kept), len(drawn))
    return [row for row in rows if question_id(row.example.query) in kept]


def columns_of(rows: Sequence[Row]) -> dict[str, Sequence[object]]:
    """Return rows as columns that every command reads."""
    examples = [row.example for row in rows]
    passages = [each.passage or Passage("", "") for each in examples]
    columns: dict[str, Sequence[object]] = {
        "Title": [each.title for each in passages],
        "Passage": [each.text for each in passages],
        "Query": [each.query for each in examples],
        "Answer": [each.answer or "" for each in examples],
        "Origin": [row.origin for row in rows],
        "QueryType": [row.query_type for row in rows],
    }
    if any(each.negatives for each in examples):
        columns["Negatives"] = [[n.text for n in each.negatives] for each in examples]
    if not all(row.answerable for row in rows):
        columns["Answerable"] = [str(row.answerable).lower() for row in rows]
    return columns | columns_of_provenance(passages, taken=columns)
