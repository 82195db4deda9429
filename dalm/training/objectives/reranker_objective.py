"""Train a reranker by sentence-transformers' losses on each question's candidates."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss, ListNetLoss
from torch import Tensor, nn

from dalm.models.loading import at_least_fp32
from dalm.models.reranker import Reranker
from dalm.training.data.batches import Batch
from dalm.training.data.labelled_candidates import Kind
from dalm.training.data.reranker_rows import CandidateBatch
from dalm.training.objectives.objective import Loss, Objective


class _InFp32(nn.Module):
    """Convert scores to fp32 before a loss."""

    def forward(self, scores: Tensor) -> Tensor:
        return at_least_fp32(scores)


class Reranking(Objective):
    """Train a cross-encoder with scores s on each question's candidates.

    `binary`: the mean over all pairs of −w·y·log σ(s) − (1 − y)·log(1 − σ(s)), where y is 1 for the
    right passage and w = `right_weight`, by default how many wrong ones come to a right one
    (`BinaryCrossEntropyLoss`). `listwise`: the mean over questions of −Σ_k t_k log softmax(s)_k,
    where t is the softmax over the labels (`ListNetLoss`; Cao et al. 2007).
    """

    name: ClassVar[str] = "reranking"
    label: ClassVar[str] = "a cross-encoder's loss on each question's candidates"
    needs: ClassVar[frozenset[str]] = frozenset({"passage"})

    def __init__(self, reranker: Reranker, kind: Kind, right_weight: float = 1.0) -> None:
        super().__init__()
        self.reranker, self.kind = reranker, kind
        model, in_fp32 = reranker.model, _InFp32()
        self.loss: Any
        if kind == "binary":
            weight = torch.tensor(right_weight, device=model.device)
            self.loss = BinaryCrossEntropyLoss(model, in_fp32, weight)
        else:
            self.loss = ListNetLoss(model, in_fp32, mini_batch_size=-1)  # all pairs at once
        self._scores: Tensor

        def note(_model: nn.Module, _given: Any, found: dict[str, Tensor]) -> None:
            self._scores = found["scores"].detach().float().view(-1)

        model.register_forward_hook(note)  # no method, with which a copy would copy this objective

    def models(self) -> Mapping[str, Reranker]:
        """Return the reranker."""
        return {"reranker": self.reranker}

    def rows(self, batch: Batch) -> int:
        """Return the number of questions."""
        return len(cast(CandidateBatch, batch)["queries"])

    def fewest_rows(self) -> int:
        """Return 1: a question is compared with its own candidates only."""
        return 1

    def forward(self, batch: Batch) -> Loss:
        """Return the loss of a batch, and how often the first candidate has the best score."""
        given = cast(CandidateBatch, batch)
        queries, candidates, labels = given["queries"], given["candidates"], given["labels"]
        if self.kind == "binary":
            pairs = [
                (q, text) for q, texts in zip(queries, candidates, strict=True) for text in texts
            ]
            loss = self.loss([list(each) for each in zip(*pairs, strict=True)], torch.cat(labels))
        else:
            loss = self.loss([queries, candidates], labels)
        parts = {self.kind: loss.detach(), "best_first": self._best_first(labels)}
        lengths = given["lengths"]
        padded = len(lengths) * int(lengths.max())
        return Loss(loss, parts, int(lengths.sum()), padded)

    def _best_first(self, labels: list[Float[Tensor, "K"]]) -> Float[Tensor, ""]:
        """Return the share of questions whose first candidate, the right or best, scores best."""
        by_question = self._scores.split([len(each) for each in labels])
        return torch.stack([(each[0] > each[1:]).all().float() for each in by_question]).mean()
