"""Train retriever and generator with the original toolkit's loss, `dalm`."""

from typing import ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from dalm.config import RagE2E
from dalm.prompts import Prompt
from dalm.training import losses
from dalm.training.data.batches import Batch, Rows
from dalm.training.objectives.candidates import VectorIndex
from dalm.training.objectives.contrastive import contrast, embed_pairs, sharpness_of
from dalm.training.objectives.diagnostics import DIAGNOSTIC_ROWS, Diagnosis, diagnose_batch
from dalm.training.objectives.joint import JointObjective, prior_parts
from dalm.training.objectives.objective import Loss
from dalm.training.objectives.retriever_objective import token_counts
from dalm.training.scoring import candidate_prompts, score_candidates, tokens_read


class DalmObjective(JointObjective):
    """Train the two side by side: no gradient passes from the generator to the retriever.

    total = contrastive_weight · info_nce + `losses.dalm_nll` / tokens.
    """

    name: ClassVar[str] = "dalm"
    label: ClassVar[str] = "the original toolkit's loss: contrastive plus supervised tuning"
    trains_prompt: ClassVar[bool] = True

    @classmethod
    def from_config(cls, config: RagE2E, rows: Rows, index: VectorIndex | None = None) -> Self:
        """Return the objective over the batch's gold passages; it takes no index."""
        assert index is None
        assert rows.generator is not None
        made = cls(
            rows.retriever,
            rows.generator,
            scale=config.logit_scale or sharpness_of(rows.retriever).scale,
            contrastive_weight=config.contrastive_weight,
            chunk=config.contrastive_chunk,
        )
        made.diagnostic_batch = rows.diagnostic_batch(DIAGNOSTIC_ROWS)
        return made

    def weighted_tokens(self, batch: Batch) -> float:
        """Return the tokens of prompts and answers, without each row's first."""
        return float(sum(prompt.length - 1 for prompt in self._prompts(batch)))

    def forward(self, batch: Batch) -> Loss:
        """Return the loss of the batch."""
        pairs = embed_pairs(self.retriever, batch, self.chunk)
        contrasted = contrast(pairs, self.scale)
        prompts = self._prompts(batch)
        tokens = batch.get("weighted_tokens") or self.weighted_tokens(batch)
        whole = [Prompt(prompt.tokens, 1) for prompt in prompts]
        log_probs = score_candidates(self.generator, whole, 1, chunk=self.chunk)[:, 0]
        log_prior = pairs.scores(self.scale).log_softmax(1)
        log_gold = log_prior.gather(1, pairs.gold_columns()[:, None]).squeeze(1)
        lengths = torch.tensor(batch["pieces"].answer_lengths(), device=log_gold.device)
        nll = losses.dalm_nll(log_gold, log_probs, lengths).sum() / tokens
        parts = {name: part.detach() for name, part in contrasted.items()}
        parts |= prior_parts(log_prior) | {"best_nll": _answer_nll(log_probs, prompts)}
        texts_read, padded = token_counts(batch, self.chunk)
        sizes = [prompt.length for prompt in prompts]
        parts["prompt_tokens"] = torch.tensor(float(sum(sizes)), device=nll.device)
        prompts_read, prompts_padded = tokens_read(self.generator, whole, 1, self.chunk)
        return Loss(
            self.contrastive_weight * contrasted["info_nce"] + nll,
            parts | {"dalm": nll.detach()},
            texts_read + prompts_read,
            padded + prompts_padded,
        )

    def fewest_rows(self) -> int:
        """Return as many rows as fill a chunk."""
        return max(2, self.chunk or 0)

    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what a batch's questions find among its own passages."""
        return diagnose_batch(self.retriever, batch)

    def _prompts(self, batch: Batch) -> list[Prompt]:
        passages = [[passage] for passage in batch["pieces"].gold()]
        return candidate_prompts(self.generator, batch["pieces"], passages)


def _answer_nll(log_probs: Float[Tensor, "B T"], prompts: list[Prompt]) -> Float[Tensor, ""]:
    """Return the answers' part of the log-probabilities of whole prompts, per token."""
    answers = [
        row[prompt.answer_start - 1 : prompt.length - 1].sum()
        for row, prompt in zip(log_probs.detach(), prompts, strict=True)
    ]
    tokens = sum(prompt.length - prompt.answer_start for prompt in prompts)
    return -torch.stack(answers).sum() / tokens
