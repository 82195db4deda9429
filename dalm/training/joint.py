"""Objectives that train retriever and generator together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dalm.models.gathering import gather
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.prompts import Prompt
from dalm.training import losses
from dalm.training.batches import Batch
from dalm.training.candidates import (
    BOTH_WAYS,
    FORWARD,
    Candidates,
    InBatch,
    Searched,
    worked_weights,
)
from dalm.training.collapse import collapses
from dalm.training.objectives import Loss, Objective
from dalm.training.pairs import contrast, embed_pairs
from dalm.training.recompute import micro_batches
from dalm.training.scoring import answer_mask, judge, score_answers, score_candidates

Joint = Literal["rag_token", "rag_sequence", "emdr2", "pdist", "lsr"]
MARGINAL = ("rag_token", "rag_sequence")
DISTILLED = ("pdist", "lsr")


class RagEndToEnd(Objective):
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
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.source = source
        self.joint = joint
        self.scale = scale
        self.contrastive_weight = contrastive_weight
        self.target_temperature = target_temperature
        self.reader_passages = reader_passages
        self.reader_warmup = reader_warmup
        self.warming = False
        self.probe: Batch | None = None
        self.worked_weights = worked_weights(generator)
        self.trains_generator = any(p.requires_grad for p in generator.parameters())
        self.trains_retriever = any(p.requires_grad for p in retriever.parameters())

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

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
        return Loss(total, parts, found.read + sum(lengths), found.slots + _padded(lengths, batch))

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
            "prior_entropy": losses.entropy(log_prior.detach()).mean(),
            "prior_passages": losses.effective_passages(log_prior.detach()).mean(),
            "target_passages": losses.effective_passages(target).mean(),
        }
        return terms, parts

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
        """Return the prompts of each query's lists of passages, as many for every query."""
        pieces, frame = batch["pieces"], self.generator.frame
        each, longest = len(passages) // len(pieces.queries), self.generator.max_length
        return [
            frame.join(some, pieces.queries[i // each], pieces.answers[i // each], longest)
            for i, some in enumerate(passages)
        ]

    def observe(self) -> dict[str, float]:
        """Return, on the probe's questions, the worth of a passage and the state of the index.

        `gap_none` and `gap_random`: the mean log-probability per answer token with the gold (or
        the best) passage, less that with no passage and with one of another question, in nats.
        """
        if self.probe is None:
            return {}
        with evaluating(self), torch.no_grad(), self.retriever.placement.autocast():
            batch = self.probe
            passages, figures = self.source.observe(batch)
            others = passages[1:] + passages[:1]
            with_it = self._mean_log_prob(batch, [[passage] for passage in passages])
            without = self._mean_log_prob(batch, [[] for _ in passages])
            with_other = self._mean_log_prob(batch, [[passage] for passage in others])
        gaps = {"gap_none": with_it - without, "gap_random": with_it - with_other}
        return gaps | figures

    def _mean_log_prob(self, batch: Batch, passages: list[list[list[int]]]) -> float:
        log_probs = judge(self.generator, self._prompts(batch, passages))
        return float(log_probs.sum() / sum(batch["pieces"].answer_lengths()))

    def warnings(self, line: dict[str, float]) -> dict[str, str]:
        """Return the collapses that a line shows, with what to try."""
        return collapses(line, self.source.num_candidates)

    def save_state(self, folder: Path, rank: int) -> None:
        """Write this rank's share of the index."""
        if isinstance(self.source, Searched):
            self.source.save(folder / f"index_{rank}.safetensors")

    def load_state(self, folder: Path, rank: int) -> None:
        """Take up this rank's share of the index."""
        if isinstance(self.source, Searched):
            self.source.load(folder / f"index_{rank}.safetensors")


class Separate(Objective):
    """Train the two side by side with the original toolkit's loss, `dalm`.

    total = contrastive_weight · info_nce + `losses.separate` / tokens: no gradient passes from the
    generator to the retriever.
    """

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        *,
        scale: float,
        contrastive_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.retriever = retriever
        self.generator = generator
        self.scale = scale
        self.contrastive_weight = contrastive_weight

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the retriever and the generator."""
        return {"retriever": self.retriever, "generator": self.generator}

    def weighed_tokens(self, batch: Batch) -> float:
        """Return the tokens of prompts and answers, but for each row's first."""
        return float(sum(prompt.length - 1 for prompt in self._prompts(batch)))

    def forward(self, batch: Batch) -> Loss:
        """Return the loss of the batch."""
        pairs = embed_pairs(self.retriever, batch)
        contrasted = contrast(pairs, self.scale)
        prompts = self._prompts(batch)
        tokens = batch.get("weighed_tokens") or self.weighed_tokens(batch)
        log_probs = score_answers(self.generator, [Prompt(p.tokens, 1) for p in prompts])
        log_gold = pairs.scores(self.scale).log_softmax(1)
        log_gold = log_gold.gather(1, pairs.gold_columns()[:, None]).squeeze(1)
        lengths = torch.tensor(batch["pieces"].answer_lengths(), device=log_gold.device)
        apart = losses.separate(log_gold, log_probs, lengths).sum() / tokens
        parts = {name: part.detach() for name, part in contrasted.items()}
        masks = [batch["query"]["attention_mask"], batch["passage"]["attention_mask"]]
        sizes = [prompt.length for prompt in prompts]
        parts["prompt_tokens"] = torch.tensor(float(sum(sizes)), device=apart.device)
        return Loss(
            self.contrastive_weight * contrasted["info_nce"] + apart,
            parts | {"dalm": apart.detach()},
            sum(int(mask.sum()) for mask in masks) + sum(sizes),
            sum(mask.numel() for mask in masks) + _padded(sizes, batch),
        )

    def _prompts(self, batch: Batch) -> list[Prompt]:
        pieces, frame = batch["pieces"], self.generator.frame
        rows = zip(pieces.passages, pieces.queries, pieces.answers, strict=False)
        return [frame.join([p], q, a, self.generator.max_length) for p, q, a in rows]


def _padded(lengths: list[int], batch: Batch) -> int:
    """Return the tokens of prompts in micro-batches, with their padding."""
    sizes = torch.tensor(lengths).numpy()
    groups = micro_batches(sizes, len(batch["query"]["input_ids"]))
    return sum(len(group) * int(sizes[group].max()) for group in groups)
