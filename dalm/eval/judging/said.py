"""What results.json holds of a judge in, sentences out."""

from collections.abc import Iterator, Mapping
from typing import Any


def said_of_judge(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield how a judge agrees with exact match, what it prefers, how steadily; None: no judge."""
    if figures is None:
        return
    match = figures["exact_match"]
    if match["answers"]:
        kappa = "undefined" if match["kappa"] is None else f"{match['kappa']:.2f}"
        yield (
            f"judge agrees with exact match on {_percent(match['agree'])} of {match['answers']} "
            f"answers, kappa {kappa}"
        )
    if preferred := figures.get("preference"):
        yield (
            f"judge prefers the answer {preferred['wins']} times, that of {preferred['baseline']} "
            f"{preferred['losses']} times; {preferred['ties']} ties, {preferred['equal_answers']} "
            "of them equal answers"
        )
    kinds = ("faithfulness", "correctness", "preference")
    shares = {kind: figures.get(kind, {}).get("orders_disagree") for kind in kinds}
    if changed := [f"{_percent(s)} on {kind}" for kind, s in shares.items() if s is not None]:
        yield f"shown in the other order, judge changed its verdict: {', '.join(changed)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
