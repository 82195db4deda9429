"""Make reading comprehension texts: a table of passages in, a table of texts to train on out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import ReadingComprehension


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
    from dalm.io.examples import read_passages
    from dalm.progress import track
    from dalm.synth import comprehension_run
    from dalm.synth.exercise_texts import Writer

    output = comprehension_run.start(settings)
    passages = read_passages(dataset_path, comprehension_run.columns(settings))
    questions = comprehension_run.questions(settings, passages)
    writer = Writer(
        most=settings.exercises_per_passage,
        seed=settings.seed,
        patterns=settings.patterns,
        domain=comprehension_run.domain(settings, passages),
    )
    texts = [
        writer.write(passage, questions.get(passage.id, ()))
        for passage in track(passages, len(passages), "texts", "passage")
    ]
    comprehension_run.finish(output, texts)
