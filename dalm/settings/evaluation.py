"""Options of the evaluation commands."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.settings.declaring import option, panel
from dalm.settings.shared import Columns, Machine, RetrieverKind


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class TunedRetrieverLengths:
    """The same for a model that may know from its training."""

    query_max_len: int | None = option(None, least=4)
    """Longest query, in the retriever's tokens; by default as it was trained, else 50."""
    passage_max_len: int | None = option(None, least=4)
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
    top_k: int = option(10, least=1)
    """Passages to find for each question; measures are taken at 1, 5, 10, ... up to it."""
    index: Literal["exact", "hnsw"] = "exact"
    """exact: every passage is compared. hnsw: a graph, approximate, for many millions."""
    baseline: str | None = None
    """Embedding model to compare with, such as the untuned one."""
    output_dir: str | None = None
    """Folder for results.json and queries.jsonl; by default the next free `evaluation-N`."""
    overwrite_output_dir: bool = False
    """Replace the results that are there."""
    seed: int = option(42, least=0, most=2**32 - 1)
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
    baseline_generator: str | None = option(None, needs={"evaluate_generator": None})
    """Generator to compare with; by default the same one, behind the baseline's retriever."""
    reader_passages: int | None = option(None, least=1, needs={"evaluate_generator": None})
    """Best passages in a prompt; by default as it was trained, else 1."""
    max_new_tokens: int = option(64, least=1, needs={"evaluate_generator": None})
    """Longest answer, in the generator's tokens."""
    generator_max_len: int | None = option(None, least=16, needs={"evaluate_generator": None})
    """Longest prompt with its answer; by default as it was trained, else 256."""


@dataclass(frozen=True, kw_only=True)
class EvalRag(EvalRetriever, GeneratorEvaluation):
    """Options of `dalm eval-rag`."""
