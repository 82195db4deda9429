"""Supervised tuning of a generator: passages and a question in the prompt, the answer to write."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.prompt_frame import Prompt
from dalm.models.retriever import Retriever
from dalm.training.data.batches import Batch
from dalm.training.data.sft_rows import ReadingRows
from dalm.training.objectives.diagnostics import PROBE
from dalm.training.objectives.objective import Loss, Objective
from dalm.training.scoring import judge, score_answers


class Reading(Objective):
    """Tune a generator to write the answer from passages and question.

    loss = −Σ log p(answer token | prompt, answer tokens before it) / answer tokens, over the tokens
    of all answers of an update, each answer's EOS among them; no token of a prompt has a loss.
    """

    def __init__(
        self,
        generator: Generator,
        reader_passages: int,
        probe: tuple[list[Prompt], list[Prompt]] | None = None,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.probe = probe
        generator.reader_passages = reader_passages

    @classmethod
    def of(cls, rows: ReadingRows) -> "Reading":
        """Return what trains the rows' generator on them."""
        return cls(rows.generator, rows.reader_passages, rows.probe(PROBE))

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the generator."""
        return {"generator": self.generator}

    def rows(self, batch: Batch) -> int:
        """Return the number of questions in a batch."""
        return len(batch["prompts"])

    def weighed_tokens(self, batch: Batch) -> float:
        """Return the answers' tokens."""
        return float(_answer_tokens(batch["prompts"]))

    def forward(self, batch: Batch) -> Loss:
        """Return the mean of the answers' tokens' negative log-probabilities."""
        prompts = batch["prompts"]
        log_probs = score_answers(self.generator, prompts)  # (rows, T), 0 behind an answer's end
        tokens = batch.get("weighed_tokens") or self.weighed_tokens(batch)
        lengths = [prompt.length for prompt in prompts]
        parts = {"answer_nll": -log_probs.detach().sum() / self.weighed_tokens(batch)}
        return Loss(
            -log_probs.sum() / tokens,
            parts | _as_tensors({"prompt_tokens": sum(lengths)}, log_probs),
            sum(lengths),
            len(lengths) * max(lengths),
        )

    def observe(self) -> dict[str, float]:
        """Return the worth of the passages on the probe's questions, `gap_none`.

        The mean log-probability per answer token with the best passages, the gold one among them,
        less that with none, in nats.
        """
        if self.probe is None:
            return {}
        with evaluating(self), torch.no_grad(), self.generator.placement.autocast():
            with_them, without = (
                float(judge(self.generator, prompts).sum()) / _answer_tokens(prompts)
                for prompts in self.probe
            )
        return {"gap_none": with_them - without}


def _answer_tokens(prompts: Sequence[Prompt]) -> int:
    return sum(prompt.length - prompt.answer_start for prompt in prompts)


def _as_tensors(values: Mapping[str, float], like: Tensor) -> dict[str, Tensor]:
    return {name: torch.tensor(float(v), device=like.device) for name, v in values.items()}
