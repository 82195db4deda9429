"""Pretrain a generator on the texts of a domain."""

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
    general ones, are evaluated in bits per byte during training, and the best weights are kept.

    Parameters
    ----------
    dataset_path
        Texts: a folder or file of documents, a table with a column of texts, the passages of
        `dalm passages`, a saved dataset, a hub name.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.config.generator_training import check_pretraining
    from dalm.training import preview
    from dalm.training.data.corpus import held_out_texts, read_corpus, training_rows
    from dalm.training.held_out_evaluation import HeldOutEvaluation
    from dalm.training.objectives.causal_lm import CausalLM
    from dalm.training.pretraining_model import pretraining_generator
    from dalm.training.run import TrainingRun

    check_pretraining(settings, generator_name_or_path)
    run = TrainingRun(
        settings, dataset_path=dataset_path, generator_name_or_path=generator_name_or_path
    )
    corpus = read_corpus(dataset_path, settings)
    texts = corpus.trained(settings.replay_ratio)
    generator = pretraining_generator(run, generator_name_or_path, texts)
    rows = training_rows(generator, corpus, settings)
    held_out = held_out_texts(generator, corpus, settings.sequence_length)
    objective = CausalLM(generator, rows)
    evaluation = HeldOutEvaluation(objective, held_out, settings)
    run.fit(
        objective,
        rows,
        callbacks=[evaluation.callback],
        finish=evaluation.finish,
        preview=[preview.of_packed(rows, generator)],
        next_step=f"dalm train-generator-only DATASET {run.folder.path}/generator --output-dir DIR",
    )
