"""Read the citations in an answer: numbers in brackets, as in `[1]` or `[1, 3]`."""

import re

MARK = re.compile(r"\s*[\[［【]\s*(\d+(?:\s*[,;，；、]\s*\d+)*)\s*[\]］】]")
"""A citation such as ` [1, 3]` or `【1】`."""


def cited(answer: str) -> set[int]:
    """Return the numbers in an answer's brackets."""
    return {int(number) for mark in MARK.findall(answer) for number in re.findall(r"\d+", mark)}


def without_citations(answer: str) -> str:
    """Return an answer without its citations and the white space before them."""
    return MARK.sub("", answer).strip()


def drop_unknown(answer: str, passages: int) -> tuple[str, int]:
    """Return an answer without the numbers that no passage has, and how many those were."""
    dropped = 0

    def keep(mark: re.Match[str]) -> str:
        nonlocal dropped
        numbers = [int(number) for number in re.findall(r"\d+", mark[1])]
        known = [number for number in numbers if 1 <= number <= passages]
        dropped += len(numbers) - len(known)
        if len(known) == len(numbers):
            return mark[0]
        return f" [{', '.join(map(str, known))}]" if known else ""

    return MARK.sub(keep, answer), dropped
