"""Options of the training commands and of the demo."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.presets import Preset, defaults_from, preset_defaults
from dalm.config.shared import (
    Columns,
    GeneratorLength,
    Machine,
    NegativesColumn,
    PairColumns,
    RetrieverKind,
    RetrieverLengths,
)


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How weights are updated (AdamW)."""

    per_device_train_batch_size: Annotated[int, Parameter(alias="--batch-size")] = option(
        32, least=1
    )
    """Questions per batch and device; the other passages of the batch are the negatives."""
    gradient_accumulation_steps: int = option(1, least=1)
    """Batches per update. Negatives don't reach across accumulated batches."""
    num_train_epochs: Annotated[float, Parameter(alias="--epochs")] = option(1, over=0)
    """Passes over the training data."""
    max_train_steps: int | None = option(None, least=1)
    """Updates in all; overrides the epochs."""
    learning_rate: float = option(1e-4, over=0)
    """Highest learning rate."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"
    """How the learning rate goes on after the warm-up."""
    num_warmup_steps: int = option(0, least=0)
    """Updates over which the learning rate rises from 0."""
    weight_decay: float = option(0.0, least=0.0)
    """Decoupled weight decay, on matrices only."""
    max_grad_norm: float = option(1.0, least=0.0)
    """Longest gradient; a longer one is scaled down. 0 leaves it as it is."""
    gradient_checkpointing: bool = False
    """Recompute activations backwards: less memory, about a third more time."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of new weights, order and dropout."""


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Contrast:
    """What a contrastive loss needs to know."""

    logit_scale: float = option(100.0, over=0)
    """Factor on the cosine in the contrastive loss: 1 / temperature."""


ADAPTED = {"use_peft": None, "train_encoders": ("query",)}
"""What adds adapters: LoRA, or a query side of its own."""


@panel("LoRA")
@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters in place of full weights."""

    lora_rank: int = option(16, least=1, needs=ADAPTED)
    """Rank of the adapters."""
    lora_alpha: float = option(32, over=0, needs=ADAPTED)
    """The adapters' factor is alpha / rank."""
    lora_dropout: float = option(0.05, least=0.0, most=0.99, needs=ADAPTED)
    """Dropout before an adapter."""
    lora_target_modules: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative=())
    ] = option(None, needs=ADAPTED)
    """Names of the layers to adapt; by default every linear layer."""


Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "clearml", "trackio"]
TRACKERS: tuple[str, ...] = get_args(Tracker)
"""Trackers that metrics can be sent to; each is a module and a distribution of the same name."""


@panel("Run")
@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run goes, how it goes on, and who hears of it."""

    output_dir: str
    """Folder for the models, the settings, the metrics and the checkpoints."""
    overwrite_output_dir: bool = option(False, kept=False)
    """Replace the run that is there."""
    checkpointing_steps: int | Literal["epoch"] = option("epoch", least=1)
    """Write a checkpoint every so many updates, or after every epoch."""
    checkpoints_kept: int = option(2, least=1)
    """Newest checkpoints that stay on disk."""
    dry_run: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """Read data and models, show a row with the tokens of its loss, count steps and tokens,
    estimate memory and time; write nothing."""
    resume_from_checkpoint: str | None = option(None, kept=False)
    """Go on from this checkpoint folder, or from the `latest` one in the output folder."""
    logging_steps: int = option(10, least=1)
    """Log every so many updates, and the first and the last one."""
    with_tracking: bool = False
    """Send the metrics to trackers too, not to metrics.jsonl alone."""
    report_to: Literal[Tracker, "all"] | None = option(None, needs={"with_tracking": None})
    """Which tracker; `all`: whichever are installed. Needs --with-tracking."""
    hub_model_id: str | None = None
    """Push the result to this repository of the Hugging Face hub; a new one is made private."""
    hub_token: Annotated[str | None, Parameter(show_env_var=False)] = option(
        None, needs={"hub_model_id": None}, kept=False
    )
    """Token for the push; by default the one that you logged in with. It is written nowhere."""


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation, Lora, Machine, Run):
    """What every training command has."""

    command: ClassVar[str]
    """The command's name."""


@dataclass(frozen=True, kw_only=True)
class RetrieverOnly(
    NegativesColumn, PairColumns, RetrieverLengths, RetrieverKind, Contrast, Training
):
    """Options of `dalm train-retriever-only`."""

    command: ClassVar[str] = "train-retriever-only"

    num_train_epochs: Annotated[float, Parameter(alias="--epochs", group="Optimisation")] = option(
        3, over=0
    )
    """Passes over the training data."""
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters on frozen weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Hold the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


Part = Literal["retriever", "generator", "both"]
Marginal = Literal["rag_token", "rag_sequence"]
Distilling = Literal["emdr2", "pdist", "lsr"]
JUDGED: tuple[str, ...] = get_args(Distilling)
"""Objectives in which the retriever learns the generator's scores, with a reader loss beside."""


