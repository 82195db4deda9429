"""Take each query's candidate passages from the batch; define what any source of them gives.

Every source gives the K passages of each query that the prior is over, the log-probabilities of the
prior with gradient, and the pairs that the contrastive loss is over.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.collectives import smallest
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch
from dalm.training.objectives.contrastive import MASKED, Pairs, embed_pairs
from dalm.training.objectives.diagnostics import Diagnosis, diagnose_batch
from dalm.training.objectives.objective import IndexForecast
from dalm.training.objectives.retriever_objective import token_counts


class Candidates(NamedTuple):
    """The passages of each query that the prior is over: the gold one if forced, then the best."""

    log_prior: Float[Tensor, "B K"]
    passages: list[list[list[int]]]
    """Their tokens for the generator, (B, K, length)."""
    places: Int[Tensor, "B K"] | None
    """Their places in the knowledge base; None: not known in the batch."""
    pairs: Pairs | None
    """Queries and gold passages, for the contrastive loss."""
    parts: dict[str, Tensor]
    """What is logged of them."""
    tokens: int
    """Tokens that the retriever read, without padding."""
    padded_tokens: int
    """The same with padding."""


class VectorIndex(Protocol):
    """What training needs of an index of passage vectors (see `dalm.retrieval.training_index`)."""

    vectors: Tensor | None
    age: int
    work: float
    refreshes: int
    seconds: float
    places: np.ndarray
    """The passages that it holds, over all ranks."""

    def refresh(self, encode: Callable[[np.ndarray], Tensor], /) -> None:
        """Encode every passage again."""

    def search(self, queries: Tensor, k: int, /) -> tuple[Tensor, Tensor]:
        """Return scores and places of the k best passages of each query."""

    def lookup(self, places: Tensor, /) -> Tensor:
        """Return the vectors at places."""

    def write(self, places: Tensor, vectors: Tensor, /) -> None:
        """Replace the vectors at places."""

    def save(self, file: Path, /) -> None:
        """Write this rank's share."""

    def load(self, file: Path, /) -> str | None:
        """Read this rank's share, or return why that can't be."""


class CandidateSource(ABC):
    """Give each query of a batch its candidates."""

    num_candidates: int
    """K: candidates of a query, at most."""
    chunk: int | None = None
    """Texts that are embedded with gradient at a time; None: the whole batch."""

    @abstractmethod
    def __call__(self, batch: Batch, *, frozen: bool = False) -> Candidates:
        """Return the candidates of a batch; `frozen`: this update doesn't train the retriever."""

    @abstractmethod
    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what the questions of a batch find."""

    def begin_update(self, *, frozen: bool) -> None:  # noqa: B027
        """Prepare for an update."""

    def fewest_rows(self) -> int:
        """Return how many rows of a batch have as many candidates as those of a whole batch."""
        return 2

    def index_work(self) -> float:
        """Return the arithmetic of this rank since the index was encoded."""
        return 0.0

    def index_forecast(self, work: float, updates: int) -> IndexForecast | None:  # noqa: ARG002
        """Return what the index costs in updates of so much arithmetic each; None: no index."""
        return None

    def count_work(self, passes: float, weights: float, tokens: float) -> None:  # noqa: B027
        """Note arithmetic that was spent on training, in weights times tokens."""

    def save(self, file: Path) -> None:  # noqa: B027
        """Write this rank's state."""

    def load(self, file: Path) -> None:  # noqa: B027
        """Load this rank's state."""


class BatchCandidates(CandidateSource):
    """Take candidates from the gold passages and hard negatives of the batch, of all ranks.

    A query's own gold passage competes with the passages of other questions. Another gold passage
    of its question is a candidate like any where it stands beside the row's answer: the generator's
    score speaks for it. Where it stands beside other answers only it is none, as the row's answer
    would be held against a passage that is right.
    """

    def __init__(
        self,
        retriever: Retriever,
        num_candidates: int,
        temperature: float,
        *,
        chunk: int | None = None,
    ) -> None:
        self.retriever = retriever
        self.num_candidates, self.temperature = num_candidates, temperature
        self.chunk = chunk

    def __call__(self, batch: Batch, *, frozen: bool = False) -> Candidates:  # noqa: ARG002
        """Return the batch's best passages for each query."""
        pairs = embed_pairs(self.retriever, batch, self.chunk)
        scores = pairs.candidate_scores(1 / self.temperature, batch["no_candidates"])
        gold = pairs.gold_columns()
        columns = choose(scores, gold, batch["force_gold"], self.num_candidates)
        pieces = batch["pieces"].passages
        return Candidates(
            scores.gather(1, columns).log_softmax(1),
            [[pieces[column] for column in row] for row in columns.tolist()],
            batch["columns"][columns] if "columns" in batch else None,
            pairs,
            {},
            *token_counts(batch, self.chunk),
        )

    def fewest_rows(self) -> int:
        """Return K: so many rows have K passages."""
        return max(2, self.num_candidates)

    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what the batch's questions find among its passages."""
        return diagnose_batch(self.retriever, batch)


def choose(
    scores: Float[Tensor, "B P"], gold: Int[Tensor, "B"], force_gold: Bool[Tensor, "B"], most: int
) -> Int[Tensor, "B K"]:
    """Return the columns of the K best passages of each query, the gold one first if it is forced.

    K = min(most, usable columns of the query of any rank that has fewest); columns at −inf are
    unusable.
    """
    scores = scores.detach()
    at_gold = torch.arange(scores.shape[1], device=scores.device) == gold[:, None]
    first = scores.masked_fill(at_gold & force_gold[:, None], float("inf"))
    usable = smallest(int((first > MASKED).sum(1).min()), scores.device)
    return first.topk(max(1, min(most, usable)), dim=1).indices
