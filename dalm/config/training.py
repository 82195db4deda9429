"""Define the options that training commands share, and those of the demo."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.shared import Machine, RemoteCode


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
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"
    """adamw-8bit: AdamW whose state takes 2 bytes a weight instead of 8; needs bitsandbytes."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    shard: Literal["none", "grad", "full"] = "none"
    """What each of several GPUs (torchrun) holds a part of (FSDP2). none: nothing (DDP). grad:
    gradients and optimizer state; a layer's weights are kept from the forward to the backward pass.
    full: the weights, too, which are gathered layer by layer."""
    cpu_offload: bool = option(False, needs={"shard": ("grad", "full")})
    """Keep each GPU's part of weights, gradients and optimizer state in the CPU's memory, where the
    optimizer then runs."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Random seed for new weights, data order and dropout."""


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Contrast:
    """Settings of the contrastive loss, and of how a batch for it fits into memory."""

    logit_scale: float | None = option(None, over=0)
    """Scale of the similarity in the contrastive loss: 1 / temperature. By default 100 for cosines,
    1 for a model that is compared by the dot product of vectors of any length."""
    contrastive_chunk: int | None = option(None, least=1)
    """Embed a batch this many texts at a time (GradCache): activations are kept for so many, so
    that a batch of thousands fits into memory. The gradient is that of the whole batch, for one
    more forward pass. In joint training the generator reads this many prompts at a time, too. By
    default the activations of the whole batch are kept."""


@panel("Vectors")
@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Which dimensions of the vectors are trained."""

    matryoshka_dims: Annotated[list[int] | None, Parameter(consume_multiple=True, negative=())] = (
        option(None, least=1)
    )
    """Train vectors that can be cut: the loss is the mean over their first so many dimensions, for
    each of these sizes, and whole vectors (Matryoshka)."""


Part = Literal["retriever", "generator", "both"]


def covers(choice: Part | bool | None, model: str) -> bool:
    """Tell whether an option such as --use-peft means this model: retriever or generator."""
    return choice in (True, "both", model)


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


@panel("LoRA")
@dataclass(frozen=True, kw_only=True)
class OneModelLora(Lora):
    """LoRA of a command that trains one model."""

    use_peft: bool = False
    """Train LoRA adapters and freeze the model's weights."""
    use_bnb: bool = False
    """Load the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


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
class Training(Optimisation, Machine, Run):
    """Options shared by every training command."""

    command: ClassVar[str]
    """The command's name."""


@panel("Demo")
@dataclass(frozen=True, kw_only=True)
class Demo(RemoteCode):
    """Options of `dalm demo`."""

    retriever: str | None = None
    """Embedding model to train; by default a small one with random weights."""
    generator: str | None = None
    """Causal language model to train; by default a small one made on the spot."""
    output_dir: str = "dalm-demo"
    """Folder for the models; an earlier demo in it is replaced."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Random seed."""
