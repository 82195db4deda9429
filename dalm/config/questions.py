"""Define the options of `dalm qa-gen`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from dalm.config.cluster import ModelActors
from dalm.config.data import PassageColumns
from dalm.config.options import option, panel
from dalm.config.query_types import (
    ANSWER_TYPES,
    DEFAULT_ANSWERS,
    QUERY_TYPES,
    default_shares,
    listing,
)

Kind = Literal["fact", "why", "how", "compare"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ASKS = {"backend": ("http", "transformers", "vllm")}
"""Backends that use a language model."""
OVER_HTTP = {"backend": ("http",)}
SAMPLES = {"backend": ("http", "vllm")}
LOADS = {"backend": ("transformers",), "retriever_name_or_path": None}
"""Options with which a model is loaded locally."""


@panel("Backend")
@dataclass(frozen=True, kw_only=True)
class Backend:
    """Backend that generates the questions."""

    backend: Literal["http", "transformers", "vllm", "extractive"] = "extractive"
    """http: a model on an OpenAI-compatible server (vLLM, Ollama, llama.cpp, TGI ...).
    transformers: a local instruct model, with --ray in many copies. vllm: vLLM on the GPUs of the
    cluster of --ray; --dry-run shows its configuration. extractive: a start without a model: rules
    copy questions and keywords from the text, so that they hold the passage's own words."""
    generator_name_or_path: Annotated[str | None, Parameter(alias="--model")] = option(
        None, needs=ASKS
    )
    """Name of the model on the server; for transformers and vllm a folder or a Hugging Face hub
    name."""
    base_url: str | None = option(None, needs=OVER_HTTP)
    """Base URL of the server, such as http://localhost:8000/v1; without a path /v1 is added."""
    api_key_env: str = option("OPENAI_API_KEY", needs=OVER_HTTP)
    """Environment variable with the API key, if one is needed. The key is never written to disk."""
    concurrency: int = option(16, least=1, most=1024, needs=OVER_HTTP)
    """Number of concurrent requests."""
    max_retries: int = option(8, least=0, needs=OVER_HTTP)
    """Retries when the server is busy, fails or can't be reached, with exponential backoff."""
    timeout: float = option(300.0, over=0, needs=OVER_HTTP)
    """Request timeout in seconds."""
    temperature: float = option(0.0, least=0, most=2, needs=SAMPLES)
    """Sampling temperature; 0: greedy decoding."""
    max_new_tokens: int = option(1024, least=16, needs=ASKS)
    """Maximum reply length in tokens."""
    reply_format: Literal["json", "lines"] = option("json", needs=ASKS)
    """json: one request for all queries about a passage. lines: one for each query, in two lines,
    with a worked example: for models too small for JSON, under about one billion parameters."""


def _spelled(shares: Mapping[str, float]) -> str:
    return " ".join(f"{name}={share:g}" for name, share in shares.items())


_QUERY_TYPES_HELP = (
    "Types of query and their shares, such as `question=0.7 keywords=0.3`. By default "
    f"{_spelled(default_shares(rules=False))}; with --backend extractive, which can make no "
    f"others, {_spelled(default_shares(rules=True))}. {listing(QUERY_TYPES)}. multi-passage takes "
    "one more request for a passage and the next one of its document."
)
_ANSWER_TYPES_HELP = (
    f"Types of answer and their shares. By default {_spelled(DEFAULT_ANSWERS)}. "
    f"{listing(ANSWER_TYPES)}. Queries that are unanswerable go to the test table, marked in its "
    "column Answerable."
)


@panel("Questions")
@dataclass(frozen=True, kw_only=True)
class Questions:
    """Number and types of queries and answers."""

    questions_per_passage: int = option(3, least=1, most=50)
    """Maximum number of queries per passage; the filters leave fewer."""
    query_types: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative=(), help=_QUERY_TYPES_HELP),
    ] = None
    answer_types: Annotated[
        list[str] | None,
        Parameter(consume_multiple=True, negative=(), help=_ANSWER_TYPES_HELP),
    ] = option(None, needs=ASKS)
    kinds: Annotated[list[Kind] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=ASKS
    )
    """Kinds of whole questions, in equal shares; by default fact, why, how and compare."""


@panel("Filters")
@dataclass(frozen=True, kw_only=True)
class QueryFilters:
    """Filters: a query has to retrieve its passage, in words of its own, and pass a judge."""

    round_trip_k: int = option(20, least=0)
    """Keep a question if BM25 or the retriever ranks its passage in the top k; 0: keep all."""
    retriever_name_or_path: str | None = option(None, needs={"round_trip_k": None})
    """Embedding model to search with, besides BM25: a folder or a Hugging Face hub name."""
    max_overlap: float = option(0.8, over=0, most=1, needs=ASKS)
    """Reject a query that takes more than this fraction of its words from its quote; names, numbers
    and short forms aren't counted. 1: keep all."""
    judge: Annotated[bool, Parameter(negative=())] = option(False, needs=ASKS)
    """Let a model judge each query that passed the other filters: is it answerable from the passage
    alone, specific, natural? Also judges 100 rejected ones, and prints how far both agree."""
    judge_model: str | None = option(None, needs={"judge": None})
    """Model that judges: a name on the server, or for transformers a folder or hub name. Default:
    the model that generates."""


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class OwnModels:
    """Device and precision of local models."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option("auto", needs=LOADS)
    """auto: bf16 if the GPU or CPU supports it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", needs=LOADS)
    """auto: the accelerator if there is one."""
    trust_remote_code: Annotated[bool, Parameter(negative=())] = option(False, needs=LOADS)
    """Run the Python code that a local model brings with it; read it first."""


@panel("Run")
@dataclass(frozen=True, kw_only=True)
class Tables:
    """Output tables, split and dry run."""

    output_dir: str = "qa-gen"
    """Folder for the tables, the rejected questions, the settings and the cache of the model's
    replies. An interrupted run resumes there and asks only for what is missing."""
    overwrite_output_dir: bool = option(False, kept=False)
    """Replace existing tables; cached replies are kept."""
    as_csv: Annotated[bool, Parameter(negative=())] = False
    """Write csv (the default format). Formats can be combined."""
    as_jsonl: Annotated[bool, Parameter(negative=())] = False
    """Write jsonl."""
    as_dataset: Annotated[bool, Parameter(negative=())] = False
    """Write Hugging Face `datasets` folders."""
    test_share: float = option(0.1, least=0, most=0.9)
    """Fraction of documents, and of queries, that go to the test table; 0: all are to train on."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the split and of the server's sampling."""
    dry_run: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """Print the number of requests and tokens and a time estimate; send and write nothing."""
    limit: int | None = option(None, least=1, kept=False)
    """Try this many passages, spread over the table, and print the questions; write no table."""


@dataclass(frozen=True, kw_only=True)
class QaGen(PassageColumns, Backend, Questions, QueryFilters, OwnModels, ModelActors, Tables):
    """Options of `dalm qa-gen`."""
