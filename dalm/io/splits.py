"""Split examples into train and test by document."""

import logging
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

from dalm.errors import UserError
from dalm.records import Example, normalise

logger = logging.getLogger(__name__)

K = TypeVar("K", int, str)


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

    Examples with the same title are of one document, and so are examples with the same passage,
    whatever their titles. An example without a passage is a document of its query. A document goes
    to test when the hash of its name and the seed, as a fraction, is below `test_share`: so the
    share of documents is met on average, and documents that are added later don't move the earlier
    ones. Of two or more documents at least one is on each side; a single one is train.

    Raises UserError unless 0 < test_share < 1.
    """
    if not 0 < test_share < 1:
        raise UserError(f"test_share is {test_share}; it must lie between 0 and 1, say 0.1")
    documents = _documents(examples)
    places = sorted((_fraction(document, seed), document) for document in set(documents))
    if len(places) < 2:
        logger.warning("all %d examples are of one document: the test side is empty", len(examples))
        return list(examples), []
    below = sum(fraction < test_share for fraction, _ in places)
    count = min(max(below, 1), len(places) - 1)
    test = {document for _, document in places[:count]}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example, document in zip(examples, documents, strict=True):
        sides[document in test].append(example)
    return sides


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
    return [*title, f"2 passage {passage.id}"]


def _fraction(document: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on the document and the seed alone."""
    digest = blake2b(f"{seed} {document}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
