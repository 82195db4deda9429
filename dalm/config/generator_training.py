"""Define the options of `dalm train-generator-only`, `dalm pretrain` and `dalm merge`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from dalm.config.options import defaults_from, option, panel, spelled
from dalm.config.shared import Columns, GeneratorLength, Html, Prompt, RemoteCode
from dalm.config.training import OneModelLora, Training
from dalm.errors import UserError

SEARCHES = {"retriever_name_or_path": None}
"""Options without which no distractors are retrieved."""


@panel("Reading")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """Passages in the training prompts."""

    reader_passages: int | None = option(None, least=1)
    """Passages per prompt, in random order: the gold one and distractors. By default 4 with a
    retriever, else 1."""
    gold_probability: float | None = option(None, least=0, most=1)
    """Fraction of rows whose gold passage is in the prompt, redrawn every epoch; the others have
    distractors only. By default 0.8 with a retriever, else 1."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class FoundDistractors:
    """Retriever that finds distractors; without one they are sampled from the dataset."""

    retriever_name_or_path: str | None = None
    """Embedding model whose top passages become distractors, retrieved once before training."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=SEARCHES
    )
    """Tables of further passages to search (a knowledge base), in addition to the dataset's own."""
    query_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Maximum query length in retriever tokens; by default as in training, else 50, or what
    the model takes if that is less."""
    passage_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Maximum passage length in retriever tokens; by default as in training, else 128, or
    what the model takes if that is less."""
    query_prompt: str | None = option(None, needs=SEARCHES)
    """Prefix of every query; by default the model's own, or that of its model family."""
    passage_prompt: str | None = option(None, needs=SEARCHES)
    """Prefix of every passage; by default the model's own, or that of its model family."""
    cache: bool = option(True, needs=SEARCHES)
    """--no-cache: encode all passages, also when a run is resumed, and cache nothing."""
    cache_dir: str | None = option(None, needs=SEARCHES)
    """Folder for passage embeddings; by default the user cache."""


@dataclass(frozen=True, kw_only=True)
class GeneratorOnly(
    OneModelLora, FoundDistractors, Reading, Columns, GeneratorLength, Prompt, Training
):
    """Options of `dalm train-generator-only`."""

    command: ClassVar[str] = "train-generator-only"

    per_device_train_batch_size: Annotated[
        int, Parameter(alias="--batch-size", group="Optimisation")
    ] = option(32, least=1)
    """Questions per batch and device."""
    gradient_accumulation_steps: Annotated[int, Parameter(group="Optimisation")] = option(
        1, least=1
    )
    """Batches per update."""

    def reads(self) -> int:
        """Return the number of passages in a prompt."""
        return self.reader_passages or (4 if self.retriever_name_or_path else 1)

    def gold_share(self) -> float:
        """Return the fraction of rows whose gold passage is in the prompt."""
        if self.gold_probability is not None:
            return self.gold_probability
        return 0.8 if self.retriever_name_or_path else 1.0


# Pretraining

Size = Literal["1m", "5m", "20m", "50m", "100m"]

REPLAYS = {"replay": None}
RATES: Mapping[str, float] = {"1m": 3e-3, "5m": 2e-3, "20m": 1e-3, "50m": 6e-4, "100m": 6e-4}
"""Learning rates for training from scratch: far above those of pretrained weights, lower for
larger models."""


@panel("Texts")
@dataclass(frozen=True, kw_only=True)
class Texts:
    """Training and held-out texts."""

    text_column: str | None = None
    """Column with the text; in JSON a path (`data.body`). By default passage, text, body ..."""
    title_column: str | None = None
    """Column with the title, which groups the rows of a document; by default title."""
    encoding: str | None = None
    """Encoding of files that don't declare their own. Default: UTF-8."""
    html: Html = "main"
    replay: str | None = None
    """General texts, to mix in against forgetting and to evaluate on."""
    replay_ratio: float = option(0.1, least=0, most=0.9, needs=REPLAYS)
    """Fraction of general tokens in the training data; 0: general texts are only evaluated on."""
    held_out: str | None = None
    """Domain texts to evaluate on; by default a fraction of the texts is held out."""
    held_out_share: float = option(0.05, over=0, most=0.5)
    """Fraction of documents to hold out, of the domain and of the general texts."""
    held_out_bytes: int = option(200_000, least=1)
    """Upper limit on held-out text in bytes, for the domain and the general texts each."""


@panel("Pretraining")
@dataclass(frozen=True, kw_only=True)
class ContinuedPretraining:
    """Model, sequence length and selection of the best weights."""

    from_scratch: Size | None = None
    """Train a new tokenizer and a model of about this many parameters instead of GENERATOR. The
    heads of its first and last layer start as induction and lookup heads: see docs/generators.md.
    """
    extend_vocabulary: int = option(0, least=0)
    """Number of domain words to add as tokens, those that save most; byte-pair tokenizers only."""
    sequence_length: int = option(1024, least=16)
    """Tokens per packed row; longer documents are split into windows of this length."""
    evaluation_steps: int | None = option(None, least=1)
    """Updates between evaluations on held-out text; by default ten per run."""
    max_general_loss: float = option(0.1, least=0, needs=REPLAYS)
    """Largest relative rise of bits per byte on general text allowed for the best weights."""
    patience: int | None = option(None, least=1)
    """Stop early after this many evaluations without improvement; by default never."""


def _learning_rate(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the default learning rate of a model made from scratch."""
    rate = RATES.get(given.get("from_scratch") or "")
    return {} if rate is None else {"learning_rate": rate}


@defaults_from(_learning_rate)
@dataclass(frozen=True, kw_only=True)
class Pretraining(OneModelLora, Texts, ContinuedPretraining, Training):
    """Options of `dalm pretrain`."""

    command: ClassVar[str] = "pretrain"

    per_device_train_batch_size: Annotated[
        int, Parameter(alias="--batch-size", group="Optimisation")
    ] = option(8, least=1)
    """Packed rows per batch and device."""
    gradient_accumulation_steps: Annotated[int, Parameter(group="Optimisation")] = option(
        1, least=1
    )
    """Batches per update."""
    learning_rate: Annotated[float, Parameter(group="Optimisation")] = option(5e-5, over=0)
    """Peak learning rate; with --from-scratch by default 6e-4 (100m) to 3e-3 (1m)."""


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


# Merging


@panel("Merging")
@dataclass(frozen=True, kw_only=True)
class Merge(RemoteCode):
    """Options of `dalm merge`."""

    output_dir: str
    """Folder for the merged model."""
    overwrite_output_dir: bool = False
    """Replace an existing model."""
    weight: float = option(1.0, over=0, most=1)
    """weight · tuned + (1 − weight) · base. Below 1 the model forgets less of the base and keeps
    less of what it learnt."""
    base: str | None = None
    """Base model to merge into or interpolate with; by default the one the adapter names."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Dtype of the written weights; auto: that of the base model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; auto: the accelerator if there is one."""
