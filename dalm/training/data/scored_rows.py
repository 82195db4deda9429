"""Make training rows of questions whose candidates a teacher has scored."""

import logging
from collections.abc import Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from dalm.config import RetrieverOnly
from dalm.models.retriever import Retriever
from dalm.records import NO_SCORE, Example, ScoredQuestion
from dalm.training import losses
from dalm.training.data.batches import Batch, FalseNegatives, Rows, TrainingRows
from dalm.training.data.teacher_scores import padded, temperatures

logger = logging.getLogger(__name__)


class ScoredRows(Rows):
    """Hold questions with scored candidates, of which a batch has `num_candidates` each.

    The first of a question's candidates is the teacher's positive, or the best one where it names
    none; the others are drawn again in every epoch. A rank's distinct passages are encoded once,
    whichever questions they are candidates of. `scored_only`: candidates without a score are left
    out.

    With `target_temperature`, batches have the temperature of the softmax over each row's scores:
    this one, or with `auto` that of the row, or where a row has none, one for the run at which a
    third of the candidates in a batch carry the target on average. With `contrasts`, they say what
    is a negative, for the contrastive loss.
    """

    of_options = TrainingRows.of_options | {"temperatures", "contrasts"}

    def __init__(
        self,
        questions: Sequence[ScoredQuestion],
        retriever: Retriever,
        *,
        num_candidates: int,
        scored_only: bool = False,
        target_temperature: float | Literal["auto"] | None = None,
        contrasts: bool = False,
        seed: int = 0,
    ) -> None:
        examples = [Example(q.query, q.answer, q.positive, q.negatives) for q in questions]
        more = [each.passage for question in questions for each in question.candidates]
        super().__init__(examples, retriever, more=more, seed=seed)
        self.num_candidates, self.contrasts = num_candidates, contrasts
        places = {passage.id: place for place, passage in enumerate(self.base.passages)}
        self.candidates: list[Int[np.ndarray, "K"]] = []
        self.scores: list[Float[np.ndarray, "K"]] = []
        self.no_negatives: list[Int[np.ndarray, "places"]] = []
        """Each row's candidates that the teacher doesn't put clearly below its positive."""
        rows = zip(questions, self.gold.tolist(), self.negatives, strict=True)
        for question, gold, negatives in rows:
            scores: dict[int, float] = {}
            for each in question.candidates:
                score = NO_SCORE if each.score is None else each.score
                scores.setdefault(places[each.passage.id], score)
            order = sorted(scores, key=gold.__ne__)
            self.no_negatives.append(np.setdiff1d(order, negatives))
            if scored_only:
                order = [place for place in order if scores[place] > NO_SCORE]
            self.candidates.append(np.array(order, np.int64))
            self.scores.append(np.array([scores[place] for place in order], np.float64))
        self.named_temperatures = [question.temperature for question in questions]
        """The teacher's, with which a resumed run is compared."""
        self.temperatures: Float[np.ndarray, "rows"] | None = None
        if target_temperature is not None:
            self.temperatures = self._temperatures(questions, target_temperature)

    def describe(self) -> str:
        """Return a line on how much data there is."""
        mean = np.mean([len(each) for each in self.candidates])
        return (
            f"{len(self)} questions, {mean:.3g} scored candidates each, up to "
            f"{self.num_candidates} of them in a batch; {len(self.base)} distinct passages"
        )

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row has: its candidates' mean length for each."""
        of_passages = self.base.tokens.lengths
        drawn = [min(self.num_candidates, len(each)) for each in self.candidates]
        means = [float(of_passages[each].mean()) for each in self.candidates]
        expected = np.round(np.array(drawn) * np.array(means)).astype(np.int64)
        lengths: np.ndarray = self.query_tokens.lengths + expected
        return lengths

    def drawn(self, row: int) -> Int[np.ndarray, "K"]:
        """Return which of a row's candidates a batch has in this epoch, the first one first."""
        return self.draw_candidates(row, len(self.candidates[row]), self.num_candidates)

    def drawn_scores(self) -> Float[np.ndarray, "rows K"]:
        """Return the scores that the rows' batches have in this epoch, −inf where there is none."""
        return padded([self.scores[row][self.drawn(row)] for row in range(len(self))], NO_SCORE)

    def _collate(self, rows: Sequence[int], rank: int, ranks: int) -> Batch:
        shares = [rows[each::ranks] for each in range(ranks)]
        drawn = {row: self.drawn(row) for row in rows}
        places = {row: self.candidates[row][chosen] for row, chosen in drawn.items()}
        distinct = [np.unique(np.concatenate([places[row] for row in each])) for each in shares]
        own, here = shares[rank], distinct[rank]
        columns = [np.searchsorted(here, places[row]) for row in own]
        scores = [self.scores[row][drawn[row]] for row in own]
        batch: Batch = {
            "query": self.query_features(own),
            "passage": self.base.features(here),
            "candidates": torch.from_numpy(padded(columns, -1)),
            "scores": torch.from_numpy(padded(scores, NO_SCORE)),
        }
        if self.temperatures is not None:
            batch["temperatures"] = torch.from_numpy(self.temperatures[own])
        if self.contrasts:
            batch["known"] = torch.from_numpy(self.gold[own] >= 0)
            batch["hard_negatives"] = [len(each) for each in distinct]
            everyone = list(chain.from_iterable(shares))
            batch["false_negatives"] = self._not_negative(everyone, distinct, rank * len(own))
        return batch

    def _not_negative(
        self, everyone: Sequence[int], distinct: Sequence[np.ndarray], first: int
    ) -> FalseNegatives:
        """Mark what is no negative for a rank's rows, from the first on.

        As of `Rows`, and besides: a question's candidates that aren't clearly below its positive,
        and repeated passages, so that one that several ranks have counts once.
        """
        count = len(everyone) // len(distinct)
        columns = np.concatenate([self.gold[everyone], *distinct])
        marked = self._false_negatives(everyone, columns, first, count)
        own, golds = everyone[first : first + count], self.gold[everyone[first : first + count]]
        by_query = self._unclear(own, columns) | _repeated(columns)
        by_query[np.arange(count), np.arange(first, first + count)] = False
        by_passage = self._unclear(everyone, golds).T
        by_passage[np.arange(count), np.arange(first, first + count)] = False
        return {
            "by_query": marked["by_query"] | torch.from_numpy(by_query),
            "by_passage": marked["by_passage"] | torch.from_numpy(by_passage.copy()),
        }

    def _unclear(
        self, rows: Sequence[int], places: Int[np.ndarray, "C"]
    ) -> Bool[np.ndarray, "rows C"]:
        """Mark the candidates of each row that aren't clearly below its positive."""
        distinct, inverse = np.unique(places, return_inverse=True)
        marked = np.zeros((len(rows), len(distinct)), bool)
        for n, row in enumerate(rows):
            wanted = self.no_negatives[row]
            at = np.searchsorted(distinct, wanted).clip(max=len(distinct) - 1)
            marked[n, at[distinct[at] == wanted]] = True
        return marked[:, inverse]

    def _temperatures(
        self, questions: Sequence[ScoredQuestion], given: float | Literal["auto"]
    ) -> Float[np.ndarray, "rows"]:
        """Return each row's temperature, and log how many candidates carry the target with it."""
        drawn = self.drawn_scores()
        if given != "auto":
            found, source = np.full(len(questions), given), "--target-temperature"
        else:
            found = temperatures(questions, drawn)
            own = all(question.temperature for question in questions)
            source = "the teacher's" if own else "auto: a third of the scored candidates"
        target = torch.from_numpy(drawn / found[:, None])
        logger.info(
            "target     %.2f of %.3g candidates carry it on average, at temperature %s (%s)",
            *(losses.effective_passages(target).mean(), (drawn > NO_SCORE).sum(1).mean()),
            *(" to ".join(f"{t:.3g}" for t in sorted({found.min(), found.max()})), source),
        )
        return found


def scored_rows(
    questions: Sequence[ScoredQuestion],
    retriever: Retriever,
    settings: RetrieverOnly,
    *,
    margins: bool,
) -> ScoredRows:
    """Return the rows of training on scores as the options ask; `margins`: on their differences."""
    return ScoredRows(
        questions,
        retriever,
        num_candidates=settings.num_candidates,
        scored_only=margins,
        target_temperature=None if margins else settings.target_temperature,
        contrasts=settings.contrastive_weight > 0,
        seed=settings.seed,
    )


def _repeated(places: Int[np.ndarray, "C"]) -> Bool[np.ndarray, "C"]:
    """Mark the places that stand further to the left as well."""
    marked = np.ones(len(places), bool)
    marked[np.unique(places, return_index=True)[1]] = False
    return marked
