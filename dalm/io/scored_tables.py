"""Read and write tables of scored candidates: questions, their candidate passages, a score of each.

Such a table is what `dalm score-candidates` writes and what trains a retriever on the scores of a
teacher. `Passage` and `Negatives` are what the scores make a positive and negatives, so that the
commands that take pairs read it as well.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalm.config import PairColumns
from dalm.errors import UserError
from dalm.io.cell_values import CellError, cell_text, listed_texts
from dalm.io.tables import Table, read_table
from dalm.io.writers import LISTED, write_table
from dalm.records import Passage, ScoredCandidate, ScoredQuestion, best_first, passage_id

CANDIDATES = "Candidates"
SCORE = "score"
TEACHER = "Teacher"
TEMPERATURE = "Temperature"


def is_scored(table: Table) -> bool:
    """Return whether a table holds scored candidates."""
    return table.has(CANDIDATES)


def write_scored(path: Path, questions: Sequence[ScoredQuestion], teacher: str) -> None:
    """Write a table of scored candidates, best first; one without a score stands last.

    The file appears when it is complete. Raises UserError for a disk that can't be written to.
    """
    positives = [question.positive for question in questions]
    columns: dict[str, list[object]] = {
        "Query": [question.query for question in questions],
        "Answer": [question.answer for question in questions],
        "Title": [positive and positive.title for positive in positives],
        "Passage": [positive and positive.text for positive in positives],
        LISTED: [[each.text for each in question.negatives] for question in questions],
        CANDIDATES: [
            [{SCORE: each.score, **each.passage.to_dict()} for each in question.candidates]
            for question in questions
        ],
        TEACHER: [teacher] * len(questions),
        TEMPERATURE: [question.temperature for question in questions],
    }
    write_table(path, columns)


def read_scored(source: str | Path, columns: PairColumns) -> list[ScoredQuestion]:
    """Read a table of scored candidates, in its order.

    With `columns.prepend_title` a passage's text begins with its title.

    Raises UserError when the source can't be read, has no candidates, or one that is broken.
    """
    return scored_questions(read_table(source, encoding=columns.encoding), columns)


def scored_questions(table: Table, columns: PairColumns) -> list[ScoredQuestion]:
    """Return the questions of a table as `read_scored` reads them, and raise as it does."""
    if not is_scored(table):
        raise UserError(
            f"{table.name} has no column {CANDIDATES!r} of scored candidates; make one: dalm score-"
            f"candidates {table.name} --passages PASSAGES --teacher NAME --output scored.jsonl"
        )
    names = ("Query", "Answer", "Passage", LISTED, CANDIDATES, TEMPERATURE)
    cells = [table.column(name) if table.has(name) else [None] * table.rows for name in names]
    return [
        _question(table, row, dict(zip(names, values, strict=True)), columns.prepend_title)
        for row, values in enumerate(zip(*cells, strict=True))
    ]


def titles_of_candidates(table: Table) -> dict[str, str]:
    """Return the titles of a table's candidates by their texts; none if it has no candidates.

    Raises UserError for a cell that holds no candidates.
    """
    titles: dict[str, str] = {}
    for row, cell in enumerate(table.column(CANDIDATES) if is_scored(table) else ()):
        try:
            for each in map(_candidate, _listed(cell)):
                titles.setdefault(each.passage.text, each.passage.title)
        except (TypeError, ValueError) as error:
            raise table.bad_cell(row, CANDIDATES, error) from error
    return titles


def _question(
    table: Table, row: int, cells: Mapping[str, Any], prepend_title: bool
) -> ScoredQuestion:
    """Return a row as a question with its candidates."""
    try:
        question = _of_cells(cells)
    except (CellError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{table.name}, {table.place(row)}: no question with scored candidates ({error}); make "
            "the table again with dalm score-candidates"
        ) from error
    return _distinct(_with_titles(question) if prepend_title else question)


def _of_cells(cells: Mapping[str, Any]) -> ScoredQuestion:
    """Return a row's cells as a question. Raises what says why they are none."""
    query, answer, text = (cell_text(cells[name]) for name in ("Query", "Answer", "Passage"))
    if not query:
        raise ValueError("its question is empty")
    candidates = best_first(map(_candidate, _listed(cells[CANDIDATES])))
    by_id = {each.passage.id: each for each in reversed(candidates)}
    positive = by_id.get(passage_id(text)) if text else None
    if text and (positive is None or positive.score is None):
        raise ValueError("its passage is no candidate with a score")
    ids = [passage_id(each) for each in listed_texts(cells[LISTED])]
    if not by_id.keys() >= set(ids):
        raise ValueError("one of its negatives is no candidate")
    return ScoredQuestion(
        query,
        answer or None,
        tuple(candidates),
        positive.passage if positive else None,
        tuple(by_id[each].passage for each in ids),
        _temperature(cells[TEMPERATURE]),
    )


def _listed(cell: Any) -> Sequence[Mapping[str, Any]]:
    """Return the candidates in a cell, which are written as JSON in csv and tsv."""
    if isinstance(cell, str):
        try:
            cell = json.loads(cell)
        except ValueError:
            raise ValueError(f"{CANDIDATES} is a text, and no JSON") from None
    if not (isinstance(cell, list) and all(isinstance(each, dict) for each in cell)):
        raise ValueError(f"{CANDIDATES} is no list of candidates")
    return cell


def _candidate(record: Mapping[str, Any]) -> ScoredCandidate:
    """Return a candidate, whose passage is known by its text, whatever id it was given.

    In a parquet file all candidates have the fields that one has: an empty one is none.
    """
    known = {name: value for name, value in record.items() if value is not None or name == SCORE}
    made = ScoredCandidate.from_dict(known)
    return replace(made, passage=replace(made.passage, id=passage_id(made.passage.text)))


def _distinct(question: ScoredQuestion) -> ScoredQuestion:
    """Return a question with each text once among its candidates, with the best of its scores."""
    best: dict[str, ScoredCandidate] = {}
    for each in question.candidates:
        best.setdefault(each.passage.id, each)
    return replace(question, candidates=tuple(best.values()))


def _temperature(cell: Any) -> float | None:
    """Return a cell as a temperature. Raises ValueError for what can't be one."""
    if cell in (None, ""):
        return None
    if isinstance(cell, bool) or not 0 < float(cell) < float("inf"):
        raise ValueError(f"{TEMPERATURE} is {cell!r:.60}")
    return float(cell)


def _with_titles(question: ScoredQuestion) -> ScoredQuestion:
    def titled(passage: Passage) -> Passage:
        text = f"{passage.title}\n{passage.text}" if passage.title else passage.text
        return replace(passage, id=passage_id(text), text=text)

    return replace(
        question,
        candidates=tuple(replace(c, passage=titled(c.passage)) for c in question.candidates),
        positive=question.positive and titled(question.positive),
        negatives=tuple(map(titled, question.negatives)),
    )
