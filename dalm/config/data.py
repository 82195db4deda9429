"""Define the options of the commands that make training data: passages to hard negatives."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.cluster import RayCluster
from dalm.config.options import option, panel
from dalm.config.shared import (
    EncoderBackend,
    Html,
    Machine,
    PairColumns,
    RetrieverKind,
    RetrieverLengths,
    VectorCache,
)


@panel("Passages")
@dataclass(frozen=True, kw_only=True)
class PassageLengths:
    """Length of passages and removal of duplicates."""

    max_words: int = option(100, least=8)
    """Maximum passage length in words; each CJK character counts as one word, and four Thai,
    Lao, Khmer or Burmese letters do. --max-tokens overrides it."""
    max_tokens: int | None = option(None, least=32, needs={"tokenizer": None})
    """Maximum passage length in tokens of --tokenizer, special tokens included."""
    tokenizer: str | None = option(None, needs={"max_tokens": None})
    """Tokenizer, a folder or hub name: usually that of the retriever to be trained."""
    overlap: int = option(0, least=0)
    """Overlap of consecutive passages in words (or tokens), in whole sentences."""
    min_words: int = option(5, least=1)
    """Minimum length of a document and a section in words; a shorter section is merged with its
    neighbour."""
    trust_remote_code: Annotated[bool, Parameter(negative=())] = option(
        False, needs={"tokenizer": None}
    )
    """Run the Python code that the tokenizer brings with it; read it first."""
    near_duplicates: float = option(0.8, least=0.5, most=1)
    """Drop a passage whose word-trigram Jaccard similarity to an earlier one reaches this value, if
    both have the same numbers, codes and names; 1: drop exact duplicates only."""
    keep_contained: Annotated[bool, Parameter(negative=())] = False
    """Keep passages that stand in another document with mostly the same content (the same manual
    as PDF and as HTML). By default they are dropped from the document with fewer headings."""


@panel("Documents")
@dataclass(frozen=True, kw_only=True)
class DocumentReading:
    """Document loading."""

    text_column: str | None = None
    """Column with the text; in JSON a path (`data.body`). By default passage, text, body ... For
    one table `FILE=NAME`, several separated by commas: `Body,notes.csv=Text`."""
    title_column: str | None = None
    """Column with the title; by default title, if it exists. For one table `FILE=NAME`."""
    encoding: str = "utf-8"
    """Encoding of files that don't declare their own; auto: guessed for each file, and logged."""
    html: Html = "main"
    max_megabytes: int = option(64, least=1)
    """Maximum size of a file, of its unpacked text, and of a table row; larger ones are skipped."""
    processes: int = option(1, least=1)
    """Number of worker processes."""
    strict: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """End with exit code 2 if a file, a row or a part of a document could not be read; what could
    be read is written all the same."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class PassageOutput:
    """Output file."""

    output: str
    """File to write (.jsonl); new passages are appended to an existing one."""
    overwrite_output: bool = option(False, kept=False)
    """Write the file from scratch instead of appending."""


@dataclass(frozen=True, kw_only=True)
class Passages(PassageLengths, DocumentReading, RayCluster, PassageOutput):
    """Options of `dalm passages`."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class PassageColumns:
    """Column names of a table of passages."""

    passage_column: Annotated[
        str, Parameter(alias=("--passage-column-name", "--dataset-passage-col-name"))
    ] = "Passage"
    """Column with the passage, in JSON a path (`body.text`); `Abstract`, `Context`, `text`, `body`
    and `content` are tried if it is missing."""
    title_column: Annotated[str, Parameter(alias="--title-column-name")] = "Title"
    """Column with the document's title; without it each passage counts as a document."""
    encoding: str | None = None
    """Encoding of csv, tsv and JSON files. Default: UTF-8, or UTF-16 by byte order mark."""

    def as_pair_columns(self) -> PairColumns:
        """Return the names in the form that the reader of passages takes."""
        return PairColumns(
            passage_column=self.passage_column,
            title_column=self.title_column,
            encoding=self.encoding,
        )


# Reading comprehension


@panel("Exercises")
@dataclass(frozen=True, kw_only=True)
class Exercises:
    """Source and number of exercises."""

    patterns: bool = True
    """Mine exercises from the passage's sentences with rules; they are English, and of other texts
    only titles, completions and domain words are asked."""
    questions: str | None = None
    """Table of questions and answers on these passages, from `dalm qa-gen` with any backend."""
    general_vocabulary: str | None = option(None, needs={"patterns": None})
    """File of general words, or a tokenizer; words missing from it count as domain words."""
    trust_remote_code: Annotated[bool, Parameter(negative=())] = option(
        False, needs={"general_vocabulary": None}
    )
    """Run the Python code that the tokenizer brings with it; read it first."""
    exercises_per_passage: int = option(4, least=1)
    """Maximum number of exercises per passage."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the choice and the wording of exercises."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class TextOutput:
    """Output file."""

    output: str
    """File to write: .jsonl, .csv, .tsv or .parquet."""
    overwrite_output: bool = option(False, kept=False)
    """Replace an existing file."""


@dataclass(frozen=True, kw_only=True)
class ReadingComprehension(PassageColumns, Exercises, TextOutput):
    """Options of `dalm reading-comprehension`."""


# Hard negatives


@panel("Mining")
@dataclass(frozen=True, kw_only=True)
class Mining:
    """Search and selection of hard negatives."""

    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")]
    """Embedding model: a folder (full model or LoRA adapters) or a Hugging Face hub name."""
    output: str
    """File for the table with negatives; format by extension: .csv, .tsv, .jsonl or .parquet."""
    overwrite_output: bool = False
    """Replace an existing file."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters for the retriever."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """Tables of further passages to search (a knowledge base), in addition to the dataset's own."""
    bm25: bool = False
    """Also search with BM25; negatives are taken from both rankings in turn."""
    num_negatives: int = option(4, least=1)
    """Maximum number of negatives per question."""
    first_rank: int = option(1, least=1)
    """First rank to consider, gold passages not counted."""
    last_rank: int = option(100, least=1)
    """Last rank to consider."""
    max_share: float | Literal["off"] = option(0.95, over=0, most=1)
    """Skip passages that score above this fraction of the gold passage's score: they are likely
    false negatives. off: keep them."""
    margin: float | None = option(None, least=0)
    """Also skip passages that score above the gold passage's score minus this margin."""
    skip_same_document: bool = True
    """Skip passages of the gold passage's document: those with its id, or, where one has none, its
    title."""
    sampling: Literal["best", "random"] = "best"
    """best: the highest-ranked remaining passages. random: a random sample of them."""
    seed: int = option(42, least=0, most=2**32 - 1, needs={"sampling": ("random",)})
    """Seed of the random sample."""


@dataclass(frozen=True, kw_only=True)
class MineNegatives(
    PairColumns, RetrieverLengths, RetrieverKind, EncoderBackend, Machine, VectorCache, Mining
):
    """Options of `dalm mine-negatives`."""
