"""A line of the log in; what has collapsed, in words, with what to try, out."""

from typing import NamedTuple

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
