"""Generate for many requests at once: in batches of what has arrived, each streamed on its own."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TextStreamer,
)
from transformers.generation.streamers import BaseStreamer

from dalm.llm.sampling import Outcome, Sampling
from dalm.models.generator import GENERATE_TOKENS, Generator

logger = logging.getLogger(__name__)

WINDOW = 0.005
"""Seconds that an idle generator waits for further requests once one is there."""


class Job:
    """A row of tokens to continue: what is generated is read by iterating, in another thread."""

    def __init__(
        self, generator: Generator, row: Sequence[int], sampling: Sampling, most: int
    ) -> None:
        self.row, self.sampling, self.most = row, sampling, most
        self.done = False
        self.outcome = Outcome(tokens_in=len(row), tokens_out=0)
        self._pieces: SimpleQueue[str | BaseException | None] = SimpleQueue()
        self._text = _RowText(generator.tokenizer, self._emit)
        self._held = ""
        """Text that may be the beginning of a stop."""
        self._random: torch.Generator | None = None
        if sampling.temperature > 0:
            self._random = torch.Generator()
            seed = self._random.seed() if sampling.seed is None else sampling.seed
            self._random.manual_seed(seed)

    def __iter__(self) -> Iterator[str]:
        while (piece := self._pieces.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece

    def cancel(self) -> None:
        """Stop generating: nobody reads any more."""
        self.done = True
        self._pieces.put(None)

    def fail(self, error: BaseException) -> None:
        """End with an error, which is raised where the pieces are read."""
        self.done = True
        self._pieces.put(error)

    def add(self, token: int, ends: set[int]) -> None:
        """Take the next token."""
        if self.done:
            return
        if token in ends:
            self.finish("stop")
            return
        assert self.outcome.tokens_out is not None
        self.outcome.tokens_out += 1
        self._text.put(torch.tensor([token]))  # type: ignore[no-untyped-call]
        if not self.done and self.outcome.tokens_out >= self.most:
            self.finish("length")

    def finish(self, reason: str) -> None:
        """End the text; what was held back is part of it."""
        if self.done:
            return
        self.outcome.finish_reason = reason
        self._text.end()  # type: ignore[no-untyped-call]
        if not self.done:
            self._put(self._held)
            self.done = True
            self._pieces.put(None)

    def _emit(self, text: str) -> None:
        if self.done:
            return
        self._held += text
        stops = [self._held.find(stop) for stop in self.sampling.stop if stop in self._held]
        if stops:
            self._put(self._held[: min(stops)])
            self.outcome.finish_reason = "stop"
            self.done = True
            self._pieces.put(None)
            return
        kept = max((_overlap(self._held, stop) for stop in self.sampling.stop), default=0)
        sent = len(self._held) - kept
        self._put(self._held[:sent])
        self._held = self._held[sent:]

    def _put(self, text: str) -> None:
        if text:
            self._pieces.put(text)

    def draw(self, logits: Tensor) -> int | None:
        """Draw a token by temperature and nucleus; None where the most likely one is taken."""
        if self._random is None or self.done:
            return None
        chances = (logits.float().cpu() / self.sampling.temperature).softmax(-1)
        chances, order = chances.sort(descending=True, stable=True)
        before = chances.cumsum(-1) - chances
        chances[(before >= self.sampling.top_p) & (before > 0)] = 0.0
        return int(order[torch.multinomial(chances, 1, generator=self._random)])


def _overlap(text: str, stop: str) -> int:
    """Return how many characters at a text's end are the beginning of a stop."""
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)


class _RowText(TextStreamer):
    """Turn one row's tokens into text, in whole words."""

    def __init__(self, tokenizer: Any, emit: Any) -> None:
        super().__init__(tokenizer, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        if text:
            self._emit(text)


class _Batch(BaseStreamer):
    """Hand each token of a batch, [B], to its row; the first call has the prompts, [B, length]."""

    def __init__(self, jobs: Sequence[Job], ends: set[int]) -> None:
        self.jobs, self.ends = jobs, ends

    def put(self, value: Tensor) -> None:
        if value.ndim > 1:
            return
        for job, token in zip(self.jobs, value.tolist(), strict=True):
            job.add(token, self.ends)

    def end(self) -> None:
        for job in self.jobs:
            job.finish("length")


class _Done(StoppingCriteria):
    """End each row that is done, or abandoned."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs

    def __call__(self, input_ids: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.tensor([job.done for job in self.jobs], device=input_ids.device)


class _Draws(LogitsProcessor):
    """Leave a row that is sampled nothing but the token that it drew."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        for place, job in enumerate(self.jobs):
            if (token := job.draw(scores[place])) is not None:
                scores[place] = -torch.inf
                scores[place, token] = 0.0
        return scores


class GenerationQueue:
    """One thread that generates: a batch of all that waits, then the next one.

    A greedy answer is the one that the row has alone, but for rounding in half precision.
    """

    def __init__(self, generator: Generator, most: int) -> None:
        self.generator = generator
        self.most = most if generator.padding.when_answering else 1
        self.batches = self.rows = 0
        """Batches so far, and rows in them."""
        self._arriving: SimpleQueue[Job] = SimpleQueue()
        self._waiting: deque[Job] = deque()
        Thread(target=self._work, name="generator", daemon=True).start()

    def submit(self, job: Job) -> Job:
        """Let a job be generated; return it."""
        self._arriving.put(job)
        return job

    def _work(self) -> None:
        while True:
            jobs = self._next_batch()
            try:
                self._generate(jobs)
            except Exception as error:
                logger.exception("the generator failed")
                for job in jobs:
                    if not job.done:
                        job.fail(error)

    def _next_batch(self) -> list[Job]:
        """Wait for a job, and take what arrives with it, as many as fit into a batch."""
        if not self._waiting:
            self._waiting.append(self._arriving.get())
        until = time.monotonic() + WINDOW
        while len(self._waiting) < self.most:
            try:
                self._waiting.append(self._arriving.get(timeout=max(0.0, until - time.monotonic())))
            except Empty:
                break
        batch: list[Job] = []
        longest = 0
        while self._waiting and len(batch) < self.most:
            job = self._waiting[0]
            longest = max(longest, len(job.row) + job.most)
            if batch and longest * (len(batch) + 1) > GENERATE_TOKENS:
                break
            self._waiting.popleft()
            if not job.done:
                batch.append(job)
        return batch

    def _generate(self, jobs: Sequence[Job]) -> None:
        if not jobs:
            return
        self.batches += 1
        self.rows += len(jobs)
        hooks: dict[str, Any] = {}
        if any(job.sampling.temperature > 0 for job in jobs):
            hooks["logits_processor"] = LogitsProcessorList([_Draws(jobs)])
        self.generator.generate_tokens(
            [job.row for job in jobs],
            max(job.most for job in jobs),
            streamer=_Batch(jobs, set(self.generator.end_tokens)),
            stopping_criteria=StoppingCriteriaList([_Done(jobs)]),
            **hooks,
        )
