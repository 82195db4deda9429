"""Define the options of retriever and joint training, and of the demo."""

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
    Prompt,
    RetrieverKind,
    RetrieverLengths,
)


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Optimizer (AdamW), batch size and learning-rate schedule."""

    per_device_train_batch_size: Annotated[int, Parameter(alias="--batch-size")] = option(
        32, least=1
    )
    """Questions per batch and device; the other passages of the batch are the negatives."""
    gradient_accumulation_steps: int = option(1, least=1)
    """Batches per update. Negatives are not shared between accumulated batches."""
    num_train_epochs: Annotated[float, Parameter(alias="--epochs")] = option(1, over=0)
    """Training epochs."""
    max_train_steps: int | None = option(None, least=1)
    """Total number of updates; overrides the number of epochs."""
    learning_rate: float = option(1e-4, over=0)
    """Peak learning rate."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"
    """Learning-rate schedule after warm-up."""
    num_warmup_steps: int = option(0, least=0)
    """Updates of linear warm-up from 0."""
    weight_decay: float = option(0.0, least=0.0)
    """Decoupled weight decay, applied to weight matrices only (no biases, no norms)."""
    max_grad_norm: float = option(1.0, least=0.0)
    """Maximum gradient norm for clipping; 0 disables it."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Random seed for new weights, data order and dropout."""


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Settings of the contrastive loss."""

    logit_scale: float = option(100.0, over=0)
    """Scale of the cosine similarity in the contrastive loss: 1 / temperature."""


ADAPTED = {"use_peft": None, "train_encoders": ("query",)}
"""Options that add adapters: LoRA, or training the query encoder only."""


@panel("LoRA")
@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters (LoRA)."""

    lora_rank: int = option(16, least=1, needs=ADAPTED)
    """LoRA rank."""
    lora_alpha: float = option(32, over=0, needs=ADAPTED)
    """LoRA alpha: adapters are scaled by alpha / rank."""
    lora_dropout: float = option(0.05, least=0.0, most=0.99, needs=ADAPTED)
    """LoRA dropout."""
    lora_target_modules: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative=())
    ] = option(None, needs=ADAPTED)
    """Names of the modules to adapt; by default every linear layer."""


Tracker = Literal["tensorboard", "wandb", "mlflow", "comet_ml", "clearml", "trackio"]
TRACKERS: tuple[str, ...] = get_args(Tracker)
"""Trackers that metrics can be sent to; each is a module and a distribution of the same name."""


@panel("Run")
@dataclass(frozen=True, kw_only=True)
class Run:
    """Output folder, checkpoints, logging, tracking and the hub."""

    output_dir: str
    """Folder for models, settings, metrics and checkpoints."""
    overwrite_output_dir: bool = option(False, kept=False)
    """Replace an existing run."""
    checkpointing_steps: int | Literal["epoch"] = option("epoch", least=1)
    """Updates between checkpoints, or `epoch` for one after every epoch."""
    checkpoints_kept: int = option(2, least=1)
    """Number of most recent checkpoints to keep on disk."""
    dry_run: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """Load data and models, show one example with the tokens that enter the loss, count steps and
    tokens, and estimate memory and time; write nothing."""
    resume_from_checkpoint: str | None = option(None, kept=False)
    """Resume from this checkpoint folder, or from the `latest` one in the output folder."""
    logging_steps: int = option(10, least=1)
    """Updates between log lines; the first and the last update are always logged."""
    with_tracking: bool = False
    """Send metrics to experiment trackers as well as to metrics.jsonl."""
    report_to: Literal[Tracker, "all"] | None = option(None, needs={"with_tracking": None})
    """Tracker to use; `all`: every installed one. Needs --with-tracking."""
    hub_model_id: str | None = None
    """Hugging Face hub repository to push the result to; a new repository is private."""
    hub_token: Annotated[str | None, Parameter(show_env_var=False)] = option(
        None, needs={"hub_model_id": None}, kept=False
    )
    """Hub token for the push; by default your login's. It is never written to disk."""


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation, Lora, Machine, Run):
    """Options shared by every training command."""

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
    """Training epochs."""
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters and freeze the model's weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Load the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


Part = Literal["retriever", "generator", "both"]
Marginal = Literal["rag_token", "rag_sequence"]
Distilling = Literal["emdr2", "pdist", "lsr"]
JUDGED: tuple[str, ...] = get_args(Distilling)
"""Objectives in which the retriever learns the generator's scores, with a reader loss beside."""


