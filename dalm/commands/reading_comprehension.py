"""Turn passages into reading comprehension texts, to pretrain a generator on a domain."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Columns, PairColumns, ReadingComprehension, check
from dalm.errors import UserError

if TYPE_CHECKING:
    from dalm.records import Passage

logger = logging.getLogger(__name__)


def reading_comprehension(
    dataset_path: str,
    settings: Annotated[ReadingComprehension, Parameter(name="*")],
) -> None:
    """Turn passages into reading comprehension texts: a generator's pretraining on a domain.

    A text is a passage and exercises on it: mined from its sentences by patterns, and the
    questions that `dalm qa-gen` made with any of its backends.

    Parameters
    ----------
    dataset_path
        Table with passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim
    from dalm.io.examples import read_passages
    from dalm.progress import track
    from dalm.synth.domain_words import domain_vocabulary
    from dalm.synth.exercise_texts import ExerciseWriter, write_texts

    output = _checked(settings)
    with claim(output, "--output"):
        columns = PairColumns(
            passage_column=settings.passage_column, title_column=settings.title_column
        )
        passages = read_passages(dataset_path, columns)
        questions = _questions(settings.questions, passages)
        domain = frozenset[str]()
        if settings.patterns:
            domain = domain_vocabulary(settings.general_vocabulary, passages)
        writer = ExerciseWriter(
            settings.exercises_per_passage, settings.seed, settings.patterns, domain
        )
        texts = [
            writer.write(passage, questions.get(passage.id, ()))
            for passage in track(passages, len(passages), "texts", "passage")
        ]
        write_texts(output, texts)


def _checked(settings: ReadingComprehension) -> Path:
    """Refuse what can't work, before anything is read; return the output file."""
    from dalm.io.writers import check_output_file

    check(settings)
    if not settings.patterns and settings.questions is None:
        raise UserError("--no-patterns leaves no exercises; name a table of --questions")
    output = Path(settings.output).expanduser()
    check_output_file(output, settings.overwrite_output)
    return output


def _questions(
    table: str | None, passages: Sequence["Passage"]
) -> Mapping[str, list[tuple[str, str]]]:
    """Return a table's questions and answers by the id of the passage they were generated from.

    Raises:
        UserError: none of them is about one of the passages.
    """
    from dalm.io.examples import read_examples

    if table is None:
        return {}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    examples = read_examples(table, Columns(), needs=("passage", "answer"))
    for example in examples:
        assert example.passage is not None
        assert example.answer is not None
        found[example.passage.id].append((example.query, example.answer))
    known = sum(len(found[passage.id]) for passage in passages if passage.id in found)
    if not known:
        raise UserError(
            f"none of the questions in {table} is about one of the passages; "
            "name the table that was made of them"
        )
    logger.info("questions  %d, %d of other passages", known, len(examples) - known)
    return found