@panel("Objective")
@dataclass(frozen=True, kw_only=True)
class JointObjective:
    """What retriever and generator are trained on together."""

    preset: Preset | None = None
    """Settings of a published method; your own options override them.
    dalm: the original toolkit's loss, which trains the two apart.
    rag-end2end (Siriwardhana et al. 2023, TACL): both encoders by the marginal likelihood over an
    index, statements of the knowledge base written too.
    atlas (Izacard et al. 2022): the retriever learns the generator's judgement, which reads 4
    passages.
    replug (Shi et al. 2023): the same from a generator that is left as it is.
    ra-dit (Lin et al. 2023): the query encoder alone learns the judgement of a generator that is
    tuned.
    independent: contrast, and tuning on the gold passage.
    two-phase: first the generator, then both."""
    objective: Literal["dalm", Marginal, Distilling] = "rag_token"
    """rag_token, rag_sequence: marginal likelihood of the answer over the candidate passages, each
    token or the whole. emdr2, pdist, lsr: the retriever learns the generator's judgement of the
    passages, the generator reads the best of them. dalm: the original toolkit's, which trains the
    two apart."""
    num_candidates: int | None = option(
        None, least=1, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Passages K that the prior is over: the gold one, if known, and the best others; by default 4
    of the batch, 8 of an index. With 1 no gradient passes from generator to retriever."""
    marginal_temperature: float = option(
        0.1, over=0, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Temperature of the prior softmax(cosine / temperature) over the candidates."""
    target_temperature: float | Literal["auto"] = option(
        "auto", over=0, needs={"objective": ("pdist", "lsr")}
    )
    """Temperature of the generator's judgement; auto: a third of the candidates carry it."""
    reader_passages: int = option(1, least=1, needs={"objective": JUDGED})
    """Best candidates in the prompt that the generator is tuned on, in random order."""
    gold_probability: float = option(
        1.0, least=0, most=1, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Share of the rows whose gold passage is put among the candidates; elsewhere it has to be
    found."""
    contrastive_weight: float = option(1.0, least=0)
    """Weight of the contrastive loss on gold passages beside the joint one."""
    train_encoders: Literal["both", "query", "none"] = "both"
    """query: adapters for queries alone, so that every passage vector stays valid. none: the
    retriever stays as it is."""
    train_generator: bool = True
    """--no-train-generator: it judges, and stays as it is."""
    reader_warmup: float = option(
        0.0, least=0, most=0.9, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Share of the updates at the start in which the generator is trained alone: one that can't
    read yet has nothing to teach."""


@panel("Candidates")
@dataclass(frozen=True, kw_only=True)
class CandidatePassages:
    """Where candidate passages come from."""

    candidates: Literal["in-batch", "index"] = "in-batch"
    """in-batch: the batch's gold passages. index: the knowledge base, searched at every step; the
    table then needs no passages."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs={"candidates": ("index",)}
    )
    """Tables of passages, the knowledge base; by default the dataset's own."""
    refresh_budget: float = option(0.1, least=0, most=1, needs={"candidates": ("index",)})
    """Share of the training's arithmetic that may go into encoding the index again; 0: never."""
    over_retrieve: int = option(2, least=1, needs={"candidates": ("index",)})
    """Passages found for each candidate, of which the live encoder keeps the best; 1: no choice."""
    write_back: bool = option(False, needs={"candidates": ("index",)})
    """Put the vectors that a step computed anyway into the index; see docs/experiments.md."""
    reconstruction_weight: float = option(0.0, least=0, needs={"candidates": ("index",)})
    """Weight of writing sentences of the knowledge base from other passages of it."""


@defaults_from(preset_defaults)
@dataclass(frozen=True, kw_only=True)
class RagE2E(
    CandidatePassages,
    JointObjective,
    NegativesColumn,
    Columns,
    RetrieverLengths,
    GeneratorLength,
    RetrieverKind,
    Contrast,
    Training,
):
    """Options of `dalm train-rag-e2e`."""

    command: ClassVar[str] = "train-rag-e2e"

    generator_learning_rate: Annotated[float | None, Parameter(group="Optimisation")] = option(
        None, over=0
    )
    """Highest learning rate of the generator; by default the retriever's."""
    use_peft: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Train LoRA adapters on the frozen weights of the retriever, the generator, or both."""
    use_bnb: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Hold frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


@panel("Demo")
@dataclass(frozen=True, kw_only=True)
class Demo:
    """Options of `dalm demo`."""

    retriever: str | None = None
    """Embedding model to tune in place of the small one made here."""
    generator: str | None = None
    """Causal language model to tune in place of the small one made here."""
    output_dir: str = "dalm-demo"
    """Folder for the models; an earlier demo in it is replaced."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of everything."""
