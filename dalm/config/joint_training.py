"""Define the options of joint training, its presets, and the combinations that it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from cyclopts import Parameter

from dalm.config.options import defaults_from, option, panel, spelled
from dalm.config.shared import (
    Columns,
    GeneratorLength,
    NegativesColumn,
    Prompt,
    RetrieverKind,
    RetrieverLengths,
)
from dalm.config.training import Contrast, Lora, Part, Training, covers
from dalm.errors import UserError

Preset = Literal["dalm", "rag-end2end", "atlas", "replug", "ra-dit", "independent", "two-phase"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The original toolkit's loss: contrast, and supervised tuning on the gold passage.
    "dalm": {"objective": "dalm", "candidates": "in-batch"},
    # Siriwardhana et al. 2023, TACL (arXiv:2210.02627): an index, both encoders, statements.
    "rag-end2end": {
        "objective": "rag_token",
        "candidates": "index",
        "num_candidates": 5,
        "train_encoders": "both",
        "contrastive_weight": 0.0,
        "reconstruction_weight": 1.0,
    },
    # Izacard et al. 2022 (arXiv:2208.03299): perplexity distillation, a reader of many passages.
    "atlas": {
        "objective": "pdist",
        "candidates": "index",
        "num_candidates": 8,
        "reader_passages": 4,
        "contrastive_weight": 0.0,
    },
    # Shi et al. 2023 (arXiv:2301.12652): the language model scores passages and is frozen.
    "replug": {
        "objective": "lsr",
        "candidates": "index",
        "num_candidates": 8,
        "target_temperature": 0.1,
        "train_generator": False,
        "contrastive_weight": 0.0,
    },
    # Lin et al. 2023 (arXiv:2310.01352): both tuned, of the retriever only the query encoder.
    "ra-dit": {
        "objective": "lsr",
        "candidates": "index",
        "num_candidates": 8,
        "train_encoders": "query",
        "contrastive_weight": 0.0,
    },
    # No link between the two: contrast, and supervised tuning on the gold passage.
    "independent": {"objective": "rag_token", "num_candidates": 1},
    # The generator is warmed up with a frozen retriever first.
    "two-phase": {"objective": "rag_token", "reader_warmup": 0.3},
}

Marginal = Literal["rag_token", "rag_sequence"]
Distilling = Literal["emdr2", "pdist", "lsr"]
READER = {"objective": get_args(Distilling)}
"""Options of the objectives that train the retriever on the generator's scores (reader loss)."""
PRIOR = {"objective": (*get_args(Marginal), *get_args(Distilling))}
"""Options of the objectives with a prior over several candidates."""
INDEX = {"candidates": ("index",)}
"""Options that candidates from the batch don't need."""


