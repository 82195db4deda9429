"""Split examples into train and test by document: records in, two lists of records out."""

import logging
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from dalm.errors import UserError
from dalm.records import Example, normalise

logger = logging.getLogger(__name__)


def split_by_document(
    examples: Sequence[Example], test_share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Split examples into train and test so that no document stands on both sides.

    A document is what a title or a passage holds together: examples with the same title, and
    examples with the same passage, whatever their titles. An example without a passage is a
    document of its query. A document goes to test when the hash of its name and the seed, read as
    a fraction, is below `test_share`: so the share is one of documents, met on average, and
    further documents leave the earlier ones where they are. Of two or more documents at least one
    is put on each side; a single one is train.

    Raises UserError unless 0 < test_share < 1.
    """
    if not 0 < test_share < 1:
        raise UserError(f"test_share is {test_share}; it must lie between 0 and 1, say 0.1")
    documents = _documents(examples)
    places = sorted((_fraction(document, seed), document) for document in set(documents))
    if len(places) < 2:
        logger.warning("all %d examples are of one document: none is left to test", len(examples))
        return list(examples), []
    below = sum(fraction < test_share for fraction, _ in places)
    count = min(max(below, 1), len(places) - 1)
    test = {document for _, document in places[:count]}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example, document in zip(examples, documents, strict=True):
        sides[document in test].append(example)
    return sides


def _documents(examples: Iterable[Example]) -> list[str]:
    """Return the name of each example's document: the least of the keys that are held together.

    Titles come before passages, so that a document keeps its name when it gains a passage.
    """
    keys = [_keys(example) for example in examples]
    above: dict[str, str] = {}

    def root(key: str) -> str:
        while (parent := above.setdefault(key, key)) != key:
            above[key] = above.setdefault(parent, parent)  # halves the path for the next search
            key = above[key]
        return key

    for first, *others in keys:
        for other in others:
            low, high = sorted((root(first), root(other)))
            above[high] = low
    return [root(first) for first, *_ in keys]


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
