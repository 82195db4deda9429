"""Make a reranker's training rows: questions with candidate passages and their labels."""

import logging
from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.models.reranker import Reranker
from dalm.models.token_arrays import in_parts, token_arrays
from dalm.records import NO_SCORE
from dalm.training import losses
from dalm.training.data.batches import TrainingRows
from dalm.training.data.labelled_candidates import LabelledCandidates
from dalm.training.data.teacher_scores import padded, temperatures

logger = logging.getLogger(__name__)


class CandidateBatch(TypedDict):
    """A batch for a reranker: texts, which the loss tokenises, and their labels."""

    queries: list[str]
    candidates: list[list[str]]
    labels: list[Float[Tensor, "K"]]
    lengths: Int[Tensor, "pairs"]
    """Tokens of each question with each of its candidates."""


class RerankerRows(TrainingRows):
    """Hold questions with labelled candidates, of which a batch has `num_candidates` each.

    The first of a question's candidates is always among them; the others are drawn again in every
    epoch. With `target_temperature` labels are scores: how far each is from the row's best in the
    batch is divided by it; `auto`: by that of the row, or where a row has none, by one for all at
    which a third of the candidates in a batch carry the softmax on average.
    """

    of_options = TrainingRows.of_options | {"temperatures", "are_scores"}

    def __init__(
        self,
        questions: Sequence[LabelledCandidates],
        reranker: Reranker,
        *,
        num_candidates: int,
        target_temperature: float | Literal["auto"] | None = None,
        seed: int = 0,
    ) -> None:
        self.questions, self.reranker = questions, reranker
        self.num_candidates, self.seed = num_candidates, seed
        self.query_tokens = _token_counts(reranker, [each.query for each in questions])
        counts = _token_counts(reranker, [text for each in questions for text in each.texts])
        ends = np.cumsum([len(each.texts) for each in questions])
        special = _special_tokens(reranker)
        self.whole = [
            query + passages + special
            for query, passages in zip(
                self.query_tokens.tolist(), np.split(counts, ends[:-1]), strict=True
            )
        ]
        """Tokens of each row's question with each candidate, before any is cut."""
        self.are_scores = target_temperature is not None
        self.temperatures = self._temperatures(target_temperature)

    def __len__(self) -> int:
        return len(self.questions)

    def describe(self) -> str:
        """Return a line on how much data there is."""
        mean = np.mean([len(each.texts) for each in self.questions])
        return (
            f"{len(self)} questions, {mean:.3g} candidates each, up to {self.num_candidates} of "
            "them in a batch"
        )

    def tell_cut(self) -> None:
        """Log how many pairs are cut."""
        lengths, longest = np.concatenate(self.whole), self.reranker.max_length
        cut = int((lengths > longest).sum())
        if not cut:
            logger.info("lengths    none of %s pairs is cut at %d tokens", len(lengths), longest)
            return
        most = self.reranker.longest
        raised = most is None or most > longest
        remedy = "raise --max-length" if raised else "make shorter passages: dalm passages"
        logger.warning(
            "lengths    %s of %s questions with a passage are cut at %d tokens; %s",
            *(f"{cut:,}", f"{len(lengths):,}", longest, remedy),
        )

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row has: its candidates' mean for each of a batch."""
        longest = self.reranker.max_length
        means = np.array([each.clip(max=longest).mean() for each in self.whole])
        drawn = np.array([min(self.num_candidates, len(each)) for each in self.whole])
        lengths: np.ndarray = np.round(drawn * means).astype(np.int64)
        return lengths

    def drawn(self, row: int) -> Int[np.ndarray, "K"]:
        """Return which of a row's candidates a batch has in this epoch, the first one first."""
        return self.draw_candidates(row, len(self.questions[row].texts), self.num_candidates)

    def wrong_to_right(self) -> float:
        """Return how many wrong passages a batch has for each right one, on average."""
        return float(np.mean([len(self.drawn(row)) - 1 for row in range(len(self))]))

    def collate(self, rows: Sequence[int]) -> CandidateBatch:  # type: ignore[override]
        """Return a batch of some rows."""
        as_text, longest = self.reranker.as_text, self.reranker.max_length
        questions = [(self.questions[row], self.drawn(row), self.whole[row]) for row in rows]
        return {
            "queries": [as_text(each.query) for each, _, _ in questions],
            "candidates": [[as_text(each.texts[n]) for n in drawn] for each, drawn, _ in questions],
            "labels": [self._target(row) for row in rows],
            "lengths": torch.from_numpy(
                np.concatenate([whole[drawn] for _, drawn, whole in questions]).clip(max=longest)
            ),
        }

    def _target(self, row: int) -> Float[Tensor, "K"]:
        labels = np.array(self.questions[row].labels)[self.drawn(row)]
        if self.are_scores:  # large ones lose digits in fp32
            labels = (labels - labels.max()) / self.temperatures[row]
        return torch.from_numpy(labels).float()

    def _temperatures(self, given: float | Literal["auto"] | None) -> Float[np.ndarray, "rows"]:
        """Return each row's temperature, and log how many candidates carry the target with it."""
        if given is None:
            return np.ones(len(self))
        labels = [np.array(each.labels, np.float64) for each in self.questions]
        scores = padded([each[self.drawn(row)] for row, each in enumerate(labels)], NO_SCORE)
        count = (scores > NO_SCORE).sum(1).mean()
        if given == "auto":
            found = temperatures(self.questions, scores)
        else:
            found = np.full(len(self), given, np.float64)
        target = torch.from_numpy(scores / found[:, None])
        carry = float(losses.effective_passages(target).mean())
        logger.info(
            "target     %.2f of %.3g scored candidates carry it on average, at temperature %s",
            *(carry, count, " to ".join(f"{t:.3g}" for t in sorted({found.min(), found.max()}))),
        )
        return found


def _token_counts(reranker: Reranker, texts: Sequence[str]) -> Int[np.ndarray, "texts"]:
    """Return the number of tokens of each text; equal texts are tokenised once."""
    rows = in_parts(
        texts,
        lambda part: token_arrays(reranker.model.tokenizer, list(map(reranker.as_text, part))),
    )
    return np.array([len(row) for row in rows], np.int64)


def _special_tokens(reranker: Reranker) -> int:
    """Return how many tokens the model puts around a question and a passage."""
    (tokens,) = reranker.tokenise([("a", "a")])["attention_mask"].sum(1).tolist()
    return int(tokens - _token_counts(reranker, ["a"])[0] * 2)
