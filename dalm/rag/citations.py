"""Read the citations in an answer: numbers in brackets, as in `[1]` or `[1, 3]`."""

import re
from collections.abc import Iterable, Iterator

MARK = re.compile(r"\s*[\[［【]\s*(\d+(?:\s*[,;，；、]\s*\d+)*)\s*[\]］】]")
"""A citation such as ` [1, 3]` or `【1】`."""

_UNFINISHED = re.compile(r"\s*(?:[\[［【][\s\d,;，；、]*)?\Z")
"""The end of a text that may yet become a citation, with the white space before it."""


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


class KnownCitations:
    """Pass on the pieces of an answer without the numbers that no passage has.

    What may become a citation is held back until its bracket closes. The pieces together are
    `drop_unknown` of the whole answer, and `dropped` is how many numbers were left out.
    """

    def __init__(self, passages: int) -> None:
        self.passages = passages
        self.dropped = 0

    def of(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the pieces of an answer."""
        held = ""
        for piece in pieces:
            held += piece
            unfinished = _UNFINISHED.search(held)
            assert unfinished is not None  # the pattern also matches the empty end
            if complete := self._known(held[: unfinished.start()]):
                yield complete
            held = held[unfinished.start() :]
        if rest := self._known(held):
            yield rest

    def _known(self, text: str) -> str:
        known, dropped = drop_unknown(text, self.passages)
        self.dropped += dropped
        return known
