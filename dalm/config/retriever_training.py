"""Define the options of training a retriever alone, and the combinations that it refuses."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from cyclopts import Parameter

from dalm.config.options import option, panel, spelled
from dalm.config.shared import Columns, NegativesColumn, RetrieverKind, RetrieverLengths
from dalm.config.training import Contrast, OneModelLora, Training, Vectors
from dalm.errors import UserError

FromScores = Literal["listwise", "margin_mse"]
SCORES = {"objective": get_args(FromScores)}
"""Options of the objectives that train on a teacher's scores."""


@panel("Objective")
@dataclass(frozen=True, kw_only=True)
class RetrieverObjective:
    """Objective of a retriever's training."""

    objective: Literal["contrastive", FromScores] | str = "contrastive"
    """contrastive: InfoNCE on questions and their passages; the other passages of the batch are the
    negatives. listwise, margin_mse: a teacher's scores of each question's candidates, of a table
    that `dalm score-candidates` writes. listwise: the divergence (KL) from the teacher's softmax
    over the candidates. margin_mse: the squared error of the differences between the positive's
    score and the others'. Others by the names that their packages register."""
    num_candidates: int = option(8, least=2, needs=SCORES)
    """Number K of scored candidates per question in a batch: the teacher's best one, and others
    that are drawn again in every epoch. As many as a question has: all of them."""
    target_temperature: float | Literal["auto"] = option(
        "auto", over=0, needs={"objective": ("listwise",)}
    )
    """Temperature of the softmax over the teacher's scores; auto: the teacher's own if the table
    has it, else chosen so that on average a third of the scored candidates carry the target."""
    marginal_temperature: float | None = option(None, over=0, needs={"objective": ("listwise",)})
    """Temperature of the retriever's softmax(similarity / temperature) over the candidates. By
    default 0.1 for cosines, 1 for a model that is compared by the dot product."""
    margin_scale: float | None = option(None, over=0, needs={"objective": ("margin_mse",)})
    """Teacher's units that a similarity of 1 stands for. By default 1 for a model that is compared
    by the dot product; for cosines chosen so that the teacher's mean margin (root mean square) is
    a similarity of 0.2."""
    contrastive_weight: float = option(1.0, least=0, needs=SCORES)
    """Weight of the contrastive loss on the teacher's positives, added to the loss on its scores:
    the scores order a question's own candidates, and the contrast tells them from other questions'.
    0: the scores alone. A candidate that the teacher doesn't put clearly below the positive is no
    negative of its question."""


FROZEN_PASSAGES = {"train_encoders": ("query", "query-adapter")}
"""Options of training that leaves the passages' vectors as they are."""


@panel("Encoders")
@dataclass(frozen=True, kw_only=True)
class TrainedEncoders:
    """What of the retriever is trained."""

    train_encoders: Literal["both", "query", "query-adapter"] = "both"
    """query: LoRA adapters for queries only. query-adapter: a linear map of the queries' vectors,
    which takes seconds on a CPU. Both leave every passage's vector as it is, so that `dalm index`
    takes the tuned retriever over without encoding a passage."""
    cache: bool = option(True, needs=FROZEN_PASSAGES)
    """--no-cache: encode all passages, also when a run is resumed, and cache nothing."""
    cache_dir: str | None = option(None, needs=FROZEN_PASSAGES)
    """Folder for passage embeddings; by default the user cache."""


@panel("Passages")
@dataclass(frozen=True, kw_only=True)
class MarkedPassages:
    """Passages of a table that has none."""

    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = None
    """Tables of passages, a knowledge base, in which the questions of a table without passages find
    theirs: of the best by BM25 the first one with the answer in it, else the first one, as `dalm
    score-candidates --teacher answer-match search` marks them."""


@dataclass(frozen=True, kw_only=True)
class RetrieverOnly(
    OneModelLora,
    RetrieverObjective,
    TrainedEncoders,
    MarkedPassages,
    NegativesColumn,
    Columns,
    RetrieverLengths,
    RetrieverKind,
    Contrast,
    Vectors,
    Training,
):
    """Options of `dalm train-retriever-only`."""

    command: ClassVar[str] = "train-retriever-only"

    num_train_epochs: Annotated[float, Parameter(alias="--epochs", group="Optimisation")] = option(
        3, over=0
    )
    """Training epochs."""


NAMED_COLUMNS = ("passage_column", "query_column", "title_column", "negatives_column")


NO_ADAPTER_OPTIONS = ("use_bnb", "gradient_checkpointing", "contrastive_chunk")


def check_retriever_only(settings: RetrieverOnly) -> None:
    """Refuse options that have no effect on what is trained, or on a table of scored candidates.

    Raises:
        UserError: names the option.
    """
    _check_encoders(settings)
    if settings.passages and settings.negatives_column != RetrieverOnly.negatives_column:
        raise UserError(
            "--negatives-column has no effect with --passages: the marked passages have none; "
            "leave one out, or mark passages with their negatives by dalm score-candidates"
        )
    if settings.objective not in get_args(FromScores):
        return
    if settings.passages:
        raise UserError(
            f"--passages has no effect with --objective {settings.objective}: a table of scored "
            "candidates has its own; leave it out"
        )
    reasons = dict.fromkeys(NAMED_COLUMNS, "a table of scored candidates has fixed columns; ")
    if not settings.contrastive_weight:
        reasons["logit_scale"] = "it is of the contrastive loss, whose weight is 0; "
    for name, reason in reasons.items():
        if getattr(settings, name) != getattr(RetrieverOnly, name):
            raise UserError(
                f"{spelled(name)} has no effect with --objective {settings.objective}: {reason}"
                "leave it out"
            )


def _check_encoders(settings: RetrieverOnly) -> None:
    trained = f"--train-encoders {settings.train_encoders}"
    if settings.train_encoders == "both":
        return
    if settings.use_peft:
        added = "adds adapters" if settings.train_encoders == "query" else "freezes the encoder"
        raise UserError(f"--use-peft: {trained} {added} itself; leave out --use-peft")
    if settings.cache_dir and not settings.cache:
        raise UserError("--cache-dir has no effect with --no-cache; leave one out")
    for name in NO_ADAPTER_OPTIONS:
        only_adapter = settings.train_encoders == "query-adapter" or name == "use_bnb"
        if only_adapter and getattr(settings, name) != getattr(RetrieverOnly, name):
            why = (
                "4-bit weights need --use-peft"
                if name == "use_bnb"
                else ("texts are encoded once, before training, and no activations are kept")
            )
            raise UserError(f"{spelled(name)} doesn't go with {trained}: {why}; leave it out")
