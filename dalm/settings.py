"""Every option of every command, declared once.

A class is a panel of the help: its fields are the options, the line below a field is its help.
A command's options are a class that inherits the panels it needs, so that they are flat on the
command line, in a YAML config, and in Python: `RagE2E(output_dir="out", learning_rate=2e-5)`.
Standard library and cyclopts only: `dalm --help` imports nothing heavier.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cyclopts import Parameter

from dalm.errors import UserError

T = TypeVar("T")

NOT_KEPT = {"kept": False}
"""Marks what settings.yaml leaves out: a secret, and what is said about one start of a run."""


def panel(title: str) -> Callable[[type[T]], type[T]]:
    """Group the options of a class under `title` in the help."""

    def group(cls: type[T]) -> type[T]:
        hints = cls.__annotations__
        hints.update(
            {name: Annotated[hint, Parameter(group=title)] for name, hint in hints.items()}
        )
        return cls

    return group


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Names of the columns of a table of questions and passages."""

    passage_column: Annotated[str, Parameter(alias="--dataset-passage-col-name")] = "Passage"
    """Column with the passage; `Abstract` and `Context` are recognised when it is missing."""
    query_column: Annotated[str, Parameter(alias="--dataset-query-col-name")] = "Query"
    """Column with the question; `Question` is recognised when it is missing."""
    title_column: str = "Title"
    """Column with the document's title; used if it is there."""
    prepend_title: bool = False
    """Put the title before the passage's text, for the retriever and the generator alike."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class Columns(PairColumns):
    """The same for a table that has answers too."""

    answer_column: Annotated[str, Parameter(alias="--dataset-answer-col-name")] = "Answer"
    """Column with the answer."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class RetrieverLengths:
    """How long a text may be before it is cut, for the retriever."""

    query_max_len: int = 50
    """Longest query, in the retriever's tokens."""
    passage_max_len: int = 128
    """Longest passage, in the retriever's tokens."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class GeneratorLength:
    """How long a prompt may be."""

    generator_max_len: int = 256
    """Longest prompt with its answer, in the generator's tokens; a passage is cut, nothing else."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class RetrieverKind:
    """What kind of embedding model it is, where it doesn't say so itself."""

    retriever_is_autoregressive: Annotated[
        bool | None, Parameter(alias="--is-autoregressive", negative=())
    ] = None
    """Pool the last token and append EOS; found by itself for a decoder without own pooling."""
    query_prompt: str | None = None
    """Text before every query; by default the model's own, or what its family was trained with."""
    passage_prompt: str | None = None
    """Text before every passage; likewise."""


@panel("Optimisation")
@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How weights are updated (AdamW)."""

    per_device_train_batch_size: Annotated[int, Parameter(alias="--batch-size")] = 32
    """Questions per batch and device; the other passages of the batch are the negatives."""
    gradient_accumulation_steps: int = 1
    """Batches per update. Negatives don't reach across accumulated batches."""
    num_train_epochs: Annotated[float, Parameter(alias="--epochs")] = 1
    """Passes over the training data."""
    max_train_steps: int | None = None
    """Updates in all; overrides the epochs."""
    learning_rate: float = 1e-4
    """Highest learning rate."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
    ] = "linear"
    """How the learning rate goes on after the warm-up."""
    num_warmup_steps: int = 0
    """Updates over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Decoupled weight decay, on matrices only."""
    max_grad_norm: float = 1.0
    """Longest gradient; a longer one is scaled down. 0 leaves it as it is."""
    logit_scale: float = 100.0
    """Factor on the cosine in the contrastive loss: 1 / temperature."""
    gradient_checkpointing: bool = False
    """Recompute activations backwards: less memory, about a third more time."""
    seed: int = 42
    """Seed of new weights, order and dropout."""


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and in which precision to compute."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the GPU or CPU has it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: the accelerator if there is one. Several GPUs: start with torchrun."""


@panel("LoRA")
@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank adapters in place of full weights."""

    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: float = 32
    """The adapters' factor is alpha / rank."""
    lora_dropout: float = 0.05
    """Dropout before an adapter."""
    lora_target_modules: Annotated[
        list[str] | None, Parameter(consume_multiple=True, negative=())
    ] = None
    """Names of the layers to adapt; by default every linear layer."""


