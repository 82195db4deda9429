"""Define the options of `dalm eval-retriever`, `dalm eval-rag` and `dalm compare`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.shared import (
    Columns,
    Machine,
    Prompt,
    Reranking,
    RetrieverKind,
    RetrieverLengths,
    VectorCache,
)

Several = Parameter(consume_multiple=True, negative=())


def is_url(name: str | None) -> bool:
    """Return whether a model's name is a URL."""
    return name is not None and name.lower().startswith(("http://", "https://"))


class Url(tuple[str, ...]):
    """The values of an option that are URLs, for the `needs` of other options."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and is_url(value)


SERVED = {"judge": Url(("http://...",))}
"""Options that only a judge on a server needs."""


@panel("Evaluation")
@dataclass(frozen=True, kw_only=True)
class RetrieverEvaluation:
    """Retriever, knowledge base, metrics and baseline."""

    retriever_name_or_path: Annotated[str | None, Parameter(alias="--model-name-or-path")] = None
    """Embedding model: a folder (full model or LoRA adapters) or a Hugging Face hub name."""
    search_index: str | None = None
    """Index, as `dalm index` writes it, to search in place of a retriever: evaluates what `dalm
    search` and `dalm ask` find, with its fusion and its threshold."""
    search: Literal["hybrid", "dense", "text"] = option("hybrid", needs={"search_index": None})
    """How the index is searched, as in `dalm search`."""
    retriever_peft_model_path: str | None = None
    """Folder with LoRA adapters for the retriever."""
    passages: Annotated[list[str] | None, Several] = None
    """Tables of further passages to search (a knowledge base), in addition to the dataset's own."""
    top_k: int = option(10, least=1)
    """Number of passages to retrieve per question."""
    measures: Annotated[list[str] | None, Several] = None
    """Retrieval metrics, such as `nDCG@10 R@5 RR@10 Success@1 P@1 AP`, the main one first. By
    default nDCG, RR, P and Success at 10 (or --top-k, if lower), and R at 1, 5, 10 ... --top-k."""
    baseline: str | None = None
    """Embedding model to compare with, such as the one before training."""


@panel("Results")
@dataclass(frozen=True, kw_only=True)
class ResultsFiles:
    """Output of the evaluation."""

    output_dir: str | None = None
    """Folder for metrics, hits and answers; by default the next free `evaluation-N`."""
    overwrite_output_dir: bool = False
    """Replace existing results."""
    report: str | None = None
    """HTML report to write: one self-contained page with metrics, curves and every query."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the resampling and of random passages."""


@panel("Quality gates")
@dataclass(frozen=True, kw_only=True)
class Gates:
    """Conditions under which an evaluation fails with exit code 1, for CI."""

    fail_below: Annotated[list[str] | None, Several] = None
    """Minimum value per metric, such as `R@10=0.8 EM=0.4` (for NLL the maximum)."""
    fail_on_regression: bool = option(False, needs={"baseline": None, "baseline_generator": None})
    """Fail if a metric is significantly worse than the baseline's, or if the guard fails."""
    guard: str | None = option(None, needs={"baseline": None, "baseline_generator": None})
    """A second, general dataset that shows what training cost elsewhere; same column names."""
    guard_margin: float = option(0.02, least=0, most=1, needs={"guard": None})
    """Largest allowed drop of the first metric, and of the answers' F1, on the guard dataset."""


