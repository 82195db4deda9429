"""Verdicts in; how far they depend on the order, and agree with exact match, out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dalm.eval.judging.verdicts import Pair


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many answers are right by the judge, in both orders, and by exact match."""

    both: int
    judge_alone: int
    exact_match_alone: int
    neither: int

    @classmethod
    def of(cls, values: Iterable[tuple[float | None, float | None]]) -> "Agreement":
        """Count correctness and exact match where both are known; an answer is right at 1."""
        found = [(c == 1, em == 1) for c, em in values if c is not None and em is not None]
        cells = ((True, True), (True, False), (False, True), (False, False))
        return cls(*(found.count(cell) for cell in cells))

    @property
    def answers(self) -> int:
        """The number of answers."""
        return self.both + self.judge_alone + self.exact_match_alone + self.neither

    @property
    def share(self) -> float | None:
        """The share of answers on which the two agree; None if there are no answers."""
        return (self.both + self.neither) / self.answers if self.answers else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, (p − e) / (1 − e); None where e is 1: both always say the same one thing.

        p is the share on which they agree, e that on which they would by chance, from how often
        each finds an answer right. Cohen, 1960, doi:10.1177/001316446002000104.
        """
        if self.share is None:
            return None
        judge = (self.both + self.judge_alone) / self.answers
        match = (self.both + self.exact_match_alone) / self.answers
        chance = judge * match + (1 - judge) * (1 - match)
        return None if chance == 1 else (self.share - chance) / (1 - chance)


def agreement_figures(found: Agreement) -> dict[str, Any]:
    """Return what results.json says of the judge beside exact match."""
    return {
        "answers": found.answers,
        "agree": found.share,
        "kappa": found.kappa,
        "both_right": found.both,
        "judge_alone": found.judge_alone,
        "exact_match_alone": found.exact_match_alone,
        "neither_right": found.neither,
    }


def order_figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how many cases were judged, have no verdict, and changed theirs with the order."""
    agree = [pair.agree for pair in pairs if pair.agree is not None]
    return {
        "judged": len(agree),
        "without_verdict": len(pairs) - len(agree),
        "orders_disagree": agree.count(False) / len(agree) if agree else None,
    }


def preference_figures(pairs: Sequence[Pair], equal: int) -> dict[str, Any]:
    """Return wins, ties and losses; `equal` answers are ties that nobody was asked about."""
    values = [pair.value for pair in pairs]
    return {
        "wins": values.count(1.0),
        "ties": values.count(0.5) + equal,
        "losses": values.count(0.0),
        "equal_answers": equal,
        **order_figures(pairs),
    }