@panel("Run")
@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a run goes, how it goes on, and who hears of it."""

    output_dir: str
    """Folder for the models, the settings, the metrics and the checkpoints."""
    overwrite_output_dir: bool = field(default=False, metadata=NOT_KEPT)
    """Replace the run that is there."""
    checkpointing_steps: int | Literal["epoch"] = "epoch"
    """Write a checkpoint every so many updates, or after every epoch."""
    checkpoints_kept: int = 2
    """Newest checkpoints that stay on disk."""
    resume_from_checkpoint: str | None = field(default=None, metadata=NOT_KEPT)
    """Go on from this checkpoint folder, or from the `latest` one in the output folder."""
    logging_steps: int = 10
    """Log every so many updates, and the first and the last one."""
    with_tracking: bool = False
    """Send the metrics to trackers too, not to metrics.jsonl alone."""
    report_to: (
        Literal["tensorboard", "wandb", "mlflow", "comet_ml", "clearml", "trackio", "all"] | None
    ) = None
    """Which tracker; `all`: whichever are installed. Needs --with-tracking."""
    hub_model_id: str | None = None
    """Push the result to this repository of the Hugging Face hub; a new one is made private."""
    hub_token: Annotated[str | None, Parameter(show_env_var=False)] = field(
        default=None, repr=False, metadata=NOT_KEPT
    )
    """Token for the push; by default the one that you logged in with. It is written nowhere."""


@dataclass(frozen=True, kw_only=True)
class Training(Optimisation, Lora, Machine, Run):
    """What every training command has."""


@dataclass(frozen=True, kw_only=True)
class RetrieverOnly(PairColumns, RetrieverLengths, RetrieverKind, Training):
    """Options of `dalm train-retriever-only`."""

    num_train_epochs: Annotated[float, Parameter(alias="--epochs", group="Optimisation")] = 3
    """Passes over the training data."""
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters on frozen weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Hold the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


Part = Literal["retriever", "generator", "both"]


@dataclass(frozen=True, kw_only=True)
class RagE2E(Columns, RetrieverLengths, GeneratorLength, RetrieverKind, Training):
    """Options of `dalm train-rag-e2e`."""

    objective: Annotated[
        Literal["dalm", "rag_token", "rag_sequence"], Parameter(group="Objective")
    ] = "rag_token"
    """rag_token, rag_sequence: marginal likelihood of the answer over the candidate passages, each
    token or the whole. dalm: the original toolkit's, which trains the two apart."""
    num_candidates: Annotated[int, Parameter(group="Objective")] = 4
    """Passages K to marginalise over: the gold one and the best others of the batch. 1: supervised
    tuning on the gold passage beside the contrastive loss, the cheapest."""
    marginal_temperature: Annotated[float, Parameter(group="Objective")] = 0.05
    """Temperature of the prior softmax(cosine / temperature) over the candidates."""
    contrastive_weight: Annotated[float, Parameter(group="Objective")] = 1.0
    """Weight of the contrastive loss beside the marginal one."""
    generator_learning_rate: Annotated[float | None, Parameter(group="Optimisation")] = None
    """Highest learning rate of the generator; by default the retriever's."""
    use_peft: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Train LoRA adapters on the frozen weights of the retriever, the generator, or both."""
    use_bnb: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Hold frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class TunedRetrieverLengths:
    """The same for a model that may know from its training."""

    query_max_len: int | None = None
    """Longest query, in the retriever's tokens; by default as it was trained, else 50."""
    passage_max_len: int | None = None
    """Longest passage, in the retriever's tokens; by default as it was trained, else 128."""


@panel("Evaluation")
@dataclass(frozen=True, kw_only=True)
class RetrieverEvaluation:
    """What is evaluated, against what, and where the results go."""

    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")]
    """Embedding model: a folder, also one with adapters, or a name on the Hugging Face hub."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters to put on the retriever."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """More tables of passages to search besides the dataset's own: a whole knowledge base."""
    top_k: int = 10
    """Passages to find for each question; measures are taken at 1, 5, 10, ... up to it."""
    index: Literal["exact", "hnsw"] = "exact"
    """exact: every passage is compared. hnsw: a graph, approximate, for many millions."""
    baseline: str | None = None
    """Embedding model to compare with, such as the untuned one."""
    output_dir: str | None = None
    """Folder for results.json and queries.jsonl; by default the next free `evaluation-N`."""
    overwrite_output_dir: bool = False
    """Replace the results that are there."""
    seed: int = 42
    """Seed of the intervals' resampling."""


