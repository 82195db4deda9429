"""Score a passage by how likely a generator that reads it finds the answer.

Nian et al., 2024, W-RAG (arXiv:2408.08444): the likelihood of the known answer, given each
candidate by itself, ranks the candidates without anybody having marked one.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

from dalm.config import ScoreCandidates
from dalm.models import generator_checks, loading
from dalm.models.fingerprint import generator_fingerprint
from dalm.models.generator import Generator, load_generator
from dalm.prompts import Prompt, read_prompt
from dalm.retrieval.embedding_cache import folder_of
from dalm.teachers.teacher import Needs, Pair, PairTeacher, required
from dalm.training.scoring import mean_log_probs

logger = logging.getLogger(__name__)


class AnswerLikelihood(PairTeacher):
    """Score by ℓ̄ = (1/T) Σ_t log p(answer token t | prompt with the passage, tokens before it).

    In nats per token, over the answer's T tokens with its EOS, in the generator's own prompt.
    """

    name: ClassVar[str] = "generator"
    label: ClassVar[str] = "generator's likelihood of the answer"
    unit: ClassVar[str] = "nats per answer token"
    needs: ClassVar[frozenset[Needs]] = frozenset({"answer"})
    temperature: ClassVar[float] = 0.1
    margin: ClassVar[float] = 0.2
    is_graded: ClassVar[bool] = True
    block: ClassVar[int] = 2_048  # pairs whose prompts are in memory at once

    def __init__(self, generator: Generator, cache: Path | None) -> None:
        super().__init__(cache)
        self.generator = generator

    @classmethod
    def check(cls, settings: ScoreCandidates) -> None:
        """Refuse no generator, one that isn't there, and a prompt file that isn't one."""
        name = required(settings, cls.name, "generator_name_or_path")
        loading.check_model_is_there(name, "generator")
        if settings.prompt is not None:
            read_prompt(settings.prompt)

    @classmethod
    def from_config(cls, settings: ScoreCandidates) -> Self:
        """Load the generator with its own prompt and length, unless the options have others."""
        name = required(settings, cls.name, "generator_name_or_path")
        adapter = settings.generator_peft_model_path
        generator = load_generator(
            name,
            replace(loading.placement_of(settings), frozen=True),
            adapter=adapter,
            max_length=settings.generator_max_len,
            prompt=settings.prompt,
            passages=1,
        )
        loading.tell("generator", adapter or name, generator_checks.description(generator))
        return cls(generator, folder_of(settings.cache, settings.cache_dir))

    @cached_property
    def identity(self) -> str:
        """A hash of weights, adapters, tokenizer, prompt, length and precision."""
        return generator_fingerprint(self.generator)

    def order(self, pairs: Sequence[Pair]) -> list[int]:
        """Return the places of the pairs, those with the same passage together: it is read once."""
        return sorted(range(len(pairs)), key=lambda row: pairs[row].passage)

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
        """Yield the scores batch by batch, of prompts of similar length.

        A pair whose question and answer alone are too long for a prompt has none.
        """
        fitted = truncated = 0
        order = self.order(pairs)
        for start in range(0, len(pairs), self.block):
            block = order[start : start + self.block]
            prompts = self._prompts([pairs[row] for row in block])
            places = [block[place] for place in prompts]
            truncated += sum(cut for _, cut in prompts.values())
            fitted += len(prompts)
            made = [prompt for prompt, _ in prompts.values()]
            for rows, scores in mean_log_probs(self.generator, made):
                yield {places[row]: score for row, score in zip(rows, scores, strict=True)}
        self._log_lengths(len(pairs), fitted, truncated)

    def _prompts(self, pairs: Sequence[Pair]) -> dict[int, tuple[Prompt, bool]]:
        """Return the prompts that have room for question and answer, and whether each is cut."""
        generator = self.generator
        queries, answers, passages = (
            {text: row.tolist() for text, row in zip(texts, tokenise(texts), strict=True)}
            for texts, tokenise in (
                (list({pair.query: None for pair in pairs}), generator.tokenise_queries),
                (list({pair.answer or "": None for pair in pairs}), generator.tokenise_answers),
                (list({pair.passage: None for pair in pairs}), generator.tokenise_passages),
            )
        )
        overhead = generator.frame.overhead() - len(generator.frame.passage_break)
        found: dict[int, tuple[Prompt, bool]] = {}
        for row, pair in enumerate(pairs):
            pieces = passages[pair.passage], queries[pair.query], answers[pair.answer or ""]
            passage, query, answer = pieces
            try:
                prompt = generator.frame.join([passage], query, answer, generator.max_length)
            except ValueError:
                continue
            found[row] = prompt, prompt.length < overhead + sum(map(len, pieces))
        return found

    def _log_lengths(self, pairs: int, fitted: int, truncated: int) -> None:
        longest = self.generator.max_length
        if fitted < pairs:
            logger.warning(
                "generator  %d of %d candidates have no score: question and answer alone exceed "
                "--generator-max-len %d",
                *(pairs - fitted, pairs, longest),
            )
        if truncated:
            logger.warning(
                "generator  %d of %d prompts have their passage cut by --generator-max-len %d",
                *(truncated, fitted, longest),
            )
