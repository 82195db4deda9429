"""Options of the mining of hard negatives."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.settings.declaring import option, panel
from dalm.settings.evaluation import TunedRetrieverLengths
from dalm.settings.shared import Machine, PairColumns, RetrieverKind, VectorCache


@panel("Mining")
@dataclass(frozen=True, kw_only=True)
class Mining:
    """Where negatives are looked for, and what may become one."""

    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")]
    """Embedding model: a folder, also one with adapters, or a name on the Hugging Face hub."""
    output: str
    """File for the table with its negatives; csv, tsv, jsonl or parquet by its ending."""
    overwrite_output: bool = False
    """Replace the file that is there."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters to put on the retriever."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """More tables of passages to search besides the dataset's own: a whole knowledge base."""
    bm25: bool = False
    """Search by words, too: the negatives are taken from both rankings in turns."""
    num_negatives: int = option(4, least=1)
    """Negatives for each question; fewer where fewer are left."""
    first_rank: int = option(1, least=1)
    """First place of a ranking to look at, gold passages not counted."""
    last_rank: int = option(100, least=1)
    """Last place to look at."""
    max_share: float | Literal["off"] = option(0.95, over=0, most=1)
    """Leave out passages that score above this share of the gold passage's score: they are likely
    to answer the question. off: keep them."""
    margin: float | None = option(None, least=0)
    """Leave out passages that score above the gold passage's score less this, too."""
    skip_same_document: bool = True
    """Leave out passages with the gold passage's title."""
    sampling: Literal["best", "random"] = "best"
    """best: the highest ranks that are left. random: drawn from all that are left."""
    seed: int = option(42, least=0, most=2**32 - 1, needs={"sampling": ("random",)})
    """Seed of the drawing."""


@dataclass(frozen=True, kw_only=True)
class MineNegatives(
    PairColumns, TunedRetrieverLengths, RetrieverKind, Machine, VectorCache, Mining
):
    """Options of `dalm mine-negatives`."""
