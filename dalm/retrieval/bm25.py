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
BLOCK_SCORES = 4 << 20  # scores in memory at once: 32 MB, whatever the number of queries

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

    def _weights(self, counts: csr_array) -> csr_array:
        lengths = counts.sum(axis=1)
        norms = K1 * (1 - B + B * lengths / max(lengths.mean() if len(lengths) else 0.0, 1e-9))
        by_word = counts.T.tocsr()  # rows ascend within a word
        frequencies = np.diff(by_word.indptr)  # passages with the word
        idf = np.log1p((len(self.passages) - frequencies + 0.5) / (frequencies + 0.5))
        by_word.data /= by_word.data + norms[by_word.indices].astype(np.float32)
        by_word.data *= np.repeat(idf, frequencies).astype(np.float32)
        return by_word

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return each query's min(k, N) best passages, best first.

        Equal scores are in the order of the passages. A passage without a word of the query is no
        hit, so there may be fewer. Raises ValueError for k < 1.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        block = max(1, BLOCK_SCORES // max(1, len(self.passages)))
        known = ([self.vocabulary[w] for w in terms(q) if w in self.vocabulary] for q in queries)
        counts = _counts(known, self.vocabulary)  # (B, V)
        found: list[list[Hit]] = []
        for query in track(range(len(queries)), len(queries), "searching words", "questions"):
            if query % block == 0:
                scores = counts[query : query + block] @ self.weights  # (block, N), sparse
            line = slice(*scores.indptr[query % block : query % block + 2])
            best = _best(scores.data[line], scores.indices[line], k)
            found.append([Hit(self.passages[row], score) for score, row in best])
        return found


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


def _best(scores: Array, rows: Array, k: int) -> list[tuple[float, int]]:
    """Return the k largest scores with their rows; of equal scores the first rows."""
    if len(scores) > k:
        boundary = np.partition(scores, -k)[-k]
        kept = scores >= boundary  # with all ties at the boundary: the sort below chooses
        scores, rows = scores[kept], rows[kept]
    order = np.lexsort((rows, -scores))[:k]
    return list(zip(scores[order].tolist(), rows[order].tolist(), strict=True))
