"""Define the options of `dalm adapt`."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from dalm.config.options import option, panel
from dalm.config.shared import Machine, VectorCache

StageName = Literal[
    "passages",
    "questions",
    "tables",
    "negatives",
    "retriever",
    "generator",
    "evaluate-human",
    "evaluate-feedback",
    "evaluate-generated",
    "evaluate-guard",
    "verdict",
    "index",
]
STAGES: tuple[StageName, ...] = get_args(StageName)
"""The stages in their order; `generator` trains both models with `--recipe joint`."""
Recipe = Literal["independent", "joint"]
ASKS = {"backend": ("http", "transformers")}
TABLE = {"questions": None}
StageOptions = Annotated[
    str | dict[str, Any] | None,
    Parameter(
        accepts_keys=False, n_tokens=1, converter=lambda _type, tokens: tokens[0].value, negative=()
    ),
]


@panel("System")
@dataclass(frozen=True, kw_only=True)
class System:
    """The pair to adapt, and the folder of the system."""

    retriever_name_or_path: Annotated[str, Parameter(alias="--retriever")]
    """Embedding model to adapt: a folder, or a Hugging Face hub name."""
    generator_name_or_path: Annotated[str, Parameter(alias="--generator")]
    """Causal language model to adapt: a folder, or a Hugging Face hub name."""
    output_dir: str
    """Folder of the system: a folder for each stage, the verdict, and the index. The same command
    goes on in it, and does again what a changed document, table, model or option reaches."""


@panel("Questions")
@dataclass(frozen=True, kw_only=True)
class AdaptQuestions:
    """Questions to train and to evaluate on: of people, and generated ones."""

    questions: str | None = None
    """Table of questions that people have asked, with answers, passages, or both: columns Query,
    Answer, Passage. A passage is found again in the documents; one that isn't given is found by the
    answer's words. A part of the documents, with all their questions, is held out."""
    query_column: str = option("Query", needs=TABLE)
    """Column with the question; `Question` is tried if it is missing."""
    answer_column: str = option("Answer", needs=TABLE)
    """Column with the answer."""
    passage_column: str = option("Passage", needs=TABLE)
    """Column with the passage; `Abstract`, `Context`, `text`, `body` and `content` are tried."""
    encoding: str | None = option(None, needs=TABLE)
    """Encoding of a csv, tsv or JSON table. Default: UTF-8, or UTF-16 by byte order mark."""
    backend: Literal["http", "transformers", "extractive", "none"] = "extractive"
    """What generates questions from the passages. http: a model on an OpenAI-compatible server.
    transformers: a local instruct model. extractive: rules, a start without a model. none: nothing;
    needs --questions or --feedback."""
    question_model: Annotated[str | None, Parameter(alias="--model")] = option(None, needs=ASKS)
    """Name of the model on the server; for transformers a folder or a Hugging Face hub name."""
    base_url: str | None = option(None, needs={"backend": ("http",)})
    """Base URL of the server, such as http://localhost:8000/v1; without a path /v1 is added."""
    feedback: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """Train on what people said of answers, too, and evaluate on a part of it: the index whose
    feedback is read, as `dalm serve --feedback` keeps it; without a name the system's own."""


@panel("Training")
@dataclass(frozen=True, kw_only=True)
class AdaptTraining:
    """How the pair is trained."""

    recipe: Recipe = "independent"
    """independent: the retriever contrastively with mined negatives, the generator on retrieved
    passages; as good as joint training in less time where the passages are known. joint: both in
    one run of `dalm train-rag-e2e`."""
    stage_options: StageOptions = None
    """YAML file with options of stages, as their commands take them: `retriever: {num_train_epochs:
    3}`. In Python also the mapping itself."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of splits, training and resampling."""


@panel("Evaluation")
@dataclass(frozen=True, kw_only=True)
class AdaptEvaluation:
    """What the tuned pair is compared on with the one before."""

    test_share: float | None = option(None, over=0, most=0.9)
    """Fraction of documents to hold out. By default as many as a difference can be shown with,
    twelve, but no fewer than a tenth and no more than four tenths."""
    max_test_questions: int = option(200, least=1)
    """Maximum number of held-out questions of each kind (human, generated, feedback), drawn."""
    reranker: str | None = None
    """Reranker (cross-encoder) behind which is measured, too, and which serves: a folder or a
    Hugging Face hub name. A gain has to survive it."""
    guard: str | None = None
    """Table of general questions (Query, Passage, Answer) that shows what training cost
    elsewhere."""


@panel("Stages")
@dataclass(frozen=True, kw_only=True)
class StageChoice:
    """Which stages run, and what a verdict may do."""

    from_stage: Annotated[StageName | None, Parameter(name="--from")] = None
    """Run this stage and those after it again, though nothing has changed; earlier ones stay."""
    to_stage: Annotated[StageName | None, Parameter(name="--to")] = None
    """Stop after this stage."""
    dry_run: Annotated[bool, Parameter(negative=())] = False
    """Show which stages would run, why, and what they would take; run and write nothing."""
    force: Annotated[bool, Parameter(negative=())] = False
    """Switch the index to the tuned retriever whatever the verdict."""


@dataclass(frozen=True, kw_only=True)
class Adapt(
    System, AdaptQuestions, AdaptTraining, AdaptEvaluation, StageChoice, Machine, VectorCache
):
    """Options of `dalm adapt`."""
