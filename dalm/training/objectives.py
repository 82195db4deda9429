"""Objectives: a batch goes in, a loss comes out; whatever has a gradient happens inside.

So DDP, FSDP and autocast see one forward, and one trainer trains them all.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.prompts import Prompt
from dalm.training import losses
from dalm.training.batches import Batch, Pieces
from dalm.training.gathering import gather, world
from dalm.training.scoring import answer_mask, micro_batches, score_answers, score_candidates

Marginal = Literal["dalm", "rag_token", "rag_sequence"]
MASKED = float("-inf")


class Loss(NamedTuple):
    """A batch's loss and what is logged of it."""

    total: Float[Tensor, ""]
    parts: dict[str, Tensor]
    tokens: int
    """Tokens that the models read, without padding and without a second pass."""
    slots: int
    """The same with padding."""


class Objective(nn.Module, ABC):
    """Something to train: models and what is asked of them."""

    @abstractmethod
    def forward(self, batch: Batch) -> Loss:
        """Return the loss of a batch."""

    @abstractmethod
    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return what is trained, by the name of the folder that it is written to."""

    def weighed_tokens(self, batch: Batch) -> int:  # noqa: ARG002
        """Return the number of tokens over which this batch's loss is a mean; 0 if over queries.

        The trainer adds it up over the batches of a step, so that accumulating small batches gives
        the mean over the tokens of all of them.
        """
        return 0

    def export(self, folder: Path) -> None:
        """Write what a user takes away: a folder for each model."""
        for name, model in self.models().items():
            model.export(folder / name)


class Contrastive(Objective):
    """Train a retriever on pairs: the other passages of the batch, of all ranks, are negatives."""

    def __init__(self, retriever: Retriever, scale: float) -> None:
        super().__init__()
        self.retriever = retriever
        self.scale = scale

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever."""
        return {"retriever": self.retriever}

    def forward(self, batch: Batch) -> Loss:
        """Return the symmetric InfoNCE of the batch (`losses.info_nce`)."""
        pairs = embed_pairs(self.retriever, batch)
        total, accuracy = contrast(pairs, self.scale)
        parts = {"info_nce": total.detach(), "in_batch_accuracy": accuracy}
        return Loss(total, parts, *_sizes(batch))


