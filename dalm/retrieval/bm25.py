"""Search passages by their words (BM25), with an inverted index in memory."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from dalm.analyser import terms
from dalm.progress import track
from dalm.records import Hit, Passage

K1 = 1.2  # term-frequency saturation
B = 0.75  # length normalisation
FREQUENT = 0.2  # fraction of the passages from which on a word's weights are added as a whole row
TOGETHER = 64  # queries between two looks at the progress

STRIDES = 64  # scores that share a maximum
SMALLEST = np.nextafter(np.float32(0), np.float32(1))  # above 0

Array = np.ndarray[Any, Any]


class BM25:
    """Rank passages by the words (`analyser.terms`) that they share with a query.

    score(q, p) = Σ_w in q  idf(w) · tf / (tf + k1 · (1 - b + b · |p| / mean |p|)), where tf is the
    number of times w occurs in p and idf(w) = ln(1 + (N - n + ½) / (n + ½)) for a word of n among
    the N passages: never negative. A word that occurs twice in the query counts twice.
    Robertson and Zaragoza, 2009, in the form of Lucene (Kamphuis et al., 2020).
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = list(passages)
        self.vocabulary: dict[str, int] = {}
        texts = track(self.passages, len(self.passages), "counting words", "passages")
        found = (
            [self.vocabulary.setdefault(word, len(self.vocabulary)) for word in terms(each.text)]
            for each in texts
        )
        self.weights = self._weights(_counts(found, self.vocabulary))  # (V, N), by word
        self._frequent = self._frequent_words()
        self._starts: list[int] = self.weights.indptr.tolist()

    def _weights(self, counts: csr_array) -> csr_array:
        lengths = counts.sum(axis=1)
        norms = K1 * (1 - B + B * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-9))
        by_word = counts.T.tocsr()  # rows ascend within a word
        frequencies = np.diff(by_word.indptr)  # passages with the word
        idf = np.log1p((len(self.passages) - frequencies + 0.5) / (frequencies + 0.5))
        by_word.data /= by_word.data + norms[by_word.indices].astype(np.float32)
        by_word.data *= np.repeat(idf, frequencies).astype(np.float32)
        return by_word

    def _frequent_words(self) -> dict[int, Array]:
        """Return the weights of frequent words for all passages: adding a row is far faster."""
        counts = np.diff(self.weights.indptr)
        words = np.flatnonzero(counts >= max(1, FREQUENT * len(self.passages)))
        return {word: self.weights[[word]].toarray()[0] for word in words.tolist()}

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return each query's min(k, N) best passages, best first.

        Equal scores are in the order of the passages. A passage without a word of the query is no
        hit, so there may be fewer. Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        groups = [queries[start : start + TOGETHER] for start in range(0, len(queries), TOGETHER)]
        found: list[list[Hit]] = []
        for group in track(groups, len(queries), "searching words", "questions", len):
            for query in group:
                scores, rows = _best(self._scores(query), k)
                found.append(list(map(Hit, map(self.passages.__getitem__, rows), scores)))
        return found

    def _scores(self, query: str) -> Array:
        """Return the score of every passage, fp32; 0: it has no word of the query."""
        scores = np.zeros(len(self.passages), np.float32)
        for term, count in Counter(terms(query)).items():
            word = self.vocabulary.get(term)
            if word is None:
                continue
            row = self._frequent.get(word)
            if row is not None:
                scores += row if count == 1 else row * np.float32(count)
                continue
            start, end = self._starts[word], self._starts[word + 1]
            weights = self.weights.data[start:end]
            weights = weights if count == 1 else weights * np.float32(count)
            np.add.at(scores, self.weights.indices[start:end], weights)
        return scores


def _counts(rows: Iterable[Sequence[int]], vocabulary: Sized) -> csr_array:
    """Count each row's words, given as columns: (rows, V). The rows may extend the vocabulary."""
    columns, counts, ends = array("i"), array("f"), array("q", [0])
    for row in rows:
        found = Counter(row)
        columns.extend(found)
        counts.extend(found.values())
        ends.append(len(columns))
    parts = (
        np.frombuffer(counts, np.float32) if counts else np.empty(0, np.float32),
        np.frombuffer(columns, np.int32) if columns else np.empty(0, np.int32),
        np.frombuffer(ends, np.int64),
    )
    return csr_array(parts, shape=(len(ends) - 1, len(vocabulary)))


def _best(scores: Array, k: int) -> tuple[list[float], list[int]]:
    """Return the k largest scores above 0 and their rows; of equal scores the first rows."""
    least = max(SMALLEST, _bound(scores, k))
    (rows,) = (scores >= least).nonzero()  # with all ties at the boundary: the sort chooses
    scores = scores[rows]
    order = (-scores).argsort(kind="stable")[:k]
    return scores[order].tolist(), rows[order].tolist()


def _bound(scores: Array, k: int) -> Any:
    """Return a score that at least k reach, or all: of many scores the k-th largest maximum."""
    maxima = scores
    if len(scores) >= 4 * STRIDES * k:  # few of them hold two of the k largest
        whole = len(scores) // STRIDES * STRIDES
        maxima = scores[:whole].reshape(STRIDES, -1).max(axis=0)
    return np.partition(maxima, -k)[-k] if len(maxima) > k else 0
