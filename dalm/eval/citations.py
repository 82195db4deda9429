"""Parse the citations in answers, and measure whether they name the relevant passages."""

import re
from collections.abc import Sequence

from dalm.eval.results import Results
from dalm.records import Hit

_MARK = re.compile(r"\s*\[\s*(\d+(?:\s*[,;]\s*\d+)*)\s*\]")


def cited(answer: str) -> set[int]:
    """Return the numbers in an answer's brackets, as in `[1]` or `[1, 3]`."""
    return {int(number) for mark in _MARK.findall(answer) for number in re.findall(r"\d+", mark)}


def without_citations(answer: str) -> str:
    """Return an answer without its citations and the white space before them."""
    return _MARK.sub("", answer).strip()


def citation_precision(answer: str, read: Sequence[Hit], gold: Sequence[str]) -> float | None:
    """Return the fraction of the cited numbers that name a relevant passage of the prompt.

    A number counts once, and one without a passage is wrong. None if nothing is cited, or no
    passage is known to be relevant. Whether a passage supports the sentence that cites it is not
    checked.
    """
    numbers = cited(answer)
    if not numbers or not gold:
        return None
    return len(numbers & _relevant(read, gold)) / len(numbers)


def citation_recall(answer: str, read: Sequence[Hit], gold: Sequence[str]) -> float | None:
    """Return the fraction of the prompt's relevant passages that are cited; None if it has none."""
    relevant = _relevant(read, gold)
    return len(cited(answer) & relevant) / len(relevant) if relevant else None


def uncited_answers(results: Results) -> list[str]:
    """Return the answers from the passages found, without citations if they were asked for."""
    answers = results.answers["found"]
    return [without_citations(each) if results.facts.get("citations") else each for each in answers]


def _relevant(read: Sequence[Hit], gold: Sequence[str]) -> set[int]:
    return {number for number, hit in enumerate(read, start=1) if hit.passage.id in set(gold)}
