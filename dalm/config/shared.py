"""Define the options that several commands share: columns, lengths, retriever, device, cache."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel

HtmlText = Literal["main", "all"]
Html = Annotated[
    HtmlText,
    Parameter(
        help="main: a web page's main text, without menus and banners; found best with trafilatura "
        '(pip install "indomain[html]"). all: all that a page shows.'
    ),
]


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Column names of a table of questions and passages."""

    passage_column: Annotated[str, Parameter(alias="--dataset-passage-col-name")] = "Passage"
    """Column with the passage, in JSON a path (`body.text`); `Abstract`, `Context`, `text`, `body`
    and `content` are tried if it is missing."""
    query_column: Annotated[str, Parameter(alias="--dataset-query-col-name")] = "Query"
    """Column with the question; `Question` is tried if it is missing."""
    title_column: str = "Title"
    """Column with the document's title, if there is one."""
    prepend_title: bool = False
    """Prepend the title to the passage text, for both retriever and generator."""
    encoding: str | None = None
    """Encoding of csv, tsv and JSON files. Default: UTF-8, or UTF-16 by byte order mark."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class NegativesColumn:
    """Column of hard negatives in a training table."""

    negatives_column: str = option("Negatives", needs={"candidates": ("in-batch",)})
    """Column with lists of hard negatives, as `dalm mine-negatives` writes it. It is used if it
    exists, as are numbered columns (`Negative 1`, `negative_1` ...). Empty name: ignore them."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class Columns(PairColumns):
    """Column names of a table of questions, passages and answers."""

    answer_column: Annotated[str, Parameter(alias="--dataset-answer-col-name")] = "Answer"
    """Column with the answer."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class RetrieverLengths:
    """Truncation lengths of the retriever; by default those stored with the model."""

    query_max_len: int | None = option(None, least=4)
    """Maximum query length in retriever tokens; by default as in training, else 50, or what the
    model takes if that is less."""
    passage_max_len: int | None = option(None, least=4)
    """Maximum passage length in retriever tokens; by default as in training, else 256, or what the
    model takes if that is less."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class GeneratorLength:
    """Maximum sequence length of the generator."""

    generator_max_len: int | None = option(None, least=16)
    """Maximum length of prompt plus answer in generator tokens; only passages are truncated. By
    default as in training, else 128 and 256 for each passage of a prompt, or what the model takes
    if that is less."""


@panel("Prompt")
@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Prompt template of the generator."""

    prompt: str | None = option(None, needs={"evaluate_generator": None})
    """YAML file with a prompt template (see docs/prompts.md); by default the generator's own, with
    which it was trained."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class RetrieverKind:
    """Pooling and prompts of the embedding model."""

    retriever_is_autoregressive: Annotated[
        bool | None, Parameter(alias="--is-autoregressive", negative=())
    ] = None
    """Pool the last token and append EOS; detected for a decoder without pooling of its own."""
    query_prompt: str | None = None
    """Prefix of every query; by default the model's own, or that of its model family."""
    passage_prompt: str | None = None
    """Prefix of every passage; by default the model's own, or that of its model family."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class EncoderBackend:
    """What computes vectors."""

    encoder_backend: Literal["torch", "onnx-int8"] | None = None
    """torch (default), or onnx-int8: ONNX Runtime with weights and activations of 8 bits, faster
    on a CPU, with a little less recall. An index keeps it for its questions. Needs the extra
    onnx."""


@panel("Reranker")
@dataclass(frozen=True, kw_only=True)
class Reranking:
    """Reranker of what a search finds."""

    reranker: str | None = None
    """Reranker (cross-encoder) that orders the passages found anew, reading each with the question:
    a folder or a Hugging Face hub name."""
    rerank_top: int = option(50, least=1, most=10_000, needs={"reranker": None})
    """Number of passages that the reranker orders; all that are returned are ordered anyway."""


@panel("Model code")
@dataclass(frozen=True, kw_only=True)
class RemoteCode:
    """Code that models bring with them."""

    trust_remote_code: Annotated[bool, Parameter(negative=())] = False
    """Run the Python code that a model brings with it, of every model named here; read it first."""


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class Machine(RemoteCode):
    """Device and precision."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 if the GPU or CPU supports it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: the accelerator if there is one. For several GPUs, start with torchrun."""


@panel("Cache")
@dataclass(frozen=True, kw_only=True)
class VectorCache:
    """Cache of passage embeddings."""

    cache_dir: str | None = option(None, needs={"cache": None})
    """Folder for embeddings, keyed by a hash of the encoder's weights. Default: the user cache."""
    cache: bool = True
    """--no-cache: encode all passages and cache nothing."""
