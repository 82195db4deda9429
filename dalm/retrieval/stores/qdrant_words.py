"""Compute BM25 from the words that Qdrant's points keep.

A point's sparse vector holds a weight for each word, as BM25 has it while the mean length of the
passages is a reference length L that never changes, tf / (tf + k1 · (1 - b + b · |p| / L)). Qdrant
finds by it. The true weight, with the present mean M, is at most max(1, M / L) times as large. So
the scores of the points found, computed here as they should be, are enough to know when nothing
that wasn't found can be better.
"""

import math
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np
from qdrant_client import models

from dalm.analyser import terms
from dalm.retrieval.bm25 import K1, B

ROUNDING = 1 + 1e-5
"""What Qdrant's sums in fp32 may lose."""


def clean(text: str) -> str:
    """Return a text as a request can carry it: without unpaired surrogates, of a user's bytes."""
    return text.encode(errors="replace").decode()


def counted(text: str) -> Counter[str]:
    """Return how often each word is in a text."""
    return Counter(map(clean, terms(text)))


def weight(times: float, length: int, mean: float) -> float:
    """Return the weight of a word that is `times` in a passage of a length."""
    return times / (times + K1 * (1 - B + B * length / mean))


def idf(passages: int, having: int) -> float:
    """Return the weight of a word that `having` of the passages have."""
    return math.log1p((passages - having + 0.5) / (having + 0.5))


def sparse(weights: Mapping[str, float]) -> models.SparseVector:
    """Return words' weights as a sparse vector; of two words of one number they are added."""
    found: dict[int, float] = {}
    for word, value in weights.items():
        number = int.from_bytes(blake2b(word.encode(), digest_size=4).digest(), "big")
        found[number] = found.get(number, 0.0) + value
    return models.SparseVector(indices=list(found), values=list(found.values()))


def score(payload: Mapping[str, Any], query: Mapping[str, float], mean: float) -> float:
    """Return the BM25 score of a point, rounded to fp32, for the weights of a query's words."""
    counts = dict(zip(payload["words"], payload["counts"], strict=True))
    length = payload["length"]
    found = (
        times * weight(counts[word], length, mean)
        for word, times in query.items()
        if word in counts
    )
    return float(np.float32(sum(found)))
