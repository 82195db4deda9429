"""Define the bases of the objectives that train a retriever and a generator together."""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dalm.collectives import is_sharded
from dalm.config import RagE2E
from dalm.models.batching import to_device
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.prompts import Prompt
from dalm.training import losses
from dalm.training.data.batches import Batch, Rows
from dalm.training.objectives.candidates import (
    BatchCandidates,
    Candidates,
    CandidateSource,
    VectorIndex,
)
from dalm.training.objectives.contrastive import MASKED, contrast, sharpness_of
from dalm.training.objectives.diagnostics import (
    DIAGNOSTIC_ROWS,
    Diagnosis,
    Reach,
    collapses,
    gaps,
)
from dalm.training.objectives.index_candidates import (
    FORWARD,
    FORWARD_AND_BACKWARD,
    IndexCandidates,
    weights_per_token,
)
from dalm.training.objectives.objective import IndexForecast, Loss, Objective
from dalm.training.scoring import (
    answer_mask,
    candidate_prompts,
    score_candidates,
    score_no_grad,
    tokens_read,
)


class JointObjective(Objective):
    """Train a retriever and a generator, and measure both on a few fixed rows for the log."""

    needs: ClassVar[frozenset[str]] = frozenset({"passage", "answer"})
    command: ClassVar[str] = RagE2E.command
    trains_prompt: ClassVar[bool] = False
    """Whether the prompt's tokens have a loss, too, and not only the answer's."""

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        *,
        scale: float,
        contrastive_weight: float = 1.0,
        chunk: int | None = None,
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.scale = scale
        self.contrastive_weight = contrastive_weight
        self.chunk = chunk
        self.diagnostic_batch: Batch | None = None
        self.reach: Reach | None = None

    @classmethod
    @abstractmethod
    def from_config(cls, config: RagE2E, rows: Rows, index: VectorIndex | None = None) -> Self:
        """Return the objective that the options ask for, over the models and passages of `rows`.

        `index` holds the vectors of the knowledge base; None: candidates come from the batch.
        """

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

    @abstractmethod
    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what the questions of a batch find."""

    def candidates(self) -> int:
        """Return how many passages the prior is over."""
        return 1

    def observe(self) -> dict[str, float]:
        """Return, for the diagnostic rows, what a passage is worth and what is found."""
        if self.diagnostic_batch is None:
            return {}
        with evaluating(self), torch.no_grad(), self.retriever.placement.autocast():
            batch = to_device(self.diagnostic_batch, self.retriever.device)
            found = self.diagnose(batch)
            self.reach = found.reach
            return gaps(self.generator, batch["pieces"], found.passages) | found.figures

    def warnings(self, line: dict[str, float]) -> dict[str, str]:
        """Return the collapses that a line of the log shows, with what to try."""
        return collapses(line, self.candidates(), self.reach)


def prior_parts(log_prior: Float[Tensor, "B K"]) -> dict[str, Tensor]:
    """Return what is logged of the prior: its entropy in nats, and 1/Σp²."""
    log_prior = log_prior.detach()
    return {
        "prior_entropy": losses.entropy(log_prior).mean(),
        "prior_passages": losses.effective_passages(log_prior).mean(),
    }


class Scored(NamedTuple):
    """The candidates of a batch, scored by retriever and generator."""

    log_prior: Float[Tensor, "B K"]
    log_probs: Float[Tensor, "B K T"]
    mask: Bool[Tensor, "B T"]
    weights: Float[Tensor, "B"]
    """Weight of each query's answer."""
    tokens: float
    """Answer tokens, weighted, over which token losses are averaged."""
    teacher: Float[Tensor, "B K"] | None = None
    """Logits of a table's teacher's softmax over the candidates, −inf where it has no score."""


