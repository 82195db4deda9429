"""Write the tables of feedback, and say what was kept, left out, and why."""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from dalm import display
from dalm.config import FeedbackExport
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.io.writers import check_output_file, columns_of_provenance, write_table
from dalm.records import Passage
from dalm.retrieval.base import VectorStore
from dalm.retrieval.conditions import Membership
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.training_rows import FeedbackRow, FeedbackRows, is_held_out

logger = logging.getLogger(__name__)

SHOWN = 20
"""People in the summary."""
AT_ONCE = 500
"""Passages that are asked for at once."""
_FIELDS = ("id", "text", "title", "document", "source", "page")
_NOTHING = Passage("", "")


def check_files(settings: FeedbackExport) -> None:
    """Refuse files that couldn't be written, before anything is read or deleted.

    Raises:
        UserError: an ending that isn't written, a file that exists, or one file named twice.
    """
    names = {"--output": settings.output, "--held-out": settings.held_out,
             "--ratings": settings.ratings}  # fmt: skip
    seen: dict[Path, str] = {}
    for name, value in names.items():
        if value is None:
            continue
        path = user_path(value).absolute()
        if path in seen:
            raise UserError(f"{name} and {seen[path]} name the same file {value}; choose another")
        seen[path] = name
        check_output_file(path, settings.overwrite_output, name)


def forget(store: FeedbackStore, settings: FeedbackExport) -> None:
    """Delete what the options name, and log how much that was."""
    if settings.forget_person is not None:
        count = store.forget_person(settings.forget_person)
        logger.info("deleted    %d judgments of %r", count, settings.forget_person)
    if settings.forget_question is not None:
        count = store.forget_question(settings.forget_question)
        logger.info("deleted    %d answers to %r", count, settings.forget_question)


def passages_of_index(index: VectorStore, store: FeedbackStore) -> dict[str, Passage]:
    """Return those passages of an index that answers were read from or people named."""
    names = {str(hit["id"]) for answer in store.answers() for hit in answer.hits}
    names |= {each.passage_id for each in store.judgments() if each.passage_id}
    found = {}
    ordered = sorted(names)
    for start in range(0, len(ordered), AT_ONCE):
        some = Membership("id", tuple(ordered[start : start + AT_ONCE]))
        for name, text, title, document, source, page in index.select(_FIELDS, some):
            found[name] = Passage(
                name, text, title or "", document=document or "", source=source or "", page=page
            )
    return found


def write(found: FeedbackRows, settings: FeedbackExport) -> list[FeedbackRow]:
    """Write the tables that the options name, all or none; return the rows of `--output`.

    Raises:
        UserError: no row is left for a table.
    """
    share = settings.held_out_share if settings.held_out else 0.0
    train = [row for row in found.rows if not is_held_out(row.query, share)]
    held_out = [row for row in found.rows if is_held_out(row.query, share)]
    ratings = [each for each in found.ratings if not is_held_out(each[0], share)]
    repeated = [row for row in train for _ in range(row.copies)]
    of_rows = f"{len(repeated)} rows of {len(train)}, by weight"
    tables = [
        ("--output", settings.output, _columns_of(repeated), of_rows),
        ("--held-out", settings.held_out, _columns_of(held_out), f"{len(held_out)} rows, held out"),
        ("--ratings", settings.ratings, _columns_of_ratings(ratings), f"{len(ratings)} ratings"),
    ]
    for option, path, columns, _ in tables:
        if path and not columns["Query"]:
            raise UserError(
                f"{option} {path}: no row is left for it, and nothing is written; collect more "
                "judgments, or leave it out"
            )
    for _, path, columns, count in tables:
        if path:
            write_table(user_path(path), columns)
            logger.info("written    %s: %s", path, count)
    return repeated


def _columns_of_ratings(
    ratings: Sequence[tuple[str, Passage, float]],
) -> dict[str, Sequence[object]]:
    return {
        "Query": [query for query, _, _ in ratings],
        "Passage": [passage.text for _, passage, _ in ratings],
        "PassageId": [passage.id for _, passage, _ in ratings],
        "Rating": [round(value, 4) for _, _, value in ratings],
    }


def _columns_of(rows: Sequence[FeedbackRow]) -> dict[str, Sequence[object]]:
    passages = [row.passage or _NOTHING for row in rows]
    columns: dict[str, Sequence[object]] = {
        "Query": [row.query for row in rows],
        "Passage": [passage.text for passage in passages],
        "Title": [passage.title for passage in passages],
        "Answer": [row.answer or "" for row in rows],
        "Negatives": [[each.text for each in row.negatives] for row in rows],
        "Weight": [round(row.weight, 4) for row in rows],
        "Judgments": [row.judged_by for row in rows],
    }
    if not any(passage.title for passage in passages):
        del columns["Title"]
    if not any(row.negatives for row in rows):
        del columns["Negatives"]
    return {**columns, **columns_of_provenance(passages, columns)}


def log_summary(found: FeedbackRows) -> None:
    """Log what was made of the judgments, and what was left out."""
    counted = sum(person.judgments for person in found.people.values())
    judgments = counted + found.left_out.total() + found.comparisons.total()
    rows = found.rows
    with_passage = sum(row.passage is not None for row in rows)
    with_answer = sum(row.answer is not None for row in rows)
    logger.info("judgments  %d of %d count, of %d people", counted, judgments, found.voters)
    logger.info(
        "rows       %d of %d questions: %d with a passage, %d with an answer; weight %.1f",
        *(len(rows), len({row.query for row in rows}), with_passage, with_answer),
        sum(row.weight for row in rows),
    )
    left_out = {
        "of passages that the index has no more, or has changed": found.left_out["gone"],
        "of answers that say nothing was found": found.left_out["not found"],
        "of answers that were broken off": found.left_out["stopped"],
        "replaced by newer ones": found.left_out["replaced by a newer one"],
        "taken back": found.left_out["taken back"],
    }
    reasons = [f"{count} {reason}" for reason, count in left_out.items() if count]
    if reasons:
        logger.info("left out   %s", "; ".join(reasons))
    if found.conflicting or found.wrong_only:
        logger.info(
            "no row     %d passages and answers on which people disagree; %d questions of which "
            "nothing right is known",
            *(found.conflicting, found.wrong_only),
        )
    if found.comparisons:
        logger.info(
            "compared   the tuned system was better in %d judgments, the other in %d, equal in %d, "
            "neither was good in %d",
            *(found.comparisons[side] for side in ("tuned", "base", "tie", "neither")),
        )


def show_people(found: FeedbackRows) -> None:
    """Print each person's judgments, reliability and weight, heaviest first."""
    table = Table("Person", "Judgments", "Reliability", "Weight")
    people = sorted(found.people.items(), key=lambda each: (-each[1].weight, each[0]))
    for name, person in people[:SHOWN]:
        cells = (str(person.judgments), f"{person.reliability:.2f}", f"{person.weight:.1f}")
        table.add_row(display.cell(name), *cells)
    display.console().print(table)
