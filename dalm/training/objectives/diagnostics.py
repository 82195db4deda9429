"""Measure joint training on a few rows for the log, and warn of a collapse."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch, Pieces
from dalm.training.objectives.contrastive import inner_products
from dalm.training.scoring import candidate_prompts, score_no_grad

DIAGNOSTIC_ROWS = 16
"""Questions on which the figures of a log line are measured."""
PASSAGES_EACH = 4
"""Passages that a question finds in the diagnostic batch, where no index is searched."""

SAME = 0.1
"""Fraction of the way from all questions finding the same passages to all finding different ones,
under which they count as the same."""
FLAT = 0.97
"""Fraction of the candidates that a target spreads over when it counts as flat."""
ONE_HOT = 1.01
"""Effective passages of a prior that counts as one-hot."""


class Reach(NamedTuple):
    """How many passages the diagnostic questions could find."""

    questions: int
    each: int
    """Passages that a question finds."""
    most: int
    """Distinct passages that all of them could find."""


class Diagnosis(NamedTuple):
    """What a few questions find."""

    passages: list[list[int]]
    """Each question's gold passage, else its best, in tokens."""
    figures: dict[str, float]
    reach: Reach


def collapses(
    line: dict[str, float], candidates: int, reach: Reach | None = None
) -> dict[str, str]:
    """Return a warning for each kind of collapse that a line of the log shows.

    - `same_passages`: all the diagnostic questions find nearly the same passages.
    - `flat_target`: the generator scores all candidates alike.
    - `one_hot_prior`: the prior is on one passage, so the retriever can't learn from the others.
    """
    found = {}
    distinct = line.get("distinct_passages")
    if reach is not None and distinct is not None and _same(distinct, reach):
        found["same_passages"] = (
            f"the {reach.questions} diagnostic questions find {distinct:.0f} distinct passages, "
            f"{reach.each} each: the retriever returns the same ones for every question; try a "
            "lower --learning-rate, --contrastive-weight on rows with gold passages, or "
            "--train-encoders query"
        )
    if candidates < 2:
        return found
    if line.get("target_passages", 0.0) >= FLAT * candidates:
        found["flat_target"] = (
            f"the target is flat ({line['target_passages']:.2f} of {candidates} passages): the "
            "generator scores all passages alike, so the retriever learns nothing from it; try a "
            "longer --reader-warmup, or a lower --target-temperature with pdist and lsr"
        )
    if line.get("prior_passages", float(candidates)) <= ONE_HOT:
        found["one_hot_prior"] = (
            f"the prior is one-hot ({line['prior_passages']:.2f} of {candidates} passages): the "
            "other passages have no weight, so the generator's scores change nothing; try a higher "
            "--marginal-temperature"
        )
    return found


def _same(distinct: float, reach: Reach) -> bool:
    """Whether the questions find nearly the same passages though they could find others."""
    enough = reach.most >= 3 * reach.each  # of few passages every question finds the same ones
    return enough and distinct <= reach.each + SAME * (reach.most - reach.each)


def gaps(generator: Generator, pieces: Pieces, passages: list[list[int]]) -> dict[str, float]:
    """Return `gap_none` and `gap_random` of some questions' passages, in nats.

    The mean log-probability per answer token with the question's passage, less that with no
    passage, and less that with another question's.
    """

    def mean(read: list[list[list[int]]]) -> float:
        log_probs = score_no_grad(generator, candidate_prompts(generator, pieces, read))
        return float(log_probs.sum() / sum(pieces.answer_lengths()))

    with_it = mean([[passage] for passage in passages])
    others = passages[1:] + passages[:1]
    return {
        "gap_none": with_it - mean([[] for _ in passages]),
        "gap_random": with_it - mean([[passage] for passage in others]),
    }


def diagnose_batch(retriever: Retriever, batch: Batch) -> Diagnosis:
    """Return what a batch's questions find among its own passages, `PASSAGES_EACH` at most."""
    queries = retriever.embed(batch["query"], "query")
    columns = _first_of_each(batch["keys"])
    vectors = retriever.embed(batch["passage"], "passage")[columns]
    each = max(1, min(PASSAGES_EACH, len(columns) // PASSAGES_EACH))
    found = inner_products(queries, vectors).topk(each).indices
    figures = {"distinct_passages": float(len(found.unique()))}
    reach = Reach(len(queries), each, min(len(columns), each * len(queries)))
    return Diagnosis(batch["pieces"].gold(), figures, reach)


def _first_of_each(keys: Int[Tensor, "C"]) -> Int[Tensor, "N"]:
    """Return the first place of each key."""
    places = {key: place for place, key in reversed(list(enumerate(keys.tolist())))}
    return torch.tensor(sorted(places.values()), device=keys.device)
