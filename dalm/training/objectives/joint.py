"""The objective that trains retriever and generator together."""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dalm.collectives import gather
from dalm.models.generator import Generator
from dalm.models.prompt_frame import Prompt
from dalm.models.retriever import Retriever
from dalm.training import losses
from dalm.training.data.batches import Batch
from dalm.training.gradient_cache import micro_batches
from dalm.training.objectives.candidates import (
    BOTH_WAYS,
    FORWARD,
    Candidates,
    InBatch,
    Searched,
    worked_weights,
)
from dalm.training.objectives.contrastive import contrast
from dalm.training.objectives.diagnostics import Probed, Seen
from dalm.training.objectives.objective import Loss
from dalm.training.scoring import (
    answer_mask,
    candidate_prompts,
    judge,
    score_answers,
    score_candidates,
)

Joint = Literal["rag_token", "rag_sequence", "emdr2", "pdist", "lsr"]
MARGINAL = ("rag_token", "rag_sequence")
DISTILLED = ("pdist", "lsr")


class RagEndToEnd(Probed):
    """Train retriever and generator jointly: the generator's likelihoods reach both encoders.

    total = contrastive_weight · info_nce + joint, with the prior p over the K candidates of a query
    and ℓ the log-probabilities of the answer's tokens on each:

    - `rag_token`, `rag_sequence`: the marginal likelihood, over answer tokens. Trains both.
    - `emdr2`: `rag_token` with ℓ detached for the retriever, and a reader's loss.
    - `pdist`, `lsr`: KL(target ‖ p) for the retriever, over queries, and a reader's loss.

    The reader's loss is supervised tuning on one prompt with the best `reader_passages` candidates
    in random order. A statement weighs `batch["weights"]` in each mean.

    Sources: Lewis et al. 2020 (arXiv:2005.11401); Siriwardhana et al. 2023 (arXiv:2210.02627);
    Sachan et al. 2021 (arXiv:2106.05346); Izacard et al. 2022 (arXiv:2208.03299); Shi et al. 2023
    (arXiv:2301.12652).
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        source: InBatch | Searched,
        *,
        joint: Joint,
        scale: float,
        contrastive_weight: float = 1.0,
        target_temperature: float | Literal["auto"] = "auto",
        reader_passages: int = 1,
        reader_warmup: float = 0.0,
    ) -> None:
        super().__init__(retriever, generator, scale=scale, contrastive_weight=contrastive_weight)
        self.source = source
        self.joint = joint
        self.target_temperature = target_temperature
        self.reader_passages = reader_passages
        self.reader_warmup = reader_warmup
        self.warming = False
        self.worked_weights = worked_weights(generator)
        self.trains_generator = any(p.requires_grad for p in generator.parameters())
        self.trains_retriever = any(p.requires_grad for p in retriever.parameters())

    def weighed_tokens(self, batch: Batch) -> float:
        """Return the answers' tokens, each times its row's weight."""
        lengths = batch["pieces"].answer_lengths()
        weights = batch.get("weights")
        if weights is None:
            return float(sum(lengths))
        return float(sum(w * n for w, n in zip(weights.tolist(), lengths, strict=True)))

    def begin_update(self, progress: float) -> None:
        """Let the retriever rest during the reader's warm-up; keep the index fresh."""
        self.warming = progress < self.reader_warmup
        if isinstance(self.source, Searched):
            self.source.begin_update(resting=self.warming)

    def resting(self) -> set[str]:
        """Return the retriever while the generator learns to read."""
        return {"retriever"} if self.warming else set()

    def forward(self, batch: Batch) -> Loss:
        """Return the joint loss of the batch."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.warming):
            found = self._find(batch)
            contrasted = self._contrast(found)
        prompts = self._prompts(batch, [[p] for row in found.passages for p in row])
        terms, parts = self._terms(batch, found, prompts)
        if "info_nce" in contrasted:
            terms["info_nce"] = self.contrastive_weight * contrasted["info_nce"]
        parts |= {name: part.detach() for name, part in contrasted.items()} | found.parts
        total = torch.stack(list(terms.values())).sum()
        if self.warming:  # DDP waits for a gradient of every weight
            total = total + 0 * sum(p.sum() for p in self.retriever.parameters() if p.requires_grad)
        lengths = [prompt.length for prompt in prompts]
        parts["prompt_tokens"] = torch.tensor(float(sum(lengths)), device=total.device)
        return Loss(total, parts, found.read + sum(lengths), found.slots + padded(lengths, batch))

    def _find(self, batch: Batch) -> Candidates:
        if isinstance(self.source, InBatch):
            return self.source(batch)
        return self.source(batch, resting=self.warming)

    def _contrast(self, found: Candidates) -> dict[str, Tensor]:
        """Return the contrastive loss and its accuracy, if there is something to contrast."""
        pairs = found.pairs
        if pairs is None or not self.trains_retriever:
            return {}
        return contrast(pairs, self.scale)

    def _terms(
        self, batch: Batch, found: Candidates, prompts: list[Prompt]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the joint loss in terms to be added up, and what is logged of them."""
        log_prior = found.log_prior
        mask = answer_mask(torch.tensor(batch["pieces"].answer_lengths())).to(log_prior.device)
        weights = batch.get("weights", torch.ones(len(mask))).to(log_prior)
        tokens = batch.get("weighed_tokens") or self.weighed_tokens(batch)
        score = score_candidates if self.joint in MARGINAL else judge
        log_probs = score(self.generator, prompts, log_prior.shape[1])
        self._count_work(sum(prompt.length for prompt in prompts), log_prior.shape[1])
        terms: dict[str, Tensor] = {}
        if self.joint in DISTILLED:
            target = self._target_logits(log_probs, mask)
            terms[self.joint] = (weights * losses.distil(log_prior, target)).sum() / weights.sum()
        else:
            loss = losses.rag_sequence if self.joint == "rag_sequence" else losses.rag_token
            target = (log_prior + log_probs.sum(-1)).detach()
            terms[self.joint] = (weights * loss(log_prior, log_probs, mask)).sum() / tokens
        if self.joint not in MARGINAL and self.trains_generator:
            read = score_answers(self.generator, self._reader_prompts(batch, found))
            terms["reader"] = -(weights[:, None] * read).sum() / tokens
        parts = {name: term.detach() for name, term in terms.items()} | {
            "best_nll": -log_probs.detach()[:, 0].sum() / mask.sum(),
            "target_passages": losses.effective_passages(target).mean(),
        }
        return terms, parts | prior_parts(log_prior)

    def _count_work(self, tokens: int, candidates: int) -> None:
        if isinstance(self.source, Searched):
            passes = FORWARD + (BOTH_WAYS / candidates if self.trains_generator else 0)
            self.source.count_work(passes, self.worked_weights, tokens)

    def _target_logits(self, log_probs: Tensor, mask: Tensor) -> Float[Tensor, "B K"]:
        """Return the generator's judgement of each passage, over the target's temperature."""
        judged = losses.mean_log_probs(log_probs, mask)
        logits = judged.exp() if self.joint == "lsr" else judged
        temperature = self.target_temperature
        if temperature == "auto":
            # Batches with equal passages have fewer candidates: all ranks bring as many columns.
            missing = self.source.num_candidates - logits.shape[1]
            everyone = gather(F.pad(logits, (0, missing), value=float("-inf")))
            third = max(1.0, int(everyone.isfinite().any(0).sum()) / 3)
            temperature = losses.temperature_for(everyone, third)
        return logits / temperature

    def _reader_prompts(self, batch: Batch, found: Candidates) -> list[Prompt]:
        """Return a prompt for each query with its best candidates in random order."""
        chosen = []
        for passages in found.passages:
            best = passages[: self.reader_passages]
            chosen.append([best[place] for place in torch.randperm(len(best)).tolist()])
        return self._prompts(batch, chosen)

    def _prompts(self, batch: Batch, passages: list[list[list[int]]]) -> list[Prompt]:
        return candidate_prompts(self.generator, batch["pieces"], passages)

    def look(self, batch: Batch) -> Seen:
        """Return what some questions find, and the state of the index."""
        return self.source.look(batch)

    def candidates(self) -> int:
        """Return how many passages the prior is over."""
        return self.source.num_candidates

    def save_state(self, folder: Path, rank: int) -> None:
        """Write this rank's share of the index."""
        if isinstance(self.source, Searched):
            self.source.save(folder / f"index_{rank}.safetensors")

    def load_state(self, folder: Path, rank: int) -> None:
        """Take up this rank's share of the index."""
        if isinstance(self.source, Searched):
            self.source.load(folder / f"index_{rank}.safetensors")


def prior_parts(log_prior: Float[Tensor, "B K"]) -> dict[str, Tensor]:
    """Return what is logged of the prior: its entropy in nats, and 1/Σp²."""
    log_prior = log_prior.detach()
    return {
        "prior_entropy": losses.entropy(log_prior).mean(),
        "prior_passages": losses.effective_passages(log_prior).mean(),
    }


def padded(lengths: list[int], batch: Batch) -> int:
    """Return the tokens of prompts in micro-batches, with their padding."""
    sizes = torch.tensor(lengths).numpy()
    groups = micro_batches(sizes, len(batch["query"]["input_ids"]))
    return sum(len(group) * int(sizes[group].max()) for group in groups)
