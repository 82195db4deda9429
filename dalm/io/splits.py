"""Split examples into train and test by document."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import product
from math import hypot, inf
from typing import Generic, TypeVar

from dalm.errors import UserError
from dalm.records import Example, normalise

logger = logging.getLogger(__name__)

K = TypeVar("K", int, str)

TOLERANCE = 0.1
"""Relative deviation of a side's documents and examples from the share that is asked for."""
EXCHANGES = 10_000  # pairs of documents that are tried, at most
ALIKE = 0.005
"""Difference of the squared deviations below which two moves are equally good."""


class DisjointSets(Generic[K]):
    """Keep track of which keys belong together (union-find); a set is known by its least key."""

    def __init__(self) -> None:
        self._parents: dict[K, K] = {}

    def find(self, key: K) -> K:
        """Return the least key of a key's set."""
        parents = self._parents
        while (parent := parents.setdefault(key, key)) != key:
            parents[key] = parents.setdefault(parent, parent)  # halves the path of later searches
            key = parents[key]
        return key

    def join(self, key: K, other: K) -> None:
        """Make one set of two keys' sets."""
        low, high = sorted((self.find(key), self.find(other)))
        self._parents[high] = low


def split_by_document(
    examples: Sequence[Example], test_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split examples into train and test so that no document is on both sides.

    Examples with the same title are of one document, and so are examples with the same document id,
    or with the same passage, whatever their titles. An example without a passage is a document of
    its query. A document goes to test when the hash of its name and the seed, as a fraction, is
    below `test_share`. Where the test side has not `test_share` of the documents and of the
    examples, within 10 %, documents are moved until it has, or comes no nearer. Documents that are
    added later move few of the earlier ones (1 or 2 of 60, in the median of trials with 60 more).
    Of two or more documents at least one is on each side; a single one is train.

    Raises UserError unless 0 < test_share < 1.
    """
    if not 0 < test_share < 1:
        raise UserError(f"test_share is {test_share}; it must lie between 0 and 1, say 0.1")
    documents = _documents(examples)
    sizes = Counter(documents)
    if len(sizes) < 2:
        logger.warning("all %d examples are of one document: the test side is empty", len(examples))
        return list(examples), []
    test = _balanced({each: _fraction(each, seed) for each in sizes}, sizes, test_share)
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example, document in zip(examples, documents, strict=True):
        sides[document in test].append(example)
    return sides


def count_documents(examples: Iterable[Example]) -> int:
    """Return how many documents the examples are of, as they are split."""
    return len(set(_documents(examples)))


def _balanced(
    fractions: Mapping[str, float], sizes: Mapping[str, int], test_share: float
) -> set[str]:
    """Return the documents of the test side: those below the share, and balanced by size.

    A document is moved, or exchanged with one of the other side, where that lessens
    (e/E - 1)² + (d/D - 1)² most, for the test side's examples and documents and those wanted; of
    moves that are alike the one nearest to the share.
    """
    order = sorted(fractions, key=lambda document: (fractions[document], document))
    below = sum(fraction < test_share for fraction in fractions.values())
    test = set(order[: min(max(below, 1), len(order) - 1)])
    wanted = max(test_share * len(order), 1), test_share * sum(sizes.values())

    def deviations(moved: Iterable[str] = ()) -> tuple[float, float]:
        steps = [(-1 if document in test else 1, sizes[document]) for document in moved]
        documents = len(test) + sum(step for step, _ in steps)
        examples = size + sum(step * size for step, size in steps)
        if not 0 < documents < len(order):
            return inf, inf
        return abs(documents / wanted[0] - 1), abs(examples / wanted[1] - 1)

    for _ in order:
        size = sum(sizes[document] for document in test)
        now = deviations()
        if max(now) <= TOLERANCE:
            break
        moves: list[tuple[str, ...]] = [(document,) for document in order]
        if len(test) * (len(order) - len(test)) <= EXCHANGES:
            moves += product(sorted(test), (each for each in order if each not in test))
        after = [hypot(*deviations(move)) ** 2 for move in moves]
        if min(after) >= hypot(*now) ** 2 * (1 - TOLERANCE):
            break
        most = min(after) + ALIKE
        alike = [move for move, each in zip(moves, after, strict=True) if each <= most]
        test ^= set(min(alike, key=lambda move: [abs(fractions[d] - test_share) for d in move]))
    return test


def _documents(examples: Iterable[Example]) -> list[str]:
    """Return the name of each example's document: the least of the keys of its examples.

    Titles come before passages, so that a document keeps its name when it gains a passage.
    """
    keys = [_keys(example) for example in examples]
    documents = DisjointSets[str]()
    for first, *others in keys:
        for other in others:
            documents.join(first, other)
    return [documents.find(first) for first, *_ in keys]


def _keys(example: Example) -> list[str]:
    passage = example.passage
    if passage is None:
        return [f"3 query {normalise(example.query)}"]
    title = [f"1 title {normalise(passage.title)}"] if passage.title else []
    document = [f"2 document {passage.document}"] if passage.document else []
    return [*title, *document, f"2 passage {passage.id}"]


def _fraction(document: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the document and the seed alone."""
    digest = blake2b(f"{seed} {document}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
