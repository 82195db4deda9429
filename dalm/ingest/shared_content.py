"""Find documents whose content stands in another one: the same manual as PDF and as HTML.

Their passages begin and end elsewhere, so that no two of them need be similar. Of each document's
word triples (`near_duplicates.shingles`) one in eight is kept, chosen by its hash (Broder, 1997:
sketches modulo m). |A ∩ B| / |A| of two samples estimates the fraction of A's content that stands
in B, with a standard deviation of 0.07 at 0.8 for the shortest documents, and 0.01 for a hundred
passages. What is found this way is looked at word by word (`share_in`).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from dalm.ingest.distinguishing_words import marked_words
from dalm.ingest.near_duplicates import SHINGLE, Hashes, shingles
from dalm.io.splits import DisjointSets
from dalm.records import Passage

SAMPLED = 8  # triples, of which one is kept
MIN_SAMPLE = 32  # triples of a document that can be told: about 250 words
CONTAINED = 0.8
"""Fraction of a document's sample that stands in another one's."""
SHARED_BY = 16
"""Documents that share a triple, at most: one in more of them is boilerplate."""


def sample(triples: Sequence[Hashes]) -> Hashes:
    """Return the sample of a document whose passages have these triples, or these samples."""
    every = np.concatenate([*triples, np.empty(0, np.uint32)])
    return np.unique(every[every % np.uint32(SAMPLED) == 0])


def contained_pairs(samples: Sequence[Hashes]) -> list[tuple[int, int]]:
    """Return pairs (a, b) of documents such that most of a's sample is in b's, in order.

    In memory are the samples once more, and a pair for each document that shares a triple.
    """
    long = [place for place, found in enumerate(samples) if len(found) >= MIN_SAMPLE]
    if len(long) < 2:
        return []
    sizes = np.array([len(samples[place]) for place in long])
    hashes = np.concatenate([samples[place] for place in long])
    documents = np.repeat(np.arange(len(long), dtype=np.int64), sizes)
    order = np.argsort(hashes, kind="stable")
    hashes, documents = hashes[order], documents[order]
    starts = np.flatnonzero(np.r_[True, hashes[1:] != hashes[:-1]])
    counts = np.diff(np.r_[starts, len(hashes)])
    pairs = [np.empty(0, np.int64)]
    for count in range(2, SHARED_BY + 1):  # triples by the number of documents that have them
        rows = documents[starts[counts == count][:, None] + np.arange(count)]
        one, other = np.triu_indices(count, 1)
        pairs.append((rows[:, one] * len(long) + rows[:, other]).ravel())
    keys, shared = np.unique(np.concatenate(pairs), return_counts=True)
    found = []
    for key, number in zip(keys.tolist(), shared.tolist(), strict=True):
        one, other = divmod(key, len(long))
        found += [
            (long[a], long[b])
            for a, b in ((one, other), (other, one))
            if number >= CONTAINED * sizes[a]
        ]
    return sorted(found)


def content(texts: Iterable[str]) -> Hashes:
    """Return all triples of a document whose passages these are, sorted."""
    [found] = shingles([" ".join(texts)])
    return np.unique(found)


def share_in(text: str, other: Hashes, least: float) -> float:
    """Return the fraction of a passage's triples that stand in a document with this content.

    0 if it is less than `least`, or if a number, a code or a name doesn't stand there with the
    words beside it.
    """
    [found] = shingles([text])
    held = np.isin(found, other)
    share = float(held.mean())
    if share < least:
        return 0.0
    marked = np.flatnonzero(marked_words(text))
    covered = np.convolve(held, np.ones(SHINGLE)) > 0.5  # a word by any of its triples
    return share if covered[marked].all() else 0.0


def groups_by_content(passages: Sequence[Passage], similarity: float) -> list[int]:
    """Return for each passage the first one of its document, or of one with the same content.

    Documents are told by their id, or by their title. Two have the same content if most passages
    of one of them stand in the other.
    """
    first: dict[str, int] = {}
    members: dict[int, list[int]] = {}
    for place, passage in enumerate(passages):
        key = passage.document or passage.title
        start = first.setdefault(key, place) if key else place
        members.setdefault(start, []).append(place)
    names = list(members)
    samples = [sample(shingles([passages[p].text for p in members[name]])) for name in names]
    groups = DisjointSets[int]()
    for a, b in contained_pairs(samples):
        one, other = names[a], names[b]
        if groups.find(one) != groups.find(other):
            held = content(passages[place].text for place in members[other])
            texts = [passages[place].text for place in members[one]]
            standing = sum(len(text) for text in texts if share_in(text, held, similarity))
            if standing >= CONTAINED * sum(map(len, texts)):
                groups.join(one, other)
    found = {place: groups.find(name) for name, places in members.items() for place in places}
    return [found[place] for place in range(len(passages))]
