"""Pretrain a generator on a domain: texts in, a generator that knows their language out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Pretraining


def pretrain(
    dataset_path: str,
    generator_name_or_path: str | None = None,
    *,
    settings: Annotated[Pretraining, Parameter(name="*")],
) -> None:
    """Pretrain a generator further on a domain's texts, or from scratch.

    Documents are packed into rows in which none sees another. Held-out texts, of the domain and
    general ones, are measured in bits per byte on the way, and the best weights are kept.

    Parameters
    ----------
    dataset_path
        Texts: a folder or file of documents, a table with a column of texts, the passages of
        `dalm passages`, a saved dataset, a hub name.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.training import dry_run, pretraining, run
    from dalm.training.callbacks import Measuring
    from dalm.training.data import corpus
    from dalm.training.objectives.causal_lm import CausalLM
    from dalm.training.trainer import train

    pretraining.check(settings, generator_name_or_path)
    models = {"generator_name_or_path": generator_name_or_path} if generator_name_or_path else {}
    this_run = run.start(settings, dataset_path=dataset_path, **models)
    texts = corpus.read_corpus(dataset_path, settings)

    generator = pretraining.generator_of(generator_name_or_path, texts, this_run)
    rows = corpus.training_rows(generator, texts, settings)
    measured = corpus.held_out(generator, texts, settings.sequence_length)
    objective = CausalLM(generator, rows)
    best = objective.best = pretraining.best_of(measured, generator, objective, this_run)
    this_run.ready(objective, rows)
    if settings.dry_run:
        row = pretraining.shown(rows, generator)
        dry_run.report(objective, rows, settings, this_run.placement, [row])
        return
    this_run.open()
    measuring = Measuring(
        *(best, objective, this_run.folder / "metrics.jsonl"),
        every=settings.evaluation_steps,
        patience=settings.patience,
    )
    trackers = this_run.trackers
    train(objective, rows, settings, this_run.placement, trackers=trackers, callbacks=[measuring])
    pretraining.finish(best, objective, measured, this_run)
    this_run.finish(
        objective,
        advice=f"dalm train-generator-only DATASET {this_run.folder}/generator --output-dir DIR",
    )
