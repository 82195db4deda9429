"""Pretrain a generator on the texts of a domain."""

import logging
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import Pretraining
from dalm.errors import UserError

if TYPE_CHECKING:
    from dalm.models.generator import Generator
    from dalm.training.run import TrainingRun

logger = logging.getLogger(__name__)


def pretrain(
    dataset_path: str,
    generator_name_or_path: str | None = None,
    *,
    settings: Annotated[Pretraining, Parameter(name="*")],
) -> None:
    """Continue pretraining a generator on domain texts, or train one from scratch.

    Documents are packed without attention across them. Held-out domain and general texts are
    evaluated in bits per byte, and the best weights are kept.

    Parameters
    ----------
    dataset_path
        Texts: a folder or file of documents, a table with a column of texts, the passages of
        `dalm passages`, a saved dataset, a hub name.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.config import check
    from dalm.config.generator_training import check_pretraining
    from dalm.training.data.pretraining_texts import read_corpus

    check_pretraining(settings, generator_name_or_path)
    check(settings)
    corpus = read_corpus(dataset_path, settings)

    # Importing torch takes seconds; what is wrong with the texts has been said by now.
    from dalm.training import dry_run
    from dalm.training.data.corpus import training_rows
    from dalm.training.held_out_evaluation import HeldOutEvaluation
    from dalm.training.objectives.causal_lm import CausalLM
    from dalm.training.run import TrainingRun

    run = TrainingRun(
        settings, dataset_path=dataset_path, generator_name_or_path=generator_name_or_path
    )
    texts = corpus.trained(settings.replay_ratio)
    generator = _generator(run, generator_name_or_path, texts)
    rows = training_rows(generator, corpus, settings)
    objective = CausalLM(generator)
    if settings.shard != "none" and objective.way == "apart":
        raise UserError(
            f"--shard {settings.shard}: the generator can't keep packed documents apart in a row, "
            "and processes with other numbers of them can't keep in step; leave it out"
        )
    evaluation = HeldOutEvaluation(objective, corpus, settings)
    run.fit(
        objective,
        rows,
        held_out=[texts.rows for texts in evaluation.texts],
        callbacks=[evaluation],
        finish=evaluation.finish,
        preview=[dry_run.preview_packed(rows, generator)],
        next_step=["train-generator-only", "--help"],
    )


def _generator(run: "TrainingRun", name: str | None, texts: list[str]) -> "Generator":
    """Load the generator, or make one from the texts, and add the new tokens that are asked for.

    Raises:
        UserError: it can't be loaded or extended, or takes no rows of this length.
    """
    from dalm.models.vocabulary import extended

    settings: Pretraining = run.settings
    length = settings.sequence_length
    if name is None:
        with TemporaryDirectory() as folder:
            _make_generator(folder, texts, settings)
            return run.generator(folder)
    generator = run.generator()
    most = generator.longest
    if most is not None and length > most:
        raise UserError(
            f"--sequence-length {length}: generator {name} takes at most {most}; set it to {most}"
        )
    if settings.extend_vocabulary:
        before = len(generator.tokenizer)
        generator = extended(generator, texts, settings.extend_vocabulary)
        logger.info("vocabulary %d new tokens", len(generator.tokenizer) - before)
    return generator


def _make_generator(folder: str, texts: list[str], settings: Pretraining) -> None:
    """Save an untrained generator of the size that is asked for, and its tokenizer."""
    from dalm.models.tiny import SIZES, build_generator
    from dalm.prompts import MARKS

    assert settings.from_scratch is not None
    build_generator(
        [*texts, *MARKS * len(texts)],
        folder,
        **SIZES[settings.from_scratch],
        max_length=max(settings.sequence_length, 1024),  # rotary positions cost nothing
        seed=settings.seed,
    )
    logger.info(
        "scratch    untrained weights; the attention heads of the first and last layer are "
        "initialised as induction heads, which copy what followed the same token before, "
        "and as lookup heads, which learn where the last words are answered"
    )