@dataclass(frozen=True, kw_only=True)
class EvalRetriever(Columns, TunedRetrieverLengths, RetrieverKind, Machine, RetrieverEvaluation):
    """Options of `dalm eval-retriever`."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class GeneratorEvaluation:
    """Which generator, and how it answers."""

    generator_name_or_path: str
    """Causal language model: a folder, also one with adapters, or a name on the hub."""
    generator_peft_model_path: str | None = None
    """Folder with LoRA adapters to put on the generator."""
    evaluate_generator: bool = False
    """Let the generator answer from the passages found, and compare with the table's answers."""
    baseline_generator: str | None = None
    """Generator to compare with; by default the same one, behind the baseline's retriever."""
    reader_passages: int = 1
    """Best passages in a prompt; 1 is what the objectives of train-rag-e2e train."""
    max_new_tokens: int = 64
    """Longest answer, in the generator's tokens."""
    generator_max_len: int | None = None
    """Longest prompt with its answer; by default as it was trained, else 256."""


@dataclass(frozen=True, kw_only=True)
class EvalRag(EvalRetriever, GeneratorEvaluation):
    """Options of `dalm eval-rag`."""


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
    seed: int = 42
    """Seed of everything."""


def public(settings: object, **required: object) -> dict[str, object]:
    """Return inputs and options as plain values, without secrets: what settings.yaml holds."""
    assert is_dataclass(settings)
    options = {
        f.name: getattr(settings, f.name) for f in fields(settings) if f.metadata.get("kept", True)
    }
    return {**required, **options}


_LEAST = {
    "query_max_len": 4,
    "passage_max_len": 4,
    "generator_max_len": 16,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "max_train_steps": 1,
    "num_warmup_steps": 0,
    "weight_decay": 0.0,
    "max_grad_norm": 0.0,
    "checkpointing_steps": 1,
    "checkpoints_kept": 1,
    "logging_steps": 1,
    "lora_rank": 1,
    "lora_dropout": 0.0,
    "num_candidates": 1,
    "contrastive_weight": 0.0,
    "top_k": 1,
    "reader_passages": 1,
    "max_new_tokens": 1,
    "seed": 0,
}
_MOST = {"lora_dropout": 0.99, "seed": 2**32 - 1}
_POSITIVE = (
    "num_train_epochs",
    "learning_rate",
    "generator_learning_rate",
    "logit_scale",
    "lora_alpha",
    "marginal_temperature",
)


_NEEDS = {
    "lora_rank": ("use_peft", "--use-peft"),
    "lora_alpha": ("use_peft", "--use-peft"),
    "lora_dropout": ("use_peft", "--use-peft"),
    "lora_target_modules": ("use_peft", "--use-peft"),
    "baseline_generator": ("evaluate_generator", "--evaluate-generator"),
    "reader_passages": ("evaluate_generator", "--evaluate-generator"),
    "max_new_tokens": ("evaluate_generator", "--evaluate-generator"),
    "generator_max_len": ("evaluate_generator", "--evaluate-generator"),
    "hub_token": ("hub_model_id", "--hub-model-id"),
    "report_to": ("with_tracking", "--with-tracking"),
}
_NOT_FOR_DALM = ("num_candidates", "marginal_temperature")


def check(settings: object) -> None:
    """Refuse numbers that mean nothing, and options that would have no effect.

    Raises:
        UserError: names the option, the value and the bound, or what it needs.
    """
    assert is_dataclass(settings)
    for f in fields(settings):
        value = getattr(settings, f.name)
        if not isinstance(value, int | float):
            continue
        option = f"--{f.name.replace('_', '-')} {value}"
        if f.name in _POSITIVE and not 0 < value < float("inf"):
            raise UserError(f"{option}: must be a number over 0")
        if f.name in _LEAST and not _LEAST[f.name] <= value < float("inf"):
            raise UserError(f"{option}: must be a number of at least {_LEAST[f.name]}")
        if f.name in _MOST and value > _MOST[f.name]:
            raise UserError(f"{option}: must be at most {_MOST[f.name]}")
    for f in fields(settings):
        if getattr(settings, f.name) == f.default:
            continue
        option = f"--{f.name.replace('_', '-')}"
        needed, remedy = _NEEDS.get(f.name, ("", ""))
        if needed and not getattr(settings, needed, True):
            raise UserError(f"{option} has no effect without {remedy}; add it")
        if f.name in _NOT_FOR_DALM and getattr(settings, "objective", "") == "dalm":
            raise UserError(f"{option} has no effect with --objective dalm; leave it out")


def check_output_dir(folder: Path) -> None:
    """Refuse a folder that could not be written to in the end.

    Raises:
        UserError: it is a file or in one, or the rights are missing.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"--output-dir {folder}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--output-dir {folder}: no right to write to {there}; name another folder")
