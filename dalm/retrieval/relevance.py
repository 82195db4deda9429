"""Judge whether what a search found answers the question, by scores that compare across questions.

Ranks and z-scores only compare passages found for one question. Two scores of a passage compare
between questions: its similarity to the question's vector, and its coverage, the share of the
question's words that it contains, each word counting by its rarity. A logistic function of both,
fitted by `dalm.retrieval.calibration`, and a threshold are kept with the index.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from dalm import artifacts
from dalm.analyser import terms
from dalm.file_reading import read_record
from dalm.records import Hit
from dalm.retrieval.base import Ranked

FILE = "relevance.json"
BEST = 3
"""Hits of which one has to reach the threshold."""
REMEDY = "calibrate again: dalm index --index-dir INDEX --calibrate QUESTIONS"


@dataclass(frozen=True, slots=True)
class Relevance:
    """What the passages of a calibration say of words and scores.

    `counts` are the numbers of passages with a word, among `passages`; a word that is missing is as
    rare as the rarest. `modes` hold for each search mode the logistic function, by the names
    `similarity`, `coverage` and `bias`, and the `threshold` of its value.
    """

    passages: Annotated[int, 1]
    counts: dict[str, int]
    modes: dict[str, dict[str, float]]

    def judged(self, mode: str, query: str, hits: Sequence[Hit | Ranked], k: int) -> list[Hit]:
        """Return the first k hits with their relevance, and whether the best reach the threshold.

        `scores["relevance"]` is a hit's own value of the logistic function; `relevant` is the same
        for all: whether one of the `BEST` first reaches the threshold.
        """
        judge, words = self.modes[mode], set(terms(query))
        lowest = min((hit.scores.get("dense", math.inf) for hit in hits), default=0.0)
        values = []
        for hit in hits[: max(k, BEST)]:
            similarity = hit.scores.get("dense", lowest) if "similarity" in judge else 0.0
            covered = self.coverage(words, words.intersection(terms(hit.passage.text)))
            logit = judge.get("similarity", 0.0) * similarity + judge["coverage"] * covered
            values.append(_logistic(logit + judge["bias"]))
        relevant = max(values[:BEST], default=0.0) >= judge["threshold"]
        return [
            Hit(hit.passage, hit.score, {**hit.scores, "relevance": value}, hit.ranks, relevant)
            for hit, value in zip(hits[:k], values, strict=False)
        ]

    def coverage(self, asked: Collection[str], there: Collection[str]) -> float:
        """Return Σ idf of the words that are there / Σ idf of those that are asked for."""
        return rarity(there, self.counts, self.passages) / (
            rarity(asked, self.counts, self.passages) or 1.0
        )


def rarity(words: Collection[str], counts: Mapping[str, int], passages: int) -> float:
    """Return Σ idf, as in BM25: ln(1 + (N - n + ½) / (n + ½)) for a word of n among N passages."""
    found = (counts.get(word, 0) for word in words)
    # A set has another order in each process, and a plain sum another last digit.
    return math.fsum(math.log1p((passages - n + 0.5) / (n + 0.5)) for n in found)


def relevance_of(folder: Path) -> Relevance | None:
    """Read the relevance of a generation; None if it isn't calibrated.

    Raises:
        DamagedError: the file is damaged.
    """
    file = folder / FILE
    return read_record(file, Relevance, REMEDY) if file.exists() else None


def save(folder: Path, relevance: Relevance | None) -> None:
    """Write the relevance of a generation into its folder; None takes an earlier one away."""
    if relevance is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        artifacts.write_json(folder / FILE, asdict(relevance))


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-max(-700.0, min(700.0, value))))
