"""Options of `dalm passages`."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from cyclopts import Parameter

from dalm.config.evaluation import TunedRetrieverLengths
from dalm.config.options import option, panel
from dalm.config.shared import Machine, PairColumns, RetrieverKind, VectorCache


@panel("Passages")
@dataclass(frozen=True, kw_only=True)
class PassageLengths:
    """How long a passage is."""

    max_words: int = option(100, least=8)
    """Longest passage in words; a Chinese or Japanese sign is a word. --max-tokens goes before."""
    max_tokens: int | None = option(None, least=32, needs={"tokenizer": None})
    """Longest passage in the tokens of --tokenizer, the special ones it adds among them."""
    tokenizer: str | None = option(None, needs={"max_tokens": None})
    """Tokenizer by folder or hub name, such as that of the retriever to be trained."""
    overlap: int = option(0, least=0)
    """Words (or tokens) of a passage's end that the next one may repeat, in whole sentences."""
    min_words: int = option(5, least=1)
    """Shortest document and section; a shorter section goes along with its neighbour."""
    near_duplicates: float = option(0.8, least=0.5, most=1)
    """Jaccard similarity of word triples from which a passage is left out; 1: none is."""


@panel("Documents")
@dataclass(frozen=True, kw_only=True)
class DocumentReading:
    """How documents are read."""

    text_column: str | None = None
    """Column with the text, in JSON a path (`data.body`); by default passage, text, body, ..."""
    title_column: str | None = None
    """Column with the title; by default title, if it is there."""
    encoding: str = "utf-8"
    """Encoding of texts that don't name their own."""
    max_megabytes: int = option(64, least=1)
    """Largest file, text unpacked from one, or row of a table; larger ones are left unread."""
    processes: int = option(1, least=1)
    """Processes that read and cut."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class PassageOutput:
    """Where the passages go."""

    output: str
    """File to write, .jsonl; one that is there grows by what is new."""
    overwrite_output: bool = option(False, kept=False)
    """Make the file anew instead."""


@dataclass(frozen=True, kw_only=True)
class Passages(PassageLengths, DocumentReading, PassageOutput):
    """Options of `dalm passages`."""


# FOLDED qa_gen.py: Options of the command that makes questions and answers.

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
    """Column with the passage, in JSON a path (`body.text`); `Abstract`, `Context`, `text`, `body`
    and `content` are recognised when it is missing."""
    title_column: Annotated[str, Parameter(alias="--title-column-name")] = "Title"
    """Column with the document's title; without it each passage is a document."""
    encoding: str | None = None
    """Encoding of csv, tsv and JSON files; by default UTF-8, or UTF-16 by byte order mark."""


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


# FOLDED reading_comprehension.py: Options of `dalm reading-comprehension`.


@panel("Exercises")
@dataclass(frozen=True, kw_only=True)
class Exercises:
    """What is asked about a passage."""

    patterns: bool = True
    """Mine exercises from a passage's sentences by patterns: for English texts."""
    questions: str | None = None
    """Table of questions and answers that `dalm qa-gen` made of the passages, by any backend."""
    general_vocabulary: str | None = option(None, needs={"patterns": None})
    """File of general words, or a tokenizer; words that it lacks are the domain's own."""
    exercises_per_passage: int = option(4, least=1)
    """Exercises in a text, at most."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the choice of exercises and of their wording."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class TextOutput:
    """Where the texts go."""

    output: str
    """File to write: .jsonl, .csv, .tsv or .parquet."""
    overwrite_output: bool = option(False, kept=False)
    """Replace the file if it is there."""


@dataclass(frozen=True, kw_only=True)
class ReadingComprehension(PassageColumns, Exercises, TextOutput):
    """Options of `dalm reading-comprehension`."""


# FOLDED mining.py: Options of the mining of hard negatives.


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
