"""Panels that training and evaluation share: columns, lengths, retriever, machine."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class PairColumns:
    """Names of the columns of a table of questions and passages."""

    passage_column: Annotated[str, Parameter(alias="--dataset-passage-col-name")] = "Passage"
    """Column with the passage, in JSON a path (`body.text`); `Abstract`, `Context`, `text`, `body`
    and `content` are recognised when it is missing."""
    query_column: Annotated[str, Parameter(alias="--dataset-query-col-name")] = "Query"
    """Column with the question; `Question` is recognised when it is missing."""
    title_column: str = "Title"
    """Column with the document's title; used if it is there."""
    prepend_title: bool = False
    """Put the title before the passage's text, for the retriever and the generator alike."""
    encoding: str | None = None
    """Encoding of csv, tsv and JSON files; by default UTF-8, or UTF-16 by byte order mark."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class NegativesColumn:
    """Name of the column of hard negatives, in a table to train on."""

    negatives_column: str = option("Negatives", needs={"candidates": ("in-batch",)})
    """Column with lists of passages that don't answer the question, as `dalm mine-negatives`
    writes it; used if it is there, and numbered ones (`Negative 1`, `negative_1` ...) likewise.
    An empty name: train without."""


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

    query_max_len: int = option(50, least=4)
    """Longest query, in the retriever's tokens."""
    passage_max_len: int = option(128, least=4)
    """Longest passage, in the retriever's tokens."""


@panel("Lengths")
@dataclass(frozen=True, kw_only=True)
class GeneratorLength:
    """How long a prompt may be."""

    generator_max_len: int = option(256, least=16)
    """Longest prompt with its answer, in the generator's tokens; a passage is cut, nothing else."""


@panel("Prompt")
@dataclass(frozen=True, kw_only=True)
class Prompt:
    """Which prompt the generator reads."""

    prompt: str | None = option(None, needs={"evaluate_generator": None})
    """YAML file with the texts of the prompt (see docs/prompts.md); by default the generator's own,
    which it was trained with."""


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


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and in which precision to compute."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 where the GPU or CPU has it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: the accelerator if there is one. Several GPUs: start with torchrun."""


@panel("Cache")
@dataclass(frozen=True, kw_only=True)
class VectorCache:
    """Where passages' vectors are kept, so that an encoder meets each passage once."""

    cache_dir: str | None = option(None, needs={"cache": None})
    """Folder for vectors, by a hash of the encoder's weights; by default in the user's cache."""
    cache: bool = True
    """--no-cache: encode all passages, keep nothing."""
