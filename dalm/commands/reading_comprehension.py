"""Turn passages into reading comprehension texts, to pretrain a generator on a domain."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dalm.config import ReadingComprehension, check
from dalm.errors import UserError
from dalm.file_reading import user_path


def reading_comprehension(
    dataset_path: str,
    settings: Annotated[ReadingComprehension, Parameter(name="*")],
) -> None:
    """Write passages with exercises, for pretraining a generator on a domain.

    Exercises come from rules and from the questions of `dalm qa-gen`.

    Parameters
    ----------
    dataset_path
        Table with passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim
    from dalm.ingest.languages import log_other_languages
    from dalm.io.examples import read_passages
    from dalm.io.writers import check_output_file
    from dalm.progress import track
    from dalm.synth.exercise_texts import ExerciseWriter, read_questions, write_texts
    from dalm.synth.exercises import domain_vocabulary

    output = _checked(settings)
    with claim(output, "--output"):
        check_output_file(output, settings.overwrite_output)  # since, another may have written it
        passages = read_passages(dataset_path, settings.as_pair_columns())
        questions = read_questions(settings.questions, passages)
        domain = frozenset[str]()
        if settings.patterns:
            log_other_languages(passages, "patterns find only titles and completions in them")
            domain = domain_vocabulary(
                settings.general_vocabulary,
                passages,
                trust_remote_code=settings.trust_remote_code,
            )
        writer = ExerciseWriter(
            settings.exercises_per_passage, settings.seed, settings.patterns, domain
        )
        texts = [
            writer.write(passage, questions.get(passage.id, ()))
            for passage in track(passages, len(passages), "texts", "passages")
        ]
        write_texts(output, texts)


def _checked(settings: ReadingComprehension) -> Path:
    """Refuse what can't work, before anything is read; return the output file."""
    from dalm.io.writers import check_output_file

    check(settings)
    if not settings.patterns and settings.questions is None:
        raise UserError("--no-patterns leaves no exercises; name a table of --questions")
    output = user_path(settings.output)
    check_output_file(output, settings.overwrite_output)
    return output
