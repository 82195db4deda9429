"""Options of the command that makes questions and answers."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from dalm.settings.declaring import option, panel

Kind = Literal["fact", "why", "how", "compare", "multi-passage"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SINGLE_KINDS: tuple[Kind, ...] = tuple(kind for kind in KINDS if kind != "multi-passage")

ASKS = {"backend": ("http", "transformers")}
"""Backends that ask a model."""
OVER_HTTP = {"backend": ("http",)}
LOADS = {"backend": ("transformers",), "retriever_name_or_path": None}
"""What loads a model into this machine."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class PassageColumns:
    """Names of the columns of a table of passages."""

    passage_column: Annotated[
        str, Parameter(alias=("--passage-column-name", "--dataset-passage-col-name"))
    ] = "Passage"
    """Column with the passage; `Abstract` and `Context` are recognised when it is missing."""
    title_column: Annotated[str, Parameter(alias="--title-column-name")] = "Title"
    """Column with the document's title; without it each passage is a document."""


@panel("Backend")
@dataclass(frozen=True, kw_only=True)
class Backend:
    """Who writes the questions."""

    backend: Literal["extractive", "http", "transformers"] = "extractive"
    """extractive: patterns, no model. http: an OpenAI-compatible server (vLLM, Ollama, llama.cpp,
    TGI ...). transformers: an instruct model on this machine."""
    generator_name_or_path: Annotated[str | None, Parameter(alias="--model")] = option(
        None, needs=ASKS
    )
    """The server's name for its model; for transformers a folder or a name on the hub."""
    base_url: str | None = option(None, needs=OVER_HTTP)
    """The server, as in http://localhost:8000/v1; one without a path gets /v1."""
    api_key_env: str = option("OPENAI_API_KEY", needs=OVER_HTTP)
    """Environment variable with the server's key, if it wants one. The key is written nowhere."""
    concurrency: int = option(16, least=1, most=1024, needs=OVER_HTTP)
    """Requests under way at once."""
    max_retries: int = option(8, least=0, needs=OVER_HTTP)
    """How often to ask again when the server is busy, broken or gone, waiting longer each time."""
    timeout: float = option(300.0, over=0, needs=OVER_HTTP)
    """Seconds to wait for an answer."""
    temperature: float = option(0.0, least=0, most=2, needs=OVER_HTTP)
    """Randomness of the answers; 0: the likeliest words."""
    max_new_tokens: int = option(1024, least=16, needs=ASKS)
    """Longest answer, in the model's tokens."""


@panel("Questions")
@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked about a passage."""

    questions_per_passage: int = option(3, least=1, most=50)
    """Questions to make of a passage at most; the gates leave fewer."""
    kinds: Annotated[list[Kind] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=ASKS
    )
    """Kinds of question, by default fact, why, how and compare. multi-passage: one more request
    for each passage and the next of its document."""


@panel("Gates")
@dataclass(frozen=True, kw_only=True)
class RoundTrip:
    """Whether a question finds its passage."""

    round_trip_k: int = option(20, least=0)
    """A question must find its own passage among the best k of BM25, or of the retriever; 0 lets
    every question pass."""
    retriever_name_or_path: str | None = option(None, needs={"round_trip_k": None})
    """Embedding model that searches beside BM25: a folder, or a name on the hub."""


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class OwnModels:
    """Where and in which precision to compute."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option("auto", needs=LOADS)
    """auto: bf16 where the GPU or CPU has it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", needs=LOADS)
    """auto: the accelerator if there is one."""


@panel("Run")
@dataclass(frozen=True, kw_only=True)
class Tables:
    """Where the questions go, and in which form."""

    output_dir: str = "qa-gen"
    """Folder for the tables, the rejections, the settings and the journal of a model's answers. A
    run that was killed goes on there, and asks nothing twice."""
    overwrite_output_dir: bool = option(False, kept=False)
    """Replace the tables that are there; the journal stays."""
    as_csv: Annotated[bool, Parameter(negative=())] = False
    """Write csv; so it is if no form is named. More than one may be."""
    as_jsonl: Annotated[bool, Parameter(negative=())] = False
    """Write jsonl."""
    as_dataset: Annotated[bool, Parameter(negative=())] = False
    """Write folders of the `datasets` library."""
    test_share: float = option(0.1, over=0, most=0.9)
    """Share of the documents whose questions go to the test table."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the split, and of a server's sampling."""
    dry_run: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """Print requests, tokens and an estimate of the time; ask nothing, write nothing."""
    limit: int | None = option(None, least=1, kept=False)
    """Try this many passages, spread over the table, and show what comes out; no table is
    written."""


@dataclass(frozen=True, kw_only=True)
class QaGen(PassageColumns, Backend, Questions, RoundTrip, OwnModels, Tables):
    """Options of `dalm qa-gen`."""
