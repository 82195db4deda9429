"""Options of the evaluation commands."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.shared import Columns, Machine, Prompt, RetrieverKind, VectorCache

Several = Parameter(consume_multiple=True, negative=())


def is_url(name: str | None) -> bool:
    """Return whether a model's name is the address of its server."""
    return name is not None and name.lower().startswith(("http://", "https://"))


class Url(tuple[str, ...]):
    """The values of an option that are addresses, for what an option needs."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and is_url(value)


SERVED = {"judge": Url(("http://...",))}
"""What only a judge on a server needs."""


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
    """What is evaluated, and against what."""

    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")]
    """Embedding model: a folder, also one with adapters, or a name on the Hugging Face hub."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters to put on the retriever."""
    passages: Annotated[list[str] | None, Several] = None
    """More tables of passages to search besides the dataset's own: a whole knowledge base."""
    top_k: int = option(10, least=1)
    """Passages to find for each question."""
    measures: Annotated[list[str] | None, Several] = None
    """Retrieval measures, as in `nDCG@10 R@5 RR@10 Success@1 P@1 AP`, the one to go by first; by
    default nDCG, RR, P and Success at the deepest of 10, R at 1, 5, 10 ... up to --top-k."""
    index: Literal["exact", "hnsw"] = "exact"
    """exact: every passage is compared. hnsw: a graph, approximate, for many millions."""
    baseline: str | None = None
    """Embedding model to compare with, such as the untuned one."""


@panel("Results")
@dataclass(frozen=True, kw_only=True)
class ResultsFiles:
    """Where the results go."""

    output_dir: str | None = None
    """Folder for the run: figures, hits and answers; by default the next free `evaluation-N`."""
    overwrite_output_dir: bool = False
    """Replace the results that are there."""
    report: str | None = None
    """HTML file to write: one page with figures, curves and every query; opens from disk."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the intervals' resampling, and of random passages."""


@panel("What has to hold")
@dataclass(frozen=True, kw_only=True)
class Gates:
    """When an evaluation fails, with exit code 1: for CI."""

    fail_below: Annotated[list[str] | None, Several] = None
    """Measures with the least that they may be, as in `R@10=0.8 EM=0.4`."""
    fail_on_regression: bool = option(False, needs={"baseline": None, "baseline_generator": None})
    """Fail if a measure fell below the baseline's by more than chance may do, or the guard did."""
    guard: str | None = option(None, needs={"baseline": None, "baseline_generator": None})
    """A second, general dataset: what did it get worse at? Takes the same column names."""
    guard_margin: float = option(0.02, least=0, most=1, needs={"guard": None})
    """How far the first measure, and F1 of the answers, may fall there."""


@dataclass(frozen=True, kw_only=True)
class EvalRetriever(
    Columns,
    TunedRetrieverLengths,
    RetrieverKind,
    Machine,
    VectorCache,
    RetrieverEvaluation,
    ResultsFiles,
    Gates,
):
    """Options of `dalm eval-retriever`."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class AnswerableColumn:
    """Name of the column that marks questions without an answer."""

    answerable_column: str = "Answerable"
    """Column that says true or false: can it be answered from the passages? Used if it is there."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class GeneratorEvaluation:
    """Which generator, and how it answers."""

    generator_name_or_path: str | None = None
    """Causal language model: a folder, also one with adapters, or a name on the hub."""
    generator_peft_model_path: str | None = None
    """Folder with LoRA adapters to put on the generator."""
    evaluate_generator: bool = False
    """Let the generator answer from the passages found, and compare with the table's answers."""
    bounds: bool = option(True, needs={"evaluate_generator": None})
    """Answer from the gold passage, a random one and none too: what retrieval can be worth."""
    baseline_generator: str | None = option(None, needs={"evaluate_generator": None})
    """Generator to compare with; by default the same one, behind the baseline's retriever."""
    reader_passages: int | None = option(None, least=1, needs={"evaluate_generator": None})
    """Best passages in a prompt; by default as it was trained, else 1."""
    citations: bool = option(False, needs={"evaluate_generator": None})
    """Number the passages, ask for citations such as [1], and measure them. The prompts are then
    not those of the training."""
    max_new_tokens: int = option(64, least=1, needs={"evaluate_generator": None})
    """Longest answer, in the generator's tokens."""
    generator_max_len: int | None = option(None, least=16, needs={"evaluate_generator": None})
    """Longest prompt with its answer; by default as it was trained, else 256."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class ServedGeneratorOptions:
    """A generator on a server in place of a local one."""

    generator_url: str | None = option(None, needs={"evaluate_generator": None})
    """An OpenAI-compatible server whose model answers, as in http://localhost:8000/v1, in place of
    --generator-name-or-path. NLL isn't measured: a server gives no log-probabilities of it."""
    generator_model: str | None = option(None, needs={"generator_url": None})
    """The server's name for its model."""
    generator_api_key_env: str = option("OPENAI_API_KEY", needs={"generator_url": None})
    """Environment variable with the server's key, if it wants one. The key is written nowhere."""


@panel("Judge")
@dataclass(frozen=True, kw_only=True)
class Judging:
    """Who gives an opinion on the answers, beside the measures."""

    judge: str | None = option(None, needs={"evaluate_generator": None})
    """An OpenAI-compatible server whose model judges the answers from the passages found, as in
    http://localhost:8000/v1: are they supported by the passages, and do they mean the same as a
    reference? With a baseline also: whose answer is better? Everything is asked in two orders.
    What doesn't begin with http:// or https:// is an instruct model on this machine: a folder, or
    a name on the hub."""
    judge_model: str | None = option(None, needs=SERVED)
    """The server's name for its model."""
    judge_api_key_env: str = option("OPENAI_API_KEY", needs=SERVED)
    """Environment variable with the server's key, if it wants one. The key is written nowhere."""
    judge_concurrency: int = option(16, least=1, most=1024, needs=SERVED)
    """Requests under way at once."""
    judge_max_retries: int = option(8, least=0, needs=SERVED)
    """How often to ask again when the server is busy, broken or gone, waiting longer each time."""
    judge_timeout: float = option(300.0, over=0, needs=SERVED)
    """Seconds to wait for a verdict."""
    judge_max_new_tokens: int = option(1024, least=16, needs={"judge": None})
    """Longest reply, in the judge's tokens."""
    judge_journal: str | None = option(None, needs={"judge": None})
    """File that keeps every reply, so that nothing is asked twice; by default `judge.jsonl` in
    --output-dir, or `evaluation-judge.jsonl` beside the numbered folders. Runs may share one."""


@dataclass(frozen=True, kw_only=True)
class EvalRag(
    EvalRetriever, AnswerableColumn, GeneratorEvaluation, ServedGeneratorOptions, Prompt, Judging
):
    """Options of `dalm eval-rag`."""


@panel("Results")
@dataclass(frozen=True, kw_only=True)
class CompareRuns:
    """Options of `dalm compare`."""

    qrels: str | None = None
    """TREC file of relevance judgements, for runs that are TREC files."""
    measures: Annotated[list[str] | None, Several] = None
    """Retrieval measures to take of TREC files; by default nDCG@10, RR@10, R at 1, 5, 10, 100."""
    report: str | None = None
    """HTML file to write: one page with figures, curves and every query; opens from disk."""
    overwrite_report: bool = option(False, needs={"report": None})
    """Replace the page that is there."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the intervals' resampling."""
    fail_below: Annotated[list[str] | None, Several] = None
    """Measures with the least that the last run may have, as in `R@10=0.8 EM=0.4`."""
    fail_on_regression: bool = False
    """Fail if a run is worse than the first by more than chance may do."""
