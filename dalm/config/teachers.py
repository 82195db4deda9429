"""Define the options of `dalm score-candidates`."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config.cluster import ModelActors
from dalm.config.evaluation import Url
from dalm.config.options import option, panel
from dalm.config.shared import Columns, RetrieverKind, RetrieverLengths

Several = Parameter(consume_multiple=True, negative=())

READS = {"teacher": ("generator",)}
"""Teachers that read with a generator."""
ASKS = {"teacher": ("llm-pointwise", "llm-listwise")}
"""Teachers that ask a language model."""
LOADS = {
    "retriever_name_or_path": None,
    "generator_name_or_path": None,
    "reranker": None,
    "llm": None,
}
"""Options with which a model is loaded locally."""
SEARCHES = {"retriever_name_or_path": None}
ON_A_SERVER = {"llm": Url(("http://...",))}
"""Options that only a language model on a server needs."""


@panel("Candidates")
@dataclass(frozen=True, kw_only=True)
class CandidateOptions:
    """The search for candidate passages."""

    passages: Annotated[list[str], Several]
    """Tables of passages, a knowledge base, in which the candidates are searched."""
    num_candidates: int = option(32, least=2)
    """Number of candidate passages per question: the best of the search."""
    search: Literal["text", "dense", "hybrid"] | None = None
    """text: BM25. dense: by --retriever-name-or-path. hybrid: both, fused as in `dalm search`. By
    default hybrid with a retriever, else text."""
    search_with: Literal["question", "question-and-answer"] = "question-and-answer"
    """What is searched with. With the answer more candidates hold it; a row without an answer is
    searched with its question."""
    retriever_name_or_path: str | None = None
    """Embedding model to search with: a folder (full model or LoRA adapters) or a Hugging Face hub
    name."""
    retriever_peft_model_path: str | None = option(None, needs=SEARCHES)
    """Folder with LoRA adapters for the retriever."""


@panel("Teachers")
@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """What scores the candidates, and which become positives and negatives."""

    teacher: Annotated[list[str], Several]
    """What scores the candidates: answer-match, generator, gold ..., see docs/teachers.md. Of
    several teachers each further one decides among the candidates that those before it leave
    tied."""
    feedback: str | None = option(None, needs={"teacher": ("feedback",)})
    """Table of ratings by people for the teacher feedback, with a row for each: Query, Passage or
    PassageId, and Rating (up or down, -1 to 1, or 0 to 5)."""
    num_negatives: int = option(4, least=0)
    """Maximum number of negatives per question, the highest-ranked by the search that score clearly
    below the positive."""
    negative_margin: float | None = option(None, over=0)
    """How far below the positive a negative must score, in the unit of the last teacher; by default
    the teacher's own margin."""
    check: bool = False
    """Compare the teachers' best candidates with the table's own passages, where it has some. These
    are read for this alone, and by the teacher gold."""


@panel("Generator")
@dataclass(frozen=True, kw_only=True)
class ReadingTeacher:
    """The generator of the teacher that reads."""

    generator_name_or_path: str | None = option(None, needs=READS)
    """Causal language model: a folder (full model or LoRA adapters) or a Hugging Face hub name."""
    generator_peft_model_path: str | None = option(None, needs=READS)
    """Folder with LoRA adapters for the generator."""
    prompt: str | None = option(None, needs=READS)
    """YAML file with a prompt template (see docs/prompts.md); by default the generator's own, with
    which it was trained."""
    generator_max_len: int | None = option(None, least=16, needs=READS)
    """Maximum length of prompt plus answer in generator tokens; only passages are truncated. By
    default as in training, else 384, or what the model takes if that is less."""


@panel("Reranker")
@dataclass(frozen=True, kw_only=True)
class RankingTeacher:
    """The reranker of the teacher that scores by one."""

    reranker: str | None = option(None, needs={"teacher": ("cross-encoder",)})
    """Reranker of the teacher cross-encoder: a folder or a Hugging Face hub name."""


@panel("Language model")
@dataclass(frozen=True, kw_only=True)
class AskedTeacher:
    """The language model of the teachers that ask one."""

    llm: str | None = option(None, needs=ASKS)
    """Model that the teachers llm-pointwise and llm-listwise ask: an OpenAI-compatible server, such
    as http://localhost:8000/v1, or a local instruct model, a folder or hub name."""
    llm_model: str | None = option(None, needs=ON_A_SERVER)
    """Name of the model on the server."""
    llm_api_key_env: str = option("OPENAI_API_KEY", needs=ON_A_SERVER)
    """Environment variable with the API key, if one is needed. The key is never written to disk."""
    llm_concurrency: int = option(16, least=1, most=1024, needs=ON_A_SERVER)
    """Number of concurrent requests."""
    llm_max_retries: int = option(8, least=0, needs=ON_A_SERVER)
    """Retries when the server is busy, fails or can't be reached, with exponential backoff."""
    llm_timeout: float = option(300.0, over=0, needs=ON_A_SERVER)
    """Request timeout in seconds."""
    llm_max_new_tokens: int = option(256, least=8, needs={"llm": None})
    """Maximum reply length in tokens; a model that reasons before it replies needs more."""
    llm_window: int = option(10, least=2, most=100, needs={"teacher": ("llm-listwise",)})
    """Number of passages that llm-listwise orders in one request. The window moves by half of it,
    from the last candidates to the first."""


@panel("Machine")
@dataclass(frozen=True, kw_only=True)
class TeacherMachine:
    """Device and precision of local models, and the cache."""

    precision: Literal["auto", "fp32", "bf16", "fp16"] = option("auto", needs=LOADS)
    """auto: bf16 if the GPU or CPU supports it in hardware, else fp32."""
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", needs=LOADS)
    """auto: the accelerator if there is one."""
    trust_remote_code: Annotated[bool, Parameter(negative=())] = option(False, needs=LOADS)
    """Run the Python code that a local model brings with it; read it first."""
    cache_dir: str | None = option(None, needs={"cache": None})
    """Folder for embeddings and scores, keyed by a hash of the model's weights. Default: the user
    cache."""
    cache: bool = True
    """--no-cache: compute all embeddings and scores, and keep none: a killed run starts again."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class ScoredOutput:
    """Output file."""

    output: str
    """File to write (.jsonl): a line for each question and answer, with its candidates and their
    scores. `dalm train-retriever-only` takes it as its table."""
    overwrite_output: bool = option(False, kept=False)
    """Replace an existing file."""
    dry_run: Annotated[bool, Parameter(negative=())] = option(False, kept=False)
    """Search the candidates, and estimate the time that scoring them takes; write no table."""


@dataclass(frozen=True, kw_only=True)
class ScoreCandidates(
    Columns,
    RetrieverLengths,
    RetrieverKind,
    CandidateOptions,
    TeacherOptions,
    ReadingTeacher,
    RankingTeacher,
    AskedTeacher,
    TeacherMachine,
    ModelActors,
    ScoredOutput,
):
    """Options of `dalm score-candidates`."""