class RagEndToEnd(Objective):
    """Train retriever and generator jointly on question, answer and gold passage.

    total = contrastive_weight · info_nce + marginal / tokens. For `rag_token` and `rag_sequence`
    the marginal is over the K best passages of the batch, the gold one among them, with the prior
    p = softmax(cosine / temperature): the generator's likelihoods reach both encoders. `dalm` is
    the original toolkit's loss, which separates (see `losses.separate`).
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        *,
        marginal: Marginal,
        scale: float,
        num_candidates: int,
        temperature: float,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.marginal = marginal
        self.scale = scale
        self.num_candidates = num_candidates
        self.temperature = temperature
        self.contrastive_weight = contrastive_weight

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

    def weighed_tokens(self, batch: Batch) -> int:
        """Return the answers' tokens; for `dalm` also the prompts', but for each row's first."""
        pieces = batch["pieces"]
        if self.marginal != "dalm":
            return sum(pieces.answer_lengths())
        return sum(prompt.length - 1 for prompt in self._gold_prompts(pieces))

    def forward(self, batch: Batch) -> Loss:
        """Return the joint loss of the batch."""
        pairs = embed_pairs(self.retriever, batch)
        nce, accuracy = contrast(pairs, self.scale)
        tokens = batch.get("weighed_tokens") or self.weighed_tokens(batch)
        term = self._separate if self.marginal == "dalm" else self._marginal
        answers, parts, prompts = term(batch, pairs)
        answers = answers.sum() / tokens
        parts = {
            "info_nce": nce.detach(),
            self.marginal: answers.detach(),
            "in_batch_accuracy": accuracy,
            **parts,
        }
        total = self.contrastive_weight * nce + answers
        return Loss(total, parts, *_sizes(batch, [prompt.length for prompt in prompts]))

    def _separate(
        self, batch: Batch, pairs: "Pairs"
    ) -> tuple[Tensor, dict[str, Tensor], list[Prompt]]:
        prompts = self._gold_prompts(batch["pieces"])
        everything = [Prompt(prompt.tokens, 1) for prompt in prompts]
        log_probs = score_answers(self.generator, everything)
        scores = pairs.scores(self.scale)
        log_gold = scores.log_softmax(1).gather(1, pairs.gold_columns()[:, None]).squeeze(1)
        lengths = torch.tensor(batch["pieces"].answer_lengths(), device=log_gold.device)
        return losses.separate(log_gold, log_probs, lengths), {}, prompts

    def _marginal(
        self, batch: Batch, pairs: "Pairs"
    ) -> tuple[Tensor, dict[str, Tensor], list[Prompt]]:
        pieces = batch["pieces"]
        log_prior, candidates = self._in_batch_candidates(pairs)
        table = candidates.tolist()
        prompts = [
            self._prompt(pieces, row, passage)
            for row, found in enumerate(table)
            for passage in found
        ]
        log_probs = score_candidates(self.generator, prompts, len(table[0]))
        mask = answer_mask(torch.tensor(pieces.answer_lengths())).to(log_probs.device)
        loss = losses.rag_token if self.marginal == "rag_token" else losses.rag_sequence
        posterior = (log_prior + log_probs.sum(-1)).detach()
        parts = {
            "gold_nll": -log_probs.detach()[:, 0].sum() / mask.sum(),
            "prior_passages": losses.effective_passages(log_prior.detach()).mean(),
            "posterior_passages": losses.effective_passages(posterior).mean(),
        }
        return loss(log_prior, log_probs, mask), parts, prompts

    def _in_batch_candidates(
        self, pairs: "Pairs"
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return log p and the places of the K best passages of this rank's batch, gold first."""
        scores = pairs.local_scores(1 / self.temperature)
        own = torch.arange(len(scores), device=scores.device)[:, None]
        most = min(self.num_candidates, scores.shape[1])
        first = scores.detach().scatter(1, own, float("inf"))
        candidates = first.topk(most, dim=1).indices
        return scores.gather(1, candidates).log_softmax(1), candidates

    def _gold_prompts(self, pieces: Pieces) -> list[Prompt]:
        return [self._prompt(pieces, row, row) for row in range(len(pieces.queries))]

    def _prompt(self, pieces: Pieces, row: int, passage: int) -> Prompt:
        return self.generator.frame.join(
            [pieces.passages[passage]],
            pieces.queries[row],
            pieces.answers[row],
            self.generator.max_length,
        )


class Pairs:
    """The embedded batch: this rank's rows and, for the negatives, every rank's."""

    def __init__(self, queries: Tensor, passages: Tensor, keys: Tensor) -> None:
        self.queries, self.passages, self.keys = queries, passages, keys
        self.size = len(queries)
        self.rank, _ = world()
        # Hard negatives stay where they are; gold passages and queries travel.
        self.all_queries = gather(queries)
        self.all_gold = gather(passages[: self.size])
        self.all_keys = gather(keys[: self.size])

    def gold_columns(self) -> Int[Tensor, "B"]:
        """Return the column of each query's gold passage, and the row of each passage's query."""
        start = self.rank * self.size
        return torch.arange(start, start + self.size, device=self.queries.device)

    def scores(self, scale: float) -> Float[Tensor, "B C"]:
        """Return scale · cosine of this rank's queries with all gold passages and own negatives."""
        columns = torch.cat([self.all_gold, self.passages[self.size :]])
        keys = torch.cat([self.all_keys, self.keys[self.size :]])
        return self._masked(scale * self.queries @ columns.T, keys, self.gold_columns())

    def scores_by_passage(self, scale: float) -> Float[Tensor, "B Q"]:
        """Return scale · cosine of this rank's gold passages with all queries."""
        own = self.gold_columns()
        scores = scale * self.passages[: self.size] @ self.all_queries.T
        return self._masked(scores, self.all_keys, own)

    def local_scores(self, scale: float) -> Float[Tensor, "B C"]:
        """Return scale · cosine of this rank's queries with this rank's passages."""
        own = torch.arange(self.size, device=self.queries.device)
        return self._masked(scale * self.queries @ self.passages.T, self.keys, own)

    def _masked(self, scores: Tensor, keys: Tensor, own: Tensor) -> Tensor:
        wrong = losses.false_negatives(self.keys[: self.size], keys, own)
        return scores.masked_fill(wrong, MASKED)


def embed_pairs(retriever: Retriever, batch: Batch) -> Pairs:
    """Embed a batch's queries and passages, with gradient."""
    queries, passages = retriever.embed(batch["query"]), retriever.embed(batch["passage"])
    return Pairs(queries, passages, batch["keys"])


def contrast(pairs: Pairs, scale: float) -> tuple[Tensor, Tensor]:
    """Return the symmetric InfoNCE over all ranks and the share of queries that find their gold."""
    own = pairs.gold_columns()
    scores = pairs.scores(scale)
    total = losses.info_nce(scores, pairs.scores_by_passage(scale), own, own)
    return total, (scores.detach().argmax(1) == own).float().mean()


def _sizes(batch: Batch, prompts: Sequence[int] = ()) -> tuple[int, int]:
    """Return how many tokens a batch has, its prompts' included, without and with padding."""
    sides: list[dict[str, Any]] = [batch["query"], batch["passage"]]
    read = sum(int(side["attention_mask"].sum()) for side in sides) + sum(prompts)
    slots = sum(side["attention_mask"].numel() for side in sides)
    lengths = np.array(prompts, np.int64)
    groups = micro_batches(lengths, len(batch["query"]["input_ids"]))
    return read, slots + sum(len(group) * int(lengths[group].max()) for group in groups)
