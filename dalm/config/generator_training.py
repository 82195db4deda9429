"""Options of training a generator: supervised fine-tuning, pretraining, and merging weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.presets import defaults_from
from dalm.config.shared import Columns, GeneratorLength
from dalm.config.training import Training

SEARCHES = {"retriever_name_or_path": None}
"""What brings passages that were found."""


@panel("Reading")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """What stands in the prompts."""

    reader_passages: int | None = option(None, least=1)
    """Passages in a prompt, in random order: the gold one and distractors. By default 4 with a
    retriever, else 1."""
    gold_probability: float | None = option(None, least=0, most=1)
    """Share of the rows whose gold passage is in the prompt, drawn anew in every epoch; the others
    have distractors alone. By default 0.8 with a retriever, else 1."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class FoundDistractors:
    """What finds the distractors; without a retriever they are drawn from the table."""

    retriever_name_or_path: str | None = None
    """Embedding model whose best passages are the distractors, found once before the training."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=SEARCHES
    )
    """More tables of passages to search besides the dataset's own: a whole knowledge base."""
    query_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Longest query, in the retriever's tokens; by default as it was trained, else 50."""
    passage_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Longest passage, in the retriever's tokens; by default as it was trained, else 128."""
    query_prompt: str | None = option(None, needs=SEARCHES)
    """Text before every query; by default the model's own, or what its family was trained with."""
    passage_prompt: str | None = option(None, needs=SEARCHES)
    """Text before every passage; likewise."""
    cache: bool = option(True, needs=SEARCHES)
    """--no-cache: encode all passages, also when a run goes on, and keep nothing."""
    cache_dir: str | None = option(None, needs=SEARCHES)
    """Folder for the passages' vectors; by default in the user's cache."""


@dataclass(frozen=True, kw_only=True)
class GeneratorOnly(FoundDistractors, Reading, Columns, GeneratorLength, Training):
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
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters on frozen weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Hold the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""

    def reads(self) -> int:
        """Return the number of passages in a prompt."""
        return self.reader_passages or (4 if self.retriever_name_or_path else 1)

    def gold_share(self) -> float:
        """Return the share of the rows whose gold passage is in the prompt."""
        if self.gold_probability is not None:
            return self.gold_probability
        return 0.8 if self.retriever_name_or_path else 1.0


# Pretraining

Size = Literal["1m", "5m", "20m", "50m", "100m"]

REPLAYS = {"replay": None}
RATES: Mapping[str, float] = {"1m": 3e-3, "5m": 2e-3, "20m": 1e-3, "50m": 6e-4, "100m": 6e-4}
"""Learning rates of new weights: many times those of pretrained ones, less for larger models."""


@panel("Texts")
@dataclass(frozen=True, kw_only=True)
class Texts:
    """What is trained on, and what is measured on."""

    text_column: str | None = None
    """Column with the text, in JSON a path (`data.body`); by default passage, text, body, ..."""
    title_column: str | None = None
    """Column with the title, which holds a document's rows together; by default title."""
    replay: str | None = None
    """General texts, read likewise: some are mixed in against forgetting, some measured on."""
    replay_ratio: float = option(0.1, least=0, most=0.9, needs=REPLAYS)
    """Share of general tokens in what is trained on; 0: general texts are only measured on."""
    held_out: str | None = None
    """Domain texts to measure on; by default a share of the texts, which isn't trained on."""
    held_out_share: float = option(0.05, over=0, most=0.5)
    """Share of the documents to hold out, of the domain's and of the general ones."""
    held_out_bytes: int = option(200_000, least=1)
    """Bytes of held-out text, each of the domain's and the general, that the share keeps to."""


@panel("Pretraining")
@dataclass(frozen=True, kw_only=True)
class ContinuedPretraining:
    """What is trained, and when it is good."""

    from_scratch: Size | None = None
    """Make tokenizer and model of about so many weights from the texts, in place of GENERATOR.
    Half of the heads of its first and last layer start as induction (copying) heads."""
    extend_vocabulary: int = option(0, least=0)
    """New tokens for the domain's words, those that save most; byte-pair tokenizers alone."""
    sequence_length: int = option(1024, least=16)
    """Tokens of a packed row; longer documents are cut into windows of it."""
    evaluation_steps: int | None = option(None, least=1)
    """Measure held-out text every so many updates; by default ten times a run."""
    max_general_loss: float = option(0.1, least=0, needs=REPLAYS)
    """Share by which general text's bits per byte may rise in the weights that are kept."""
    patience: int | None = option(None, least=1)
    """End the run after so many measurements without a better one; by default it isn't ended."""


def _learning_rate(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the default learning rate of a model made from scratch."""
    rate = RATES.get(given.get("from_scratch") or "")
    return {} if rate is None else {"learning_rate": rate}


@defaults_from(_learning_rate)
@dataclass(frozen=True, kw_only=True)
class Pretraining(Texts, ContinuedPretraining, Training):
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
    """Highest learning rate; with --from-scratch 6e-4 (100m) to 3e-3 (1m) by default."""
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters on frozen weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Hold the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


# Merging


@panel("Merging")
@dataclass(frozen=True, kw_only=True)
class Merge:
    """Options of `dalm merge`."""

    output_dir: str
    """Folder for the merged model."""
    overwrite_output_dir: bool = False
    """Replace the model that is there."""
    weight: float = option(1.0, over=0, most=1)
    """weight · tuned + (1 − weight) · base: under 1 the model forgets less of what the base knew,
    and keeps less of what it learnt."""
    base: str | None = None
    """Model to fold into, or to interpolate with; by default the one that the adapter names."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type of the weights written; auto: as those of the base are stored."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto: the accelerator if there is one."""
