"""A line of the log in; what has collapsed, in words, with what to try, out."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch, Pieces, on
from dalm.training.objectives.contrastive import cosines
from dalm.training.objectives.objective import Objective
from dalm.training.scoring import candidate_prompts, judge

PROBE = 16
"""Questions on which a log line's figures are taken."""

SAME = 0.1
"""Of the way from what one question finds to all finding others, what is hardly any."""
FLAT = 0.97
"""Share of the candidates that a target of no opinion spreads over."""
ONE_HOT = 1.01
"""Effective passages of a prior that considers one alone."""


class Reach(NamedTuple):
    """How much a probe could find."""

    questions: int
    each: int
    """Passages that a question finds."""
    most: int
    """Distinct passages that all of them could find."""


def collapses(
    line: dict[str, float], candidates: int, reach: Reach | None = None
) -> dict[str, str]:
    """Return the collapses by kind.

    - `same_passages`: the probe's questions find hardly more passages than one of them would.
    - `flat_target`: the generator's judgement is the same for all candidates.
    - `one_hot_prior`: no other passage than the first is considered, so nothing can be learnt.
    """
    found = {}
    distinct = line.get("distinct_passages")
    if reach is not None and distinct is not None and _same(distinct, reach):
        found["same_passages"] = (
            f"the {reach.questions} questions of the probe find {distinct:.0f} distinct passages, "
            f"{reach.each} each: the retriever gives the same ones to every question; try a lower "
            "--learning-rate, --contrastive-weight on rows with gold passages, or --train-encoders "
            "query"
        )
    if candidates < 2:
        return found
    if line.get("target_passages", 0.0) >= FLAT * candidates:
        found["flat_target"] = (
            f"the target is flat ({line['target_passages']:.2f} of {candidates} passages): the "
            "generator can't tell which passage holds the answer, so it teaches nothing; try a "
            "longer --reader-warmup, or a lower --target-temperature with pdist and lsr"
        )
    if line.get("prior_passages", float(candidates)) <= ONE_HOT:
        found["one_hot_prior"] = (
            f"the prior is one-hot ({line['prior_passages']:.2f} of {candidates} passages): no "
            "other passage is considered, so the generator's judgement changes nothing; try a "
            "higher --marginal-temperature"
        )
    return found


def _same(distinct: float, reach: Reach) -> bool:
    """Whether questions that find the same passages might as well find others."""
    some = reach.most >= 3 * reach.each  # of few passages every question finds the same ones
    return some and distinct <= reach.each + SAME * (reach.most - reach.each)


# FOLDED probed.py: Joint training watched on a few questions: figures for the log, and what has collapsed.

Seen = tuple[list[list[int]], dict[str, float], Reach]
"""Each question's gold, else best, passage; figures of what was found; how much could be."""

EACH = 4
"""Passages that a question finds among those of the probe, if nothing else is searched."""


class Probed(Objective):
    """Train a retriever and a generator, and look at them with `probe`'s questions now and then."""

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        *,
        scale: float,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.scale = scale
        self.contrastive_weight = contrastive_weight
        self.probe: Batch | None = None
        self.reach: Reach | None = None

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

    @abstractmethod
    def look(self, batch: Batch) -> Seen:
        """Return what some questions find."""

    def candidates(self) -> int:
        """Return how many passages the prior is over."""
        return 1

    def observe(self) -> dict[str, float]:
        """Return, on the probe's questions, the worth of a passage and what is found."""
        if self.probe is None:
            return {}
        with evaluating(self), torch.no_grad(), self.retriever.placement.autocast():
            batch = on(self.probe, self.retriever.device)
            passages, figures, self.reach = self.look(batch)
            return gaps(self.generator, batch["pieces"], passages) | figures

    def warnings(self, line: dict[str, float]) -> dict[str, str]:
        """Return the collapses that a line shows, with what to try."""
        return collapses(line, self.candidates(), self.reach)


def gaps(generator: Generator, pieces: Pieces, passages: list[list[int]]) -> dict[str, float]:
    """Return `gap_none` and `gap_random` of some questions' passages, in nats.

    The mean log-probability per answer token with that passage, less that with no passage and with
    one of another question.
    """

    def mean(read: list[list[list[int]]]) -> float:
        log_probs = judge(generator, candidate_prompts(generator, pieces, read))
        return float(log_probs.sum() / sum(pieces.answer_lengths()))

    with_it = mean([[passage] for passage in passages])
    others = passages[1:] + passages[:1]
    return {
        "gap_none": with_it - mean([[] for _ in passages]),
        "gap_random": with_it - mean([[passage] for passage in others]),
    }


def look_in_batch(retriever: Retriever, batch: Batch) -> Seen:
    """Return what a batch's questions find among the batch's own passages, at most `EACH`."""
    queries = retriever.embed(batch["query"], "query")
    columns = _first_of_each(batch["keys"])
    vectors = retriever.embed(batch["passage"], "passage")[columns]
    each = max(1, min(EACH, len(columns) // EACH))
    found = cosines(queries, vectors).topk(each).indices
    figures = {"distinct_passages": float(len(found.unique()))}
    reach = Reach(len(queries), each, min(len(columns), each * len(queries)))
    return batch["pieces"].passages[: len(queries)], figures, reach


def _first_of_each(keys: Int[Tensor, "C"]) -> Int[Tensor, "N"]:
    """Return the first place of each key."""
    places = {key: place for place, key in reversed(list(enumerate(keys.tolist())))}
    return torch.tensor(sorted(places.values()), device=keys.device)