@panel("Objective")
@dataclass(frozen=True, kw_only=True)
class JointObjective:
    """Objective of joint training."""

    preset: Preset | None = None
    """Defaults of a published method; options you set override them.
    dalm: the original toolkit's loss, with no gradient from generator to retriever.
    rag-end2end (Siriwardhana et al. 2023, TACL): marginal likelihood over an index, both encoders
    trained, plus reconstruction of sentences of the knowledge base.
    atlas (Izacard et al. 2022): perplexity distillation into the retriever; the generator reads 4
    passages.
    replug (Shi et al. 2023): likelihood distillation from a frozen generator.
    ra-dit (Lin et al. 2023): likelihood distillation into the query encoder only; the generator is
    fine-tuned.
    independent: contrastive loss and supervised fine-tuning on the gold passage.
    two-phase: the generator first, then both."""
    objective: Literal["dalm", Marginal, Distilling] | str = "rag_token"
    """rag_token, rag_sequence: marginal likelihood of the answer over the candidate passages, per
    token or per sequence. emdr2, pdist, lsr: the retriever is trained on the generator's
    likelihoods, and the generator is fine-tuned on the best passages. dalm: the original toolkit's
    loss, with no gradient from generator to retriever. Others by the names that their packages
    register."""
    num_candidates: int | None = option(None, least=1, needs=PRIOR)
    """Number K of candidate passages per question: the gold one, if known, and the best others. By
    default 4 in-batch, 8 from an index. With 1, no gradient reaches the retriever from the
    generator."""
    marginal_temperature: float | None = option(None, over=0, needs=PRIOR)
    """Temperature of the retriever's softmax(similarity / temperature) over the candidates. By
    default 0.1 for cosines, 1 for a model that is compared by the dot product."""
    target_temperature: float | Literal["auto"] = option(
        "auto", over=0, needs={"objective": ("pdist", "lsr")}
    )
    """Temperature of the generator's target distribution; auto: chosen so that on average K/3
    candidates carry it."""
    teacher_mix: float = option(0.0, least=0, most=1, needs={"objective": ("pdist", "lsr")})
    """Share of the target that a table's teacher has; the generator has the rest. The dataset is
    then one that `dalm score-candidates` writes. It is the teacher's softmax over those of the
    candidates that it has scored; where it has scored none, the generator has all. 0: none."""
    reader_passages: int = option(1, least=1, needs=READER)
    """Number of top candidates in the prompt of the fine-tuning loss, in random order."""
    gold_probability: float = option(1.0, least=0, most=1, needs=PRIOR)
    """Fraction of rows whose gold passage is added to the candidates; in the others it has to be
    retrieved."""
    contrastive_weight: float = option(1.0, least=0)
    """Weight of the contrastive loss on gold passages, added to the joint loss."""
    train_encoders: Literal["both", "query", "none"] = "both"
    """query: adapters for queries only, so that existing passage embeddings stay valid. none: the
    retriever is frozen."""
    train_generator: bool = True
    """--no-train-generator: freeze the generator; it only scores passages."""
    skip_gradient_below: float = option(1e-6, least=0, most=0.1)
    """Leave the candidates with the smallest gradients out of the backward pass, up to this
    fraction of the sum of all candidates' gradient norms. The default leaves out what rounding in
    fp32 would lose. More is faster, and makes the gradient inexact by several times the fraction
    (figures in docs/joint-training.md). 0: leave out none."""
    reader_warmup: float = option(0.0, least=0, most=0.9, needs=PRIOR)
    """Fraction of the updates, at the start, that train only the generator: one that can't answer
    from a passage yet gives the retriever no signal."""


@panel("Candidates")
@dataclass(frozen=True, kw_only=True)
class CandidatePassages:
    """Source of the candidate passages."""

    candidates: Literal["in-batch", "index"] = "in-batch"
    """in-batch: the gold passages of the batch. index: the knowledge base, searched at every step;
    the dataset then needs no passages."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=INDEX
    )
    """Tables of passages that form the knowledge base; by default the dataset's own passages."""
    refresh_budget: float = option(0.1, least=0, most=1, needs=INDEX)
    """Fraction of the training FLOPs to spend on re-encoding the index; 0: never."""
    over_retrieve: int = option(2, least=1, needs=INDEX)
    """Retrieve this many times K passages and re-rank them with the current encoder; 1: off."""
    write_back: bool = option(False, needs=INDEX)
    """Write the embeddings computed in a step back to the index; see docs/experiments.md."""
    reconstruction_weight: float = option(0.0, least=0, needs=INDEX)
    """Weight of the loss of reconstructing sentences of the knowledge base from retrieved
    passages."""


def preset_defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the preset that is given, if any."""
    return PRESETS.get(given.get("preset") or "", {})


@defaults_from(preset_defaults)
@dataclass(frozen=True, kw_only=True)
class RagE2E(
    CandidatePassages,
    JointObjective,
    NegativesColumn,
    Columns,
    RetrieverLengths,
    GeneratorLength,
    Prompt,
    RetrieverKind,
    Contrast,
    Lora,
    Training,
):
    """Options of `dalm train-rag-e2e`."""

    command: ClassVar[str] = "train-rag-e2e"

    generator_learning_rate: Annotated[float | None, Parameter(group="Optimisation")] = option(
        None, over=0
    )
    """Peak learning rate of the generator; by default the retriever's."""
    use_peft: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Train LoRA adapters for the retriever, the generator or both, and freeze their weights."""
    use_bnb: Annotated[Part | None, Parameter(group="LoRA")] = None
    """Load frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""


