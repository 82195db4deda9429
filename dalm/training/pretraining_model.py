"""Load, extend or make the generator that `dalm pretrain` trains."""

import logging
from tempfile import TemporaryDirectory

from dalm.config import GeneratorLength, Pretraining
from dalm.errors import UserError
from dalm.models.generator import Generator
from dalm.models.tiny import SIZES, build_generator
from dalm.models.vocabulary import extended
from dalm.prompts import MARKS
from dalm.training.run import TrainingRun

logger = logging.getLogger(__name__)


def pretraining_generator(run: TrainingRun, name: str | None, texts: list[str]) -> Generator:
    """Load the generator, or make one from the texts, and add the new tokens that are asked for.

    Raises:
        UserError: it can't be loaded or extended, or takes no rows of this length.
    """
    settings: Pretraining = run.settings
    # A model with fewer positions than a prompt's default length can be trained all the same.
    length = settings.sequence_length
    prompt = None if length >= GeneratorLength.generator_max_len else length
    if name is None:
        with TemporaryDirectory() as folder:
            make_generator(folder, texts, settings)
            return run.generator(folder, max_length=prompt)
    generator = run.generator(max_length=prompt)
    most = getattr(generator.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and length > most:
        raise UserError(
            f"--sequence-length {length}: generator {name} takes at most {most}; set it to {most}"
        )
    if settings.extend_vocabulary:
        before = len(generator.tokenizer)
        generator = extended(generator, texts, settings.extend_vocabulary)
        logger.info("vocabulary %d new tokens", len(generator.tokenizer) - before)
    return generator


def make_generator(folder: str, texts: list[str], settings: Pretraining) -> None:
    """Save an untrained generator of the size that is asked for, and its tokenizer."""
    assert settings.from_scratch is not None
    length = max(settings.sequence_length, 1024)  # rotary positions cost nothing
    build_generator(
        [*texts, *MARKS * len(texts)],
        folder,
        **SIZES[settings.from_scratch],
        max_length=length,
        seed=settings.seed,
    )
    logger.info(
        "scratch    untrained weights; half of the attention heads of the first and last layer are "
        "initialised as induction heads, which copy what followed an earlier occurrence of a token"
    )
