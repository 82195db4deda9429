"""Refuse combinations of options that can't work, or of which one would have no effect."""

from dalm.config.generator_training import Pretraining
from dalm.config.options import spelled
from dalm.config.training import Part, RagE2E
from dalm.errors import UserError

DISABLED = {"over_retrieve": 1}
"""Values that disable an option, where it isn't 0."""


def covers(choice: Part | bool | None, model: str) -> bool:
    """Tell whether an option such as --use-peft means this model: retriever or generator."""
    return choice in (True, "both", model)


def check_joint(settings: RagE2E) -> None:
    """Refuse conflicting options of joint training.

    Raises:
        UserError: names both options.
    """
    if settings.objective == "dalm" and settings.candidates == "index":
        raise UserError(
            "--objective dalm trains on the gold passages of the batch; leave out --candidates "
            "index, or choose another --objective"
        )
    if settings.train_encoders == "none" and not settings.train_generator:
        raise UserError(
            "--train-encoders none with --no-train-generator: nothing is left to train; leave one "
            "out"
        )
    lora = f"--use-peft {settings.use_peft}"
    if settings.train_encoders == "query" and covers(settings.use_peft, "retriever"):
        raise UserError(
            f"{lora}: --train-encoders query adds the retriever's adapters itself; leave the "
            "retriever out of --use-peft"
        )
    if settings.train_encoders == "none" and covers(settings.use_peft, "retriever"):
        raise UserError(
            f"{lora}: --train-encoders none doesn't train the retriever; leave the retriever out "
            "of --use-peft"
        )
    if not settings.train_generator and covers(settings.use_peft, "generator"):
        raise UserError(
            f"{lora}: --no-train-generator doesn't train the generator; leave the generator out of "
            "--use-peft"
        )
    _check_without_effect(settings)


def _check_without_effect(settings: RagE2E) -> None:
    """Refuse options of a model that isn't trained, or of an index that never gets stale."""
    encoders, generator = f"--train-encoders {settings.train_encoders}", "--no-train-generator"
    without_effect: dict[str, list[str]] = {}
    if settings.train_encoders != "both":
        without_effect[encoders] = ["refresh_budget", "over_retrieve", "write_back"]
    if settings.train_encoders == "none":
        without_effect[encoders] += ["reader_warmup", "contrastive_weight"]
    if not settings.train_generator:
        without_effect[generator] = ["reader_warmup", "generator_learning_rate"]
    for reason, names in without_effect.items():
        for name in names:
            if getattr(settings, name) not in (getattr(RagE2E, name), DISABLED.get(name, 0)):
                raise UserError(f"{spelled(name)} has no effect with {reason}; leave one out")


def check_pretraining(settings: Pretraining, generator: str | None) -> None:
    """Refuse conflicting options of pretraining.

    Raises:
        UserError: names what to add or to leave out.
    """
    if (generator is None) == (settings.from_scratch is None):
        remedy = "name one of them" if generator is None else "leave one of them out"
        raise UserError(
            f"pretraining takes either a GENERATOR or --from-scratch, which makes one; {remedy}"
        )
    if settings.from_scratch and settings.use_peft:
        raise UserError("--use-peft adapts pretrained weights; leave out --from-scratch")
    if settings.extend_vocabulary and settings.from_scratch:
        raise UserError(
            "--extend-vocabulary: a tokenizer made --from-scratch has the texts' words already; "
            "leave one out"
        )
    if settings.extend_vocabulary and settings.use_peft:
        raise UserError(
            "--extend-vocabulary changes the base's embeddings, which --use-peft freezes; leave "
            "one out"
        )
    if settings.held_out and not settings.replay:
        for name in ("held_out_share", "held_out_bytes"):
            if getattr(settings, name) != getattr(Pretraining, name):
                raise UserError(f"{spelled(name)} has no effect with --held-out; leave it out")