DISABLED = {"over_retrieve": 1}
"""Values that disable an option, where it isn't 0."""


def check_joint(settings: RagE2E) -> None:
    """Refuse conflicting options of joint training.

    Raises:
        UserError: names both options.
    """
    if settings.objective == "dalm" and settings.candidates == "index":
        raise UserError(
            "--objective dalm trains on the gold passages of the batch; leave out --candidates "
            "index, or choose another --objective"
        )
    if settings.train_encoders == "none" and not settings.train_generator:
        raise UserError(
            "--train-encoders none with --no-train-generator: nothing is left to train; leave one "
            "out"
        )
    lora = f"--use-peft {settings.use_peft}"
    if settings.train_encoders == "query" and covers(settings.use_peft, "retriever"):
        raise UserError(
            f"{lora}: --train-encoders query adds the retriever's adapters itself; leave the "
            "retriever out of --use-peft"
        )
    if settings.train_encoders == "none" and covers(settings.use_peft, "retriever"):
        raise UserError(
            f"{lora}: --train-encoders none doesn't train the retriever; leave the retriever out "
            "of --use-peft"
        )
    if not settings.train_generator and covers(settings.use_peft, "generator"):
        raise UserError(
            f"{lora}: --no-train-generator doesn't train the generator; leave the generator out of "
            "--use-peft"
        )
    _check_without_effect(settings)
    if settings.teacher_mix and settings.num_candidates == 1:
        raise UserError(
            "--teacher-mix has no effect with --num-candidates 1: one candidate has the whole "
            "target, whatever it scores; leave one out"
        )
    for name in ("query_column", "answer_column"):
        if settings.teacher_mix and getattr(settings, name) != getattr(RagE2E, name):
            raise UserError(
                f"{spelled(name)} has no effect with --teacher-mix: a table of scored candidates "
                "has fixed columns; leave it out"
            )
    usual = (0, RagE2E.skip_gradient_below)
    if settings.skip_gradient_below not in usual and not _computes_candidates_again(settings):
        raise UserError(
            f"--skip-gradient-below {settings.skip_gradient_below:g} has no effect here; leave it "
            "out. It needs --objective rag_token or rag_sequence with a trained generator and more "
            "than one candidate, or --candidates index with --train-encoders both"
        )


def _computes_candidates_again(settings: RagE2E) -> bool:
    """Tell whether candidates are scored without gradient, and computed again with it."""
    separate = settings.objective in ("dalm", *get_args(Distilling))
    generator = settings.train_generator and settings.num_candidates != 1 and not separate
    return generator or (settings.candidates == "index" and settings.train_encoders == "both")


def _check_without_effect(settings: RagE2E) -> None:
    """Refuse options of a model that isn't trained, or of an index that never gets stale."""
    encoders, generator = f"--train-encoders {settings.train_encoders}", "--no-train-generator"
    without_effect: dict[str, list[str]] = {}
    if settings.train_encoders != "both":
        without_effect[encoders] = ["refresh_budget", "over_retrieve", "write_back"]
    if settings.train_encoders == "none":
        without_effect[encoders] += ["reader_warmup", "contrastive_weight", "teacher_mix"]
    if not settings.train_generator:
        without_effect[generator] = ["reader_warmup", "generator_learning_rate"]
    for reason, names in without_effect.items():
        for name in names:
            if getattr(settings, name) not in (getattr(RagE2E, name), DISABLED.get(name, 0)):
                raise UserError(f"{spelled(name)} has no effect with {reason}; leave one out")
