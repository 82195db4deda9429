"""From the options of joint training to its parts: what is trained, on what, by which loss."""

from collections.abc import Sequence

from dalm.config import RagE2E
from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.records import Example, Passage
from dalm.training import run
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import SearchedRows
from dalm.training.objectives.candidates import InBatch, Searched, VectorIndex
from dalm.training.objectives.dalm_loss import Separate
from dalm.training.objectives.diagnostics import PROBE
from dalm.training.objectives.joint import RagEndToEnd
from dalm.training.objectives.objective import Objective

OFF = {"over_retrieve": 1}
"""What switches an option off, if it isn't 0."""


def check(settings: RagE2E) -> None:
    """Refuse combinations of options that can't work or would do nothing.

    Raises:
        UserError: names both options.
    """
    if settings.objective == "dalm" and settings.candidates == "index":
        raise UserError(
            "--objective dalm trains on the gold passages of the batch; leave out --candidates "
            "index, or take another --objective"
        )
    if settings.train_encoders == "none" and not settings.train_generator:
        raise UserError(
            "--train-encoders none with --no-train-generator: nothing is left to train; leave one "
            "out"
        )
    if settings.train_encoders == "query" and run.parts(settings.use_peft) & {"retriever"}:
        raise UserError(
            f"--use-peft {settings.use_peft}: --train-encoders query brings the retriever's "
            "adapters itself; leave the retriever out of --use-peft"
        )
    if settings.train_encoders == "none" and run.parts(settings.use_peft) & {"retriever"}:
        raise UserError(
            f"--use-peft {settings.use_peft}: --train-encoders none leaves the retriever as it is; "
            "leave the retriever out of --use-peft"
        )
    if not settings.train_generator and run.parts(settings.use_peft) & {"generator"}:
        raise UserError(
            f"--use-peft {settings.use_peft}: --no-train-generator leaves the generator as it is; "
            "leave the generator out of --use-peft"
        )
    _check_idle(settings)


def _check_idle(settings: RagE2E) -> None:
    """Refuse options of what isn't trained, or of an index that never grows old."""
    encoders, generator = f"--train-encoders {settings.train_encoders}", "--no-train-generator"
    idle: dict[str, list[str]] = {}
    if settings.train_encoders != "both":
        idle[encoders] = ["refresh_budget", "over_retrieve", "write_back"]
    if settings.train_encoders == "none":
        idle[encoders] += ["reader_warmup", "contrastive_weight"]
    if not settings.train_generator:
        idle[generator] = ["reader_warmup", "generator_learning_rate"]
    for reason, names in idle.items():
        for name in names:
            if getattr(settings, name) not in (getattr(RagE2E, name), OFF.get(name, 0)):
                raise UserError(f"{spelled(name)} has no effect with {reason}; leave one out")


def adapts_retriever(settings: RagE2E) -> bool:
    """Whether the retriever's own weights stay as they are."""
    return settings.train_encoders != "both" or "retriever" in run.parts(settings.use_peft)


def knowledge_base(examples: Sequence[Example], settings: RagE2E) -> list[Passage]:
    """Return the passages to search besides the examples' own.

    Raises:
        UserError: there is no passage at all, or one alone; or a contrast without gold passages.
    """
    own = {example.passage.id for example in examples if example.passage}
    if settings.candidates == "in-batch":
        run.check_negatives(examples, settings)
        return []
    more = [p for source in settings.passages or () for p in read_passages(source, settings)]
    count = len(own.union(passage.id for passage in more))
    if count < 2:
        raise UserError(
            f"--candidates index: the knowledge base has {count} passages; name tables of passages "
            "with --passages"
        )
    if not own and settings.contrastive_weight not in (0, RagE2E.contrastive_weight):
        raise UserError(
            "--contrastive-weight has no effect on a table without gold passages; leave it out"
        )
    return more


def choose_trained(retriever: Retriever, generator: Generator, this_run: run.TrainingRun) -> None:
    """Freeze what is to stay as it is, and add the adapters that are asked for."""
    settings = this_run.settings
    assert isinstance(settings, RagE2E)
    tuned = run.parts(settings.use_peft)
    if settings.train_encoders == "none":
        retriever.requires_grad_(False)
    elif settings.train_encoders == "query":
        this_run.add_lora(retriever, "FEATURE_EXTRACTION", queries_alone=True)
    elif "retriever" in tuned:
        this_run.add_lora(retriever, "FEATURE_EXTRACTION")
    if not settings.train_generator:
        generator.requires_grad_(False)
    elif "generator" in tuned:
        this_run.add_lora(generator, "CAUSAL_LM")


def candidates_of(settings: RagE2E) -> int:
    """Return the number of candidates of a query."""
    return settings.num_candidates or (4 if settings.candidates == "in-batch" else 8)


def rows_of(
    examples: Sequence[Example],
    more: Sequence[Passage],
    retriever: Retriever,
    generator: Generator,
    settings: RagE2E,
) -> Rows:
    """Return the training rows in tokens."""
    if settings.candidates == "in-batch":
        return Rows(
            examples,
            retriever,
            generator,
            gold_probability=settings.gold_probability,
            seed=settings.seed,
        )
    return SearchedRows(
        examples,
        retriever,
        generator,
        more=more,
        gold_probability=settings.gold_probability,
        seed=settings.seed,
        reconstruction_weight=settings.reconstruction_weight,
    )


def objective_of(
    rows: Rows,
    retriever: Retriever,
    generator: Generator,
    settings: RagE2E,
    index: VectorIndex | None,
) -> Objective:
    """Return what is trained, on the batch's passages or on those of an index."""
    if settings.objective == "dalm":
        apart = Separate(
            retriever,
            generator,
            scale=settings.logit_scale,
            contrastive_weight=settings.contrastive_weight,
        )
        apart.probe = rows.probe(PROBE)
        return apart
    source: InBatch | Searched = InBatch(
        retriever, candidates_of(settings), settings.marginal_temperature
    )
    if index is not None:
        source = Searched(
            retriever,
            rows.base,
            index,
            num_candidates=candidates_of(settings),
            temperature=settings.marginal_temperature,
            over_retrieve=settings.over_retrieve,
            write_back=settings.write_back,
            refresh_budget=settings.refresh_budget,
            contrasts=bool((rows.gold >= 0).any()),
        )
    joint = RagEndToEnd(
        retriever,
        generator,
        source,
        joint=settings.objective,
        scale=settings.logit_scale,
        contrastive_weight=settings.contrastive_weight,
        target_temperature=settings.target_temperature,
        reader_passages=settings.reader_passages,
        reader_warmup=settings.reader_warmup,
    )
    joint.probe = rows.probe(PROBE)
    generator.reader_passages = settings.reader_passages
    return joint
