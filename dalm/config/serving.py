"""Define the options of what uses trained models: index, search, ask, serve, export."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.cluster import ModelActors
from dalm.config.data import DocumentReading, PassageLengths
from dalm.config.evaluation import Answering, ServedGeneratorOptions, Several
from dalm.config.options import option, panel
from dalm.config.shared import (
    EncoderBackend,
    Machine,
    Prompt,
    RemoteCode,
    Reranking,
    RetrieverKind,
    RetrieverLengths,
)


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
    store: str | None = None
    """Where passages, vectors and words are kept. lance (default): LanceDB, in the index's folder.
    pgvector: PostgreSQL with pgvector, at --store-url. qdrant: Qdrant, a server or a folder at
    --store-url. Or a store that another package brings."""
    store_url: str | None = option(None, kept=False)
    """Address of the store's server: postgresql://user@host/database or http://host:6333; for
    Qdrant also a folder. A password in it isn't kept: searches take it from PGPASSWORD or
    ~/.pgpass. Qdrant's key is read from QDRANT_API_KEY."""
    vectors: Literal["fp32", "int8", "binary"] | None = None
    """What candidates are found by: fp32 (default), the vectors themselves; int8 or binary, codes
    of a byte or a bit a dimension. Those found are scored by the fp32 vectors, which are kept."""
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
    IndexBuilding,
    Machine,
    RetrieverLengths,
    RetrieverKind,
    EncoderBackend,
    PassageLengths,
    DocumentReading,
    ModelActors,
):
    """Options of `dalm index`."""


@panel("Search")
@dataclass(frozen=True, kw_only=True)
class SearchOptions(Reranking):
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


@panel("Server")
@dataclass(frozen=True, kw_only=True)
class Serving:
    """Address, limits and log of the server."""

    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own needs an API key in the environment variable
    DALM_API_KEY, or --no-auth."""
    port: int = option(8000, least=0, most=65535)
    """Port to listen on; 0 takes a free one."""
    auth: bool = True
    """--no-auth: let everybody who reaches the server use it without a key."""
    cors_origin: Annotated[list[str] | None, Several] = None
    """Origins, such as https://wiki.example.org, whose pages may use the server from a browser."""
    max_concurrent: int = option(16, least=1, most=1024)
    """Questions that are answered at the same time; the local generator answers them in batches."""
    max_waiting: int = option(64, least=0, most=65536)
    """Questions that wait for their turn; a further one is refused with status 429."""
    request_timeout: float = option(120.0, over=0)
    """Seconds in which a request has to be answered, waiting included."""
    shutdown_timeout: float = option(30.0, least=0)
    """Seconds that running requests have to end when the server is stopped."""
    mcp_stdio: Annotated[bool, Parameter(negative=())] = False
    """Speak the Model Context Protocol over stdin and stdout, and don't listen on a port; needs the
    extra mcp."""
    allow_uploads: Annotated[bool, Parameter(negative=())] = False
    """Let clients add, replace and delete documents of the index; without it they only read."""
    feedback: Annotated[bool, Parameter(negative=())] = False
    """Keep every question and answer in the index's folder, and take judgments of them; `dalm
    feedback` makes training tables of them. Without it nothing is kept."""
    documents: str | None = None
    """Folder of the documents that were indexed, whose files can then be opened from the page: all
    that `dalm passages` reads, hidden files left out."""
    compare_index: str | None = option(None, needs={"feedback": None})
    """Folder of another index: the page then shows two answers side by side, from this index and
    from that one, without saying which is which, and takes votes."""
    compare_previous: Annotated[bool, Parameter(negative=())] = option(
        False, needs={"feedback": None}
    )
    """Compare with the generation before of this index, which dalm index --rollback goes back to,
    in place of another index."""
    compare_generator_name_or_path: str | None = option(None, needs={"feedback": None})
    """Generator that answers beside this one in comparisons: a folder or a Hugging Face hub name;
    by default the same one. It is loaded, too, as the retriever of --compare-index is."""
    log_questions: Annotated[bool, Parameter(negative=())] = False
    """Write questions into the log."""


@dataclass(frozen=True, kw_only=True)
class Serve(Serving, SearchOptions, Answering, ServedGeneratorOptions, Prompt, Machine):
    """Options of `dalm serve`."""


@panel("Export")
@dataclass(frozen=True, kw_only=True)
class Export(RemoteCode):
    """Options of `dalm export`."""

    output_dir: str
    """Folder for the exported models, `retriever` and `generator`."""
    overwrite_output_dir: Annotated[bool, Parameter(negative=())] = False
    """Replace an existing export."""
    onnx: Annotated[bool, Parameter(negative=())] = False
    """Write the retriever's transformer to ONNX, too, in fp32 and int8."""
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Dtype of the written weights; auto: that of the base model."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device; auto: the accelerator if there is one."""