class RagObjective(JointObjective):
    """Train with total = contrastive_weight · info_nce + joint loss (+ reader loss).

    The joint loss is over p, the prior over a query's K candidates, and ℓ, the log-probabilities of
    the answer's tokens given each. A statement weighs `batch["weights"]` in each mean.

    A subclass whose `has_reader_loss` is set scores the candidates without gradient; its generator
    is trained by supervised tuning on one prompt with the best `reader_passages` candidates in
    random order. Otherwise the joint loss trains both.

    Sources: Lewis et al. 2020 (arXiv:2005.11401); Siriwardhana et al. 2023 (arXiv:2210.02627).
    """

    has_reader_loss: ClassVar[bool]

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        source: CandidateSource,
        *,
        scale: float,
        contrastive_weight: float = 1.0,
        target_temperature: float | Literal["auto"] = "auto",
        teacher_mix: float = 0.0,
        reader_passages: int = 1,
        reader_warmup: float = 0.0,
        skip_gradient_below: float = 0.0,
    ) -> None:
        super().__init__(
            *(retriever, generator),
            scale=scale,
            contrastive_weight=contrastive_weight,
            chunk=source.chunk,
        )
        self.source = source
        self.target_temperature, self.teacher_mix = target_temperature, teacher_mix
        self.reader_passages = reader_passages
        self.reader_warmup = reader_warmup
        self.skip_gradient_below = skip_gradient_below
        self.warming_up = False
        self.generator_weights = weights_per_token(generator)
        self.trains_generator = any(p.requires_grad for p in generator.parameters())
        self.trains_retriever = any(p.requires_grad for p in retriever.parameters())

    @classmethod
    def from_config(cls, config: RagE2E, rows: Rows, index: VectorIndex | None = None) -> Self:
        """Return the objective over the batch's passages, or over those of an index."""
        assert rows.generator is not None
        made = cls(
            rows.retriever,
            rows.generator,
            candidate_source(config, rows, index),
            scale=config.logit_scale or sharpness_of(rows.retriever).scale,
            contrastive_weight=config.contrastive_weight,
            target_temperature=config.target_temperature,
            teacher_mix=config.teacher_mix,
            reader_passages=config.reader_passages,
            reader_warmup=config.reader_warmup,
            skip_gradient_below=config.skip_gradient_below,
        )
        made.diagnostic_batch = rows.diagnostic_batch(DIAGNOSTIC_ROWS)
        rows.generator.reader_passages = config.reader_passages
        return made

    def weighted_tokens(self, batch: Batch) -> float:
        """Return the answers' tokens, each times its row's weight."""
        lengths = batch["pieces"].answer_lengths()
        weights = batch.get("weights")
        if weights is None:
            return float(sum(lengths))
        return float(sum(w * n for w, n in zip(weights.tolist(), lengths, strict=True)))

    def begin_update(self, progress: float) -> None:
        """Freeze the retriever during the reader's warm-up; refresh the index where it is due."""
        self.warming_up = progress < self.reader_warmup
        self.source.begin_update(frozen=self.warming_up)

    def frozen_models(self) -> set[str]:
        """Return the retriever during the reader's warm-up."""
        return {"retriever"} if self.warming_up else set()

    def fewest_rows(self) -> int:
        """Return how many rows of a batch have as many candidates as those of a whole batch."""
        return max(self.source.fewest_rows(), self.chunk or 0)

    def index_work(self) -> float:
        """Return the arithmetic of this rank since the index was encoded."""
        return self.source.index_work()

    def index_forecast(self, work: float, updates: int) -> IndexForecast | None:
        """Return what the index costs in updates of so much arithmetic each; None: no index."""
        return self.source.index_forecast(work, updates)

    def forward(self, batch: Batch) -> Loss:
        """Return the joint loss of the batch."""
        contrasted = {}
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.warming_up):
            found = self.source(batch, frozen=self.warming_up)
            if found.pairs is not None and self.trains_retriever:
                contrasted = contrast(found.pairs, self.scale)
        each = [[passage] for row in found.passages for passage in row]
        prompts = candidate_prompts(self.generator, batch["pieces"], each)
        terms, parts = self._terms(batch, found, prompts)
        if contrasted:
            terms["info_nce"] = self.contrastive_weight * contrasted["info_nce"]
        parts |= {name: part.detach() for name, part in contrasted.items()} | found.parts
        total = torch.stack(list(terms.values())).sum()
        if self.warming_up and not is_sharded(self.retriever):
            # DDP waits for a gradient of every weight.
            total = total + 0 * sum(p.sum() for p in self.retriever.parameters() if p.requires_grad)
        lengths = [prompt.length for prompt in prompts]
        parts["prompt_tokens"] = torch.tensor(float(sum(lengths)), device=total.device)
        candidates = found.log_prior.shape[1]
        read, padded = tokens_read(self.generator, prompts, candidates, self.chunk)
        self.source.count_work(self._passes(candidates), self.generator_weights, read)
        return Loss(total, parts, found.tokens + read, found.padded_tokens + padded)

    @abstractmethod
    def joint_loss(self, scored: Scored) -> tuple[Float[Tensor, ""], Float[Tensor, "B K"]]:
        """Return the joint loss, and the logits of the candidates' target weights for the log."""

    def _terms(
        self, batch: Batch, found: Candidates, prompts: list[Prompt]
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the terms of the joint loss, to be summed, and what is logged of them."""
        log_prior = found.log_prior
        mask = answer_mask(torch.tensor(batch["pieces"].answer_lengths())).to(log_prior.device)
        weights = batch.get("weights", torch.ones(len(mask))).to(log_prior)
        tokens = batch.get("weighted_tokens") or self.weighted_tokens(batch)
        candidates = log_prior.shape[1]
        if self.has_reader_loss:
            log_probs = score_no_grad(self.generator, prompts, candidates, self.chunk)
        else:
            log_probs = score_candidates(
                *(self.generator, prompts, candidates),
                skip_below=self.skip_gradient_below,
                chunk=self.chunk,
            )
        teacher = teacher_logits(batch, found)
        loss, target = self.joint_loss(Scored(log_prior, log_probs, mask, weights, tokens, teacher))
        terms = {self.name: loss}
        if self.has_reader_loss and self.trains_generator:
            asked = self._reader_prompts(batch, found)
            answers = score_candidates(self.generator, asked, 1, chunk=self.chunk)
            terms["reader"] = -(weights[:, None, None] * answers).sum() / tokens
        parts = {name: term.detach() for name, term in terms.items()} | {
            "best_nll": -log_probs.detach()[:, 0].sum() / mask.sum(),
            "target_passages": losses.effective_passages(target).mean(),
        }
        if teacher is not None:
            parts["teacher_rows"] = teacher.isfinite().any(1).float().mean()
        return terms, parts | prior_parts(log_prior)

    def _passes(self, candidates: int) -> float:
        """Return what the generator costs per token of the candidates' prompts, at most."""
        if not self.trains_generator:
            return FORWARD
        if self.has_reader_loss:
            return FORWARD + FORWARD_AND_BACKWARD / candidates  # the reader's prompt is about one
        return FORWARD_AND_BACKWARD + (FORWARD if candidates > 1 else 0)

    def _reader_prompts(self, batch: Batch, found: Candidates) -> list[Prompt]:
        """Return a prompt for each query with its best candidates in random order."""
        chosen = []
        for passages in found.passages:
            best = passages[: self.reader_passages]
            chosen.append([best[place] for place in torch.randperm(len(best)).tolist()])
        return candidate_prompts(self.generator, batch["pieces"], chosen)

    def diagnose(self, batch: Batch) -> Diagnosis:
        """Return what a batch's questions find, and the state of the index."""
        return self.source.diagnose(batch)

    def candidates(self) -> int:
        """Return how many passages the prior is over."""
        return self.source.num_candidates

    def save_state(self, folder: Path, rank: int) -> None:
        """Write this rank's share of the index."""
        self.source.save(folder / f"index_{rank}.safetensors")

    def load_state(self, folder: Path, rank: int) -> None:
        """Load this rank's share of the index."""
        self.source.load(folder / f"index_{rank}.safetensors")


def teacher_logits(batch: Batch, found: Candidates) -> Float[Tensor, "B K"] | None:
    """Return the logits of a table's teacher for the candidates, −inf for those without a score."""
    if "teacher_places" not in batch:
        return None
    assert found.places is not None
    same = found.places[:, :, None] == batch["teacher_places"][:, None, :]  # (B, K, scored)
    logits = batch["teacher_logits"][:, None, :].expand(same.shape)
    none = logits.new_full((*same.shape[:2], 1), MASKED)
    return torch.cat([logits.masked_fill(~same, MASKED), none], 2).amax(2).to(found.log_prior)


def candidate_source(config: RagE2E, rows: Rows, index: VectorIndex | None) -> CandidateSource:
    """Return where the options take candidates from: the batch, or an index."""
    num_candidates = config.num_candidates or (4 if index is None else 8)
    temperature = config.marginal_temperature or sharpness_of(rows.retriever).temperature
    chunk = config.contrastive_chunk
    if index is None:
        return BatchCandidates(rows.retriever, num_candidates, temperature, chunk=chunk)
    return IndexCandidates(
        rows.retriever,
        rows.base,
        index,
        num_candidates=num_candidates,
        temperature=temperature,
        over_retrieve=config.over_retrieve,
        write_back=config.write_back,
        refresh_budget=config.refresh_budget,
        skip_gradient_below=config.skip_gradient_below,
        contrasts=bool((rows.gold >= 0).any()),
        chunk=chunk,
    )
