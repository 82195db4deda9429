"""Weigh what several people say by how well each agrees with the others.

Dawid and Skene's model (1979) with one number per person: the share r of a person's judgments
that are right. The posterior that a claim is right is σ(Σ v·l), over those who judged it, with
v = ±1 and l = max(0, log r/(1 − r)); r is the share of a person's judgments that agree with it, of
claims that others judged, too, with four right ones of five assumed before. Both in turn until they
stand (expectation-maximisation). Whoever contradicts the others has l = 0, and is not believed the
opposite either; of two who always contradict each other neither is believed.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

ASSUMED_RIGHT, ASSUMED = 4.0, 5.0
ROUNDS = 100
Claim = Hashable


@dataclass(frozen=True, slots=True)
class Vote:
    """What one person says of one claim; a person has at most one vote on a claim."""

    person: str
    claim: Claim
    right: bool


@dataclass(frozen=True, slots=True)
class Support:
    """How well a claim is supported: from -1, surely wrong, over 0, unknown, to 1, surely right."""

    value: float
    shares: Mapping[str, float]
    """The share of each person in the evidence for that side; they sum to 1."""
    people: int
    """People who judged the claim."""


def reliabilities(votes: Sequence[Vote]) -> dict[str, float]:
    """Return each person's reliability: the estimated share of right judgments."""
    of_claim = _by_claim(votes)
    shared = [group for group in of_claim.values() if len(group) > 1]
    found = {vote.person: ASSUMED_RIGHT / ASSUMED for vote in votes}
    for _ in range(ROUNDS):
        agreed: dict[str, float] = defaultdict(float)
        counts: dict[str, int] = defaultdict(int)
        for group in shared:
            right = _sigmoid(_log_odds(group, found))
            for vote in group:
                agreed[vote.person] += right if vote.right else 1 - right
                counts[vote.person] += 1
        before = dict(found)
        for person in found:
            found[person] = (ASSUMED_RIGHT + agreed[person]) / (ASSUMED + counts[person])
        if all(abs(found[person] - before[person]) < 1e-9 for person in found):
            break
    return found


def supports(votes: Sequence[Vote], reliability: Mapping[str, float]) -> dict[Claim, Support]:
    """Return how well each claim is supported: 2σ(Σ v·l) − 1."""
    found = {}
    for claim, group in _by_claim(votes).items():
        odds = _log_odds(group, reliability)
        side = {v.person: evidence(reliability[v.person]) for v in group if v.right == (odds > 0)}
        total = sum(side.values()) or 1.0
        shares = {person: each / total for person, each in side.items()}
        found[claim] = Support(2 * _sigmoid(odds) - 1, shares, len(group))
    return found


def evidence(reliability: float) -> float:
    """Return how much a judgment by a person of this reliability says, in log-odds; 0: nothing."""
    return max(0.0, math.log(reliability / (1 - reliability)))


def _by_claim(votes: Sequence[Vote]) -> dict[Claim, list[Vote]]:
    found: dict[Claim, list[Vote]] = defaultdict(list)
    for vote in votes:
        found[vote.claim].append(vote)
    return found


def _log_odds(group: Sequence[Vote], reliability: Mapping[str, float]) -> float:
    # Sorted, so that equal evidence for both sides cancels to 0 exactly, in any order of votes.
    sides = [sorted(evidence(reliability[v.person]) for v in group if v.right is r)
             for r in (True, False)]  # fmt: skip
    return sum(sides[0]) - sum(sides[1])


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
