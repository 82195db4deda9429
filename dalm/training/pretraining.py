"""A pretraining run's own parts: what is refused, its model, its figures."""

import json
import logging
from tempfile import TemporaryDirectory
from typing import cast

from dalm.config import GeneratorLength, Pretraining
from dalm.distributed import is_main
from dalm.errors import UserError
from dalm.models.generator import Generator, load_generator
from dalm.models.tiny import SIZES, build_generator
from dalm.models.vocabulary import extended
from dalm.prompts import MARKS
from dalm.training.best_weights import Best, Figures
from dalm.training.bits_per_byte import HeldOut
from dalm.training.data.corpus import Corpus
from dalm.training.data.packing import PackedBatch, PackedRows
from dalm.training.objectives.causal_lm import CausalLM
from dalm.training.preview import Shown
from dalm.training.run import TrainingRun

logger = logging.getLogger(__name__)

FIGURES = "bits_per_byte.json"


def check(settings: Pretraining, generator: str | None) -> None:
    """Refuse combinations of options that can't work or would do nothing.

    Raises:
        UserError: names what to add or to leave out.
    """
    if (generator is None) == (settings.from_scratch is None):
        there = "name one of them" if generator is None else "leave one of them out"
        raise UserError(f"either a GENERATOR is trained on or one is made --from-scratch; {there}")
    if settings.from_scratch and settings.use_peft:
        raise UserError("--use-peft adapts weights that know something; leave out --from-scratch")
    if settings.extend_vocabulary and settings.from_scratch:
        raise UserError(
            "--extend-vocabulary: a tokenizer made --from-scratch knows the texts' words; leave "
            "one out"
        )
    if settings.extend_vocabulary and settings.use_peft:
        raise UserError(
            "--extend-vocabulary changes the base's embeddings, which --use-peft leaves as they "
            "are; leave one out"
        )
    if settings.held_out and not settings.replay:
        for name in ("held_out_share", "held_out_bytes"):
            if getattr(settings, name) != getattr(Pretraining, name):
                raise UserError(
                    f"--{name.replace('_', '-')} has no effect beside --held-out; leave it out"
                )


def generator_of(name: str | None, corpus: Corpus, this_run: TrainingRun) -> Generator:
    """Load the generator, or make it of the texts, and give it the new tokens asked for.

    Raises:
        UserError: it can't be loaded or extended, or takes no rows of this length.
    """
    settings = this_run.settings
    assert isinstance(settings, Pretraining)
    # A model of fewer positions than a prompt's default length can be trained all the same.
    length = settings.sequence_length
    prompt = None if length >= GeneratorLength.generator_max_len else length
    placement = this_run.place(lora=settings.use_peft, four_bit=settings.use_bnb)
    texts = corpus.trained(settings.replay_ratio)
    if name is None:
        with TemporaryDirectory() as folder:
            make(folder, texts, settings)
            return load_generator(folder, placement, max_length=prompt)
    generator = load_generator(name, placement, max_length=prompt)
    most = getattr(generator.model.config.get_text_config(), "max_position_embeddings", None)
    if most is not None and length > most:
        raise UserError(
            f"--sequence-length {length}: generator {name} takes at most {most}; set it to {most}"
        )
    if settings.extend_vocabulary:
        before = len(generator.tokenizer)
        generator = extended(generator, texts, settings.extend_vocabulary)
        logger.info("vocabulary %d new tokens", len(generator.tokenizer) - before)
    if settings.use_peft:
        this_run.add_lora(generator, "CAUSAL_LM")
    return generator


def make(folder: str, texts: list[str], settings: Pretraining) -> None:
    """Make a generator of the size that is asked for."""
    assert settings.from_scratch is not None
    length = max(settings.sequence_length, 1024)  # rotary positions cost nothing
    build_generator(
        [*texts, *MARKS * len(texts)],
        folder,
        **SIZES[settings.from_scratch],
        max_length=length,
        seed=settings.seed,
    )


def best_of(
    measured: list[HeldOut], generator: Generator, objective: CausalLM, this_run: TrainingRun
) -> Best:
    """Return what takes the figures of a run and keeps its best weights."""
    settings = this_run.settings
    assert isinstance(settings, Pretraining)
    batch = settings.per_device_train_batch_size

    def measure(step: int) -> Figures:
        figures = {m.name: m.bits_per_byte(generator, objective.way, batch) for m in measured}
        return Figures(step, figures["domain"], figures.get("general"))

    writes = is_main()
    return Best(this_run.folder, measure, settings.max_general_loss, writes=writes)


def shown(rows: PackedRows, generator: Generator) -> Shown:
    """Return the row with the most documents, and which of its tokens are learnt."""
    fullest = max(range(len(rows)), key=lambda row: len(rows.rows[row]))
    packed = cast(PackedBatch, rows.collate([fullest]))
    tokens, scored = packed["tokens"][0].tolist(), packed["scored"][0].tolist()
    return Shown("generator", generator.tokenizer, tokens, scored)


def finish(best: Best, objective: CausalLM, measured: list[HeldOut], this_run: TrainingRun) -> None:
    """Put the best weights in place, write the figures, and say what came of the run."""
    best.restore(objective)
    if not best.writes:
        return
    file = this_run.folder / FIGURES
    on = {m.name: {"documents": m.documents, "bytes": m.bytes} for m in measured}
    text = json.dumps({"held_out": on, **best.report()}, indent=1) + "\n"
    file.write_text(text, encoding="utf-8")
    before, chosen, last = best.before, best.chosen, best.history[-1]
    for name in on:
        values = [getattr(each, name) for each in (before, chosen, last)]
        logger.info("%-9s  %.4f bits per byte before, %.4f now, %.4f at the end", name, *values)
        this_run.said["data"] += (
            f"; held-out {name} text {values[0]:.4f} bits per byte before, {values[1]:.4f} with "
            f"these weights, of update {chosen.step}"
        )
    logger.info("best       the weights of update %d of %d", chosen.step, last.step)
    if not best.within(chosen):
        logger.warning(
            "general text lost more than --max-general-loss %g at every measurement: these weights "
            "lost the least; raise --replay-ratio or lower --learning-rate",
            best.most_lost,
        )
    if chosen.domain >= before.domain:
        logger.warning("the domain's texts weren't learnt: lower --learning-rate, or train longer")
    logger.info("figures    %s", file)
