"""Define the options of the commands that use what was trained: index, search, ask, export."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.data import DocumentReading, PassageLengths
from dalm.config.evaluation import Answering, ServedGeneratorOptions
from dalm.config.options import option, panel
from dalm.config.shared import Machine, Prompt, RemoteCode, RetrieverKind, RetrieverLengths


@panel("Index")
@dataclass(frozen=True, kw_only=True)
class IndexBuilding:
    """Retriever and folder of an index, and what happens to it."""

    index_dir: str
    """Folder of the index; one that is there is brought up to date."""
    retriever_name_or_path: Annotated[str | None, Parameter(alias="--model-name-or-path")] = None
    """Embedding model: a folder (full model or LoRA adapters) or a Hugging Face hub name. By
    default the one that built the index."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters for the retriever."""
    prune: Annotated[bool, Parameter(negative=())] = False
    """Delete passages that the source has no more."""
    rebuild: Annotated[bool, Parameter(negative=())] = False
    """Build a new generation, with another retriever for example, and switch to it when it is
    complete; until then the present one is searched."""
    rollback: Annotated[bool, Parameter(negative=())] = False
    """Switch back to the generation before, and do nothing else."""
    keep: int = option(1, least=0)
    """Number of earlier generations to keep."""
    calibrate: str | None = None
    """Table of questions with their passages, such as the training table: finds the weight of the
    dense scores in hybrid search."""
    query_column: str = option("Query", needs={"calibrate": None})
    """Column with the question; `Question` is tried if it is missing."""


@dataclass(frozen=True, kw_only=True)
class Index(
    IndexBuilding, Machine, RetrieverLengths, RetrieverKind, PassageLengths, DocumentReading
):
    """Options of `dalm index`."""


@panel("Search")
@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How passages are found."""

    search: Literal["hybrid", "dense", "text"] = "hybrid"
    """hybrid: vectors and words, their rankings fused. dense: vectors alone. text: words alone
    (BM25)."""
    where: str | None = None
    """Condition on passages, such as "source = 'manual.pdf' and page > 10"; columns are id, text,
    title, document, source, page and those of the table of passages."""


@dataclass(frozen=True, kw_only=True)
class Search(SearchOptions, Machine):
    """Options of `dalm search`."""

    top_k: Annotated[int, Parameter(group="Search")] = option(5, least=1, most=10_000)
    """Number of passages."""

    as_json: Annotated[bool, Parameter(name="--json", negative=(), group="Output")] = False
    """Print JSON."""


@dataclass(frozen=True, kw_only=True)
class Ask(SearchOptions, Answering, ServedGeneratorOptions, Prompt, Machine):
    """Options of `dalm ask`."""

    as_json: Annotated[bool, Parameter(name="--json", negative=(), group="Output")] = False
    """Print JSON: the answer and the passages read."""
    verbose: Annotated[bool, Parameter(negative=(), group="Output")] = False
    """Show how a follow-up question was searched."""


@panel("Export")
@dataclass(frozen=True, kw_only=True)
class Export(RemoteCode):
    """Options of `dalm export`."""

    output_dir: str
    """Folder for the exported models, `retriever` and `generator`."""
    overwrite_output_dir: Annotated[bool, Parameter(negative=())] = False
    """Replace an existing export."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Dtype of the written weights; auto: that of the base model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; auto: the accelerator if there is one."""