@dataclass(frozen=True, kw_only=True)
class EvalRetriever(
    Columns,
    RetrieverLengths,
    RetrieverKind,
    Machine,
    VectorCache,
    RetrieverEvaluation,
    Reranking,
    ResultsFiles,
    Gates,
):
    """Options of `dalm eval-retriever`."""


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class AnswerableColumn:
    """Column that marks unanswerable questions."""

    answerable_column: str = "Answerable"
    """Column with true or false: can the passages answer the question? Used if it exists."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class Answering:
    """Generator and how it answers, in evaluation and in use."""

    generator_name_or_path: str | None = None
    """Causal language model: a folder (full model or LoRA adapters) or a Hugging Face hub name."""
    generator_peft_model_path: str | None = None
    """Folder with LoRA adapters for the generator."""
    reader_passages: int | None = option(None, least=1, needs={"evaluate_generator": None})
    """Number of top passages in a prompt; by default as in training, else 1 in
    evaluation and 4 in ask and serve."""
    citations: bool = option(False, needs={"evaluate_generator": None})
    """Number the passages, and ask for citations such as [1]. The prompts then differ from those of
    training."""
    answer_anyway: Annotated[bool, Parameter(negative=())] = option(
        False, needs={"search_index": None}
    )
    """Answer even if all passages found are below the threshold of a calibrated index."""
    max_new_tokens: int = option(64, least=1, needs={"evaluate_generator": None})
    """Maximum answer length in generator tokens."""
    generator_max_len: int | None = option(None, least=16, needs={"evaluate_generator": None})
    """Maximum length of prompt plus answer in tokens; by default as in training, else 128
    and 256 for each passage of a prompt in evaluation, and 4096 or what the generator takes in ask
    and serve."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class GeneratorEvaluation:
    """How a generator's answers are evaluated."""

    evaluate_generator: bool = False
    """Generate answers from the retrieved passages and score them against the dataset's answers."""
    bounds: bool = option(True, needs={"evaluate_generator": None})
    """Also answer from the gold passage, a random passage and no passage: bounds of what retrieval
    can contribute."""
    baseline_generator: str | None = option(None, needs={"evaluate_generator": None})
    """Generator to compare with; by default the same one, with the baseline retriever."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class ServedGeneratorOptions:
    """Generator on a server instead of a local one."""

    generator_url: str | None = option(None, needs={"evaluate_generator": None})
    """OpenAI-compatible server that answers instead of --generator-name-or-path, such as
    http://localhost:8000/v1. NLL is not computed: a server returns no log-probabilities of it."""
    generator_model: Annotated[str | None, Parameter(alias="--model")] = option(
        None, needs={"generator_url": None}
    )
    """Name of the model on the server."""
    generator_api_key_env: str = option("OPENAI_API_KEY", needs={"generator_url": None})
    """Environment variable with the API key, if one is needed. The key is never written to disk."""


@panel("Judge")
@dataclass(frozen=True, kw_only=True)
class Judging:
    """LLM-as-a-judge."""

    judge: str | None = option(None, needs={"evaluate_generator": None})
    """Model that judges the answers from the retrieved passages: an OpenAI-compatible server, such
    as http://localhost:8000/v1, or a local instruct model, a folder or hub name. It judges
    faithfulness to the passages, correctness against the reference and, with a baseline,
    preference. Everything is asked twice, in both orders."""
    judge_model: str | None = option(None, needs=SERVED)
    """Name of the model on the server."""
    judge_api_key_env: str = option("OPENAI_API_KEY", needs=SERVED)
    """Environment variable with the API key, if one is needed. The key is never written to disk."""
    judge_concurrency: int = option(16, least=1, most=1024, needs=SERVED)
    """Number of concurrent requests."""
    judge_max_retries: int = option(8, least=0, needs=SERVED)
    """Retries when the server is busy, fails or can't be reached, with exponential backoff."""
    judge_timeout: float = option(300.0, over=0, needs=SERVED)
    """Request timeout in seconds."""
    judge_max_new_tokens: int = option(1024, least=16, needs={"judge": None})
    """Maximum reply length in tokens of the judge."""
    judge_journal: str | None = option(None, needs={"judge": None})
    """Cache file of the judge's replies, so that none is asked for again. Default: `judge.jsonl` in
    --output-dir, or `evaluation-judge.jsonl` beside the numbered folders. Runs may share one."""


@dataclass(frozen=True, kw_only=True)
class EvalRag(
    EvalRetriever,
    AnswerableColumn,
    Answering,
    GeneratorEvaluation,
    ServedGeneratorOptions,
    Prompt,
    Judging,
):
    """Options of `dalm eval-rag`."""


@panel("Results")
@dataclass(frozen=True, kw_only=True)
class CompareRuns:
    """Options of `dalm compare`."""

    qrels: str | None = None
    """TREC qrels file, for runs that are TREC files."""
    measures: Annotated[list[str] | None, Several] = None
    """Retrieval metrics for TREC files; by default nDCG@10, RR@10 and R at 1, 5, 10, 100."""
    report: str | None = None
    """HTML report to write: one self-contained page with metrics, curves and every query."""
    overwrite_report: bool = option(False, needs={"report": None})
    """Replace an existing report."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the resampling."""
    fail_below: Annotated[list[str] | None, Several] = None
    """Minimum value per metric for the last run, such as `R@10=0.8 EM=0.4`."""
    fail_on_regression: bool = False
    """Fail if a run is significantly worse than the first."""
