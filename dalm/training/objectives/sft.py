"""Fine-tune a generator to answer questions from the passages in its prompt."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import torch

from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.retriever import Retriever
from dalm.prompts import Prompt
from dalm.training.data.batches import Batch
from dalm.training.data.sft_rows import SftRows
from dalm.training.objectives.diagnostics import DIAGNOSTIC_ROWS
from dalm.training.objectives.objective import Loss, Objective
from dalm.training.scoring import score_answers, score_no_grad


class SupervisedFineTuning(Objective):
    """Fine-tune a generator to write the answer from passages and question.

    loss = −Σ log p(answer token | prompt, answer tokens before it) / answer tokens, over the tokens
    of all answers of an update, EOS included; no token of a prompt has a loss.
    """

    name: ClassVar[str] = "sft"
    label: ClassVar[str] = "supervised fine-tuning on the answer"
    needs: ClassVar[frozenset[str]] = frozenset({"answer"})

    def __init__(
        self,
        generator: Generator,
        reader_passages: int,
        diagnostic_prompts: tuple[list[Prompt], list[Prompt]] | None = None,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.diagnostic_prompts = diagnostic_prompts
        generator.reader_passages = reader_passages

    @classmethod
    def of(cls, rows: SftRows) -> Self:
        """Return the objective for the generator of the rows."""
        prompts = rows.diagnostic_prompts(DIAGNOSTIC_ROWS)
        return cls(rows.generator, rows.reader_passages, prompts)

    def models(self) -> Mapping[str, Retriever | Generator]:
        """Return the generator."""
        return {"generator": self.generator}

    def rows(self, batch: Batch) -> int:
        """Return the number of questions in a batch."""
        return len(batch["prompts"])

    def weighted_tokens(self, batch: Batch) -> float:
        """Return the answers' tokens."""
        return float(_answer_tokens(batch["prompts"]))

    def forward(self, batch: Batch) -> Loss:
        """Return the mean of the answers' tokens' negative log-probabilities."""
        prompts = batch["prompts"]
        log_probs = score_answers(self.generator, prompts)  # (rows, T), 0 after an answer's end
        tokens = batch.get("weighted_tokens") or self.weighted_tokens(batch)
        lengths = [prompt.length for prompt in prompts]
        parts = {
            "answer_nll": -log_probs.detach().sum() / self.weighted_tokens(batch),
            "prompt_tokens": torch.tensor(float(sum(lengths)), device=log_probs.device),
        }
        padded = len(lengths) * max(lengths)
        return Loss(-log_probs.sum() / tokens, parts, sum(lengths), padded)

    def observe(self) -> dict[str, float]:
        """Return what the passages are worth on the diagnostic questions, `gap_none`.

        The mean log-probability per answer token with the best passages, the gold one among them,
        less that with none, in nats.
        """
        if self.diagnostic_prompts is None:
            return {}
        with evaluating(self), torch.no_grad(), self.generator.placement.autocast():
            with_them, without = (
                float(score_no_grad(self.generator, prompts).sum()) / _answer_tokens(prompts)
                for prompts in self.diagnostic_prompts
            )
        return {"gap_none": with_them - without}


def _answer_tokens(prompts: Sequence[Prompt]) -> int:
    return sum(prompt.length - prompt.answer_start for prompt in prompts)