@panel("Objective")
@dataclass(frozen=True, kw_only=True)
class JointObjective:
    """Objective of joint training."""

    preset: Preset | None = None
    """Defaults of a published method; options you set override them.
    dalm: the original toolkit's loss, with no gradient from generator to retriever.
    rag-end2end (Siriwardhana et al. 2023, TACL): marginal likelihood over an index, both encoders
    trained, plus reconstruction of sentences of the knowledge base.
    atlas (Izacard et al. 2022): perplexity distillation into the retriever; the generator reads 4
    passages.
    replug (Shi et al. 2023): likelihood distillation from a frozen generator.
    ra-dit (Lin et al. 2023): likelihood distillation into the query encoder only; the generator is
    fine-tuned.
    independent: contrastive loss and supervised fine-tuning on the gold passage.
    two-phase: the generator first, then both."""
    objective: Literal["dalm", Marginal, Distilling] = "rag_token"
    """rag_token, rag_sequence: marginal likelihood of the answer over the candidate passages, per
    token or per sequence. emdr2, pdist, lsr: the retriever is trained on the generator's
    likelihoods, and the generator is fine-tuned on the best passages. dalm: the original toolkit's
    loss, with no gradient from generator to retriever."""
    num_candidates: int | None = option(
        None, least=1, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Number K of candidate passages per question: the gold one, if known, and the best others. By
    default 4 in-batch, 8 from an index. With 1, no gradient reaches the retriever from the
    generator."""
    marginal_temperature: float = option(
        0.1, over=0, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Temperature of the retriever's softmax(cosine / temperature) over the candidates."""
    target_temperature: float | Literal["auto"] = option(
        "auto", over=0, needs={"objective": ("pdist", "lsr")}
    )
    """Temperature of the generator's target distribution; auto: chosen so that on average K/3
    candidates carry it."""
    reader_passages: int = option(1, least=1, needs={"objective": JUDGED})
    """Number of top candidates in the prompt of the fine-tuning loss, in random order."""
    gold_probability: float = option(
        1.0, least=0, most=1, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Fraction of rows whose gold passage is added to the candidates; in the others it has to be
    retrieved."""
    contrastive_weight: float = option(1.0, least=0)
    """Weight of the contrastive loss on gold passages, added to the joint loss."""
    train_encoders: Literal["both", "query", "none"] = "both"
    """query: adapters for queries only, so that existing passage embeddings stay valid. none: the
    retriever is frozen."""
    train_generator: bool = True
    """--no-train-generator: freeze the generator; it only scores passages."""
    reader_warmup: float = option(
        0.0, least=0, most=0.9, needs={"objective": (*get_args(Marginal), *JUDGED)}
    )
    """Fraction of the updates, at the start, that train only the generator: one that can't answer
    from a passage yet gives the retriever no signal."""


@panel("Candidates")
@dataclass(frozen=True, kw_only=True)
class CandidatePassages:
    """Source of the candidate passages."""

    candidates: Literal["in-batch", "index"] = "in-batch"
    """in-batch: the gold passages of the batch. index: the knowledge base, searched at every step;
    the dataset then needs no passages."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs={"candidates": ("index",)}
    )
    """Tables of passages that form the knowledge base; by default the dataset's own passages."""
    refresh_budget: float = option(0.1, least=0, most=1, needs={"candidates": ("index",)})
    """Fraction of the training FLOPs to spend on re-encoding the index; 0: never."""
    over_retrieve: int = option(2, least=1, needs={"candidates": ("index",)})
    """Retrieve this many times K passages and re-rank them with the current encoder; 1: off."""
    write_back: bool = option(False, needs={"candidates": ("index",)})
    """Write the embeddings computed in a step back to the index; see docs/experiments.md."""
    reconstruction_weight: float = option(0.0, least=0, needs={"candidates": ("index",)})
    """Weight of the loss of reconstructing sentences of the knowledge base from retrieved
    passages."""


@defaults_from(preset_defaults)
@dataclass(frozen=True, kw_only=True)
class RagE2E(
    CandidatePassages,
    JointObjective,
    NegativesColumn,
    Columns,
    RetrieverLengths,
    GeneratorLength,
    Prompt,
    RetrieverKind,
    Contrast,
    Training,
):
    """Options of `dalm train-rag-e2e`."""

    command: ClassVar[str] = "train-rag-e2e"

    generator_learning_rate: Annotated[float | None, Parameter(group="Optimisation")] = option(
        None, over=0
    )
    """Peak learning rate of the generator; by default the retriever's."""
    use_peft: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Train LoRA adapters for the retriever, the generator or both, and freeze their weights."""
    use_bnb: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Load frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


@panel("Demo")
@dataclass(frozen=True, kw_only=True)
class Demo:
    """Options of `dalm demo`."""

    retriever: str | None = None
    """Embedding model to train; by default a small one with random weights."""
    generator: str | None = None
    """Causal language model to train; by default a small one made on the spot."""
    output_dir: str = "dalm-demo"
    """Folder for the models; an earlier demo in it is replaced."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Random seed."""
