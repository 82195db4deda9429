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
    from dalm.datasets.reading_comprehension import run
    from dalm.datasets.reading_comprehension.texts import Writer
    from dalm.io.examples import read_passages
    from dalm.progress import track

    output = run.start(settings)
    passages = read_passages(dataset_path, run.columns(settings))
    questions = run.questions(settings, passages)
    writer = Writer(
        most=settings.exercises_per_passage,
        seed=settings.seed,
        patterns=settings.patterns,
        domain=run.domain(settings, passages),
    )
    texts = [
        writer.write(passage, questions.get(passage.id, ()))
        for passage in track(passages, len(passages), "texts", "passage")
    ]
    run.finish(output, texts)


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(reading_comprehension)
