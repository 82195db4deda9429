"""Give every request a reader of its own, on a generator that all share, local or on a server."""

import copy
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol

from dalm.llm.generation_queue import GenerationQueue, Job
from dalm.llm.language_model import LanguageModel
from dalm.llm.local_model import LocalModel, StreamTokens
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.sampling import Outcome, Sampling
from dalm.models.generator import Generator
from dalm.progress import Stopwatch
from dalm.prompts import Message
from dalm.rag.pipeline import LocalReader, Reader, ServedGenerator
from dalm.records import Hit
from dalm.retrieval.base import Searcher
from dalm.serving.api_errors import invalid


class Control(Stopwatch):
    """What a request asks of its answer, how long it takes, and the means to stop it."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__()  # stages: queue, search, prompt, first_token, generate
        self.sampling = sampling
        self.cancelled = False
        self.prompt = ""
        """The exact text that the generator reads, once it does."""
        self._cancellations: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Stop generating: nobody waits for the answer any more."""
        self.cancelled = True
        for each in list(self._cancellations):
            each()

    def on_cancel(self, action: Callable[[], None]) -> None:
        """Have `action` called when the answer is cancelled, at once if it is."""
        self._cancellations.append(action)
        if self.cancelled:
            action()

    def add(self, stage: str, start: float) -> None:
        """Count the time since `start` as the stage's."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timed(self, searcher: Searcher) -> Searcher:
        """Return the searcher with its time counted."""
        return _TimedSearcher(searcher, self)

    def timing(self, pieces: Iterator[str]) -> Iterator[str]:
        """Yield the pieces of an answer, and count the time to the first one and to the last."""
        start, first = time.perf_counter(), True
        for piece in pieces:
            if first:
                self.add("first_token", start)
                first = False
            yield piece
        self.add("generate", start)


@dataclass(frozen=True)
class _TimedSearcher:
    searcher: Searcher
    control: Control

    def search(self, queries: Sequence[str], k: int, /) -> list[list[Hit]]:
        with self.control.stage("search"):
            return self.searcher.search(queries, k)


class Generating(Protocol):
    """A generator that many requests share."""

    name: str

    @property
    def reader_passages(self) -> int:
        """The number of best hits in a prompt, unless a request says another."""

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:
        """Return a reader for one request; `system` is put before the prompt's instruction.

        Raises:
            ApiError: a text that can't be put there.
        """

    def rewriter(self, control: Control) -> LanguageModel | None:
        """Return what rewrites a follow-up question of the request, if there is such a model."""


# A generator in this process


class LocalGenerating:
    """A generator in this process, which answers in batches."""

    def __init__(self, reader: LocalReader, model: LocalModel | None, name: str, most: int) -> None:
        self.local, self.model, self.name = reader, model, name
        self.queue = GenerationQueue(reader.generator.eval(), most)
        self._tokenising = threading.Lock()  # a tokenizer bears one thread at a time
        self._instructed = lru_cache(32)(reader.generator.instructed)

    @property
    def reader_passages(self) -> int:
        """The number of best hits in a prompt, unless a request says another."""
        return self.local.reader_passages

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:
        """Return a reader for one request."""
        local, sampling = self.local, control.sampling
        return _SharedReader(
            self._with_system(system) if system else local.generator,
            passages or local.reader_passages,
            sampling.max_tokens or local.max_new_tokens,
            self._streaming(control, sampling),
            tokenising=self._tokenising,
            control=control,
        )

    def rewriter(self, control: Control) -> LanguageModel | None:
        """Return the generator as a model that follows instructions, if it is one."""
        if self.model is None:
            return None
        return _SharedModel(self.model, self._tokenising, self._streaming(control, Sampling()))

    def _with_system(self, system: str) -> Generator:
        spelled = [t for t in self.local.generator.tokenizer.all_special_tokens if t in system]
        if spelled:
            raise invalid(f"the system message has the control token {spelled[0]}", "messages")
        try:
            with self._tokenising:
                return self._instructed(system)
        except ValueError as error:
            raise invalid(f"the system message can't be used: {error}", "messages") from error

    def _streaming(self, control: Control, sampling: Sampling) -> StreamTokens:
        def stream(
            generator: Generator, row: Sequence[int], most: int, outcome: Outcome
        ) -> Iterator[str]:
            with self._tokenising:
                control.prompt = generator.tokenizer.decode(row, clean_up_tokenization_spaces=False)
            job = Job(generator, row, sampling, most)
            control.on_cancel(job.cancel)
            self.queue.submit(job)
            yield from job
            outcome.finish_reason = job.outcome.finish_reason
            outcome.tokens_in, outcome.tokens_out = job.outcome.tokens_in, job.outcome.tokens_out

        return stream


@dataclass(frozen=True)
class _SharedReader(LocalReader):
    """A reader of one request; its tokenizer is everybody's."""

    tokenising: threading.Lock = field(default_factory=threading.Lock)
    control: Control = field(default_factory=lambda: Control(Sampling()))

    def stream(self, query: str, hits: Sequence[Hit], outcome: Outcome, /) -> Iterator[str]:
        start = time.perf_counter()
        with self.tokenising:
            pieces = super().stream(query, hits, outcome)
        self.control.add("prompt", start)
        return self.control.timing(pieces)

    def _fitting(self, query: str, hits: Sequence[Hit]) -> int:
        start = time.perf_counter()
        with self.tokenising:
            fitting = super()._fitting(query, hits)
        self.control.add("prompt", start)
        return fitting


class _SharedModel(LocalModel):
    """A model for one request; its tokenizer is everybody's."""

    def __init__(self, model: LocalModel, tokenising: threading.Lock, streaming: Any) -> None:
        self.__dict__.update(model.__dict__)
        self.stream_tokens = streaming
        self._tokenising = tokenising

    def tokenise(self, messages: Sequence[Message]) -> list[int]:
        with self._tokenising:
            return super().tokenise(messages)


# A generator on a server


class ServedGenerating:
    """A generator on a server."""

    def __init__(self, reader: ServedGenerator, timeout: float) -> None:
        # Without the command's options errors are a ModelError: they are told to clients.
        endpoint = replace(reader.model.endpoint, options=None, timeout=timeout)
        model = copy.copy(reader.model)
        model.endpoint = endpoint
        self.served, self.name = replace(reader, model=model), model.name

    @property
    def reader_passages(self) -> int:
        """The number of best hits in a prompt, unless a request says another."""
        return self.served.reader_passages

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:
        """Return a reader for one request."""
        served = self.served
        message = served.user_message
        if system:

            def message(query: str, texts: Sequence[str]) -> str:
                return f"{system}\n\n{served.user_message(query, texts)}"

        return _TimedServedReader(
            _with_sampling(served.model, control),
            message,
            None,
            passages or served.reader_passages,
            served.cites,
            control=control,
        )

    def rewriter(self, control: Control) -> LanguageModel | None:  # noqa: ARG002
        """Return the generator."""
        return self.served.model


def _with_sampling(model: OpenAIClient, control: Control) -> OpenAIClient:
    model = copy.copy(model)
    asked = control.sampling.parameters()
    both = {**model.parameters, **asked}
    model.parameters = {name: value for name, value in both.items() if value is not None}
    model.required = frozenset(name for name, value in asked.items() if value is not None)
    return model


@dataclass(frozen=True)
class _TimedServedReader(ServedGenerator):
    control: Control = field(default_factory=lambda: Control(Sampling()))

    def stream(self, query: str, hits: Sequence[Hit], outcome: Outcome, /) -> Iterator[str]:
        self.control.prompt = self._request(query, hits).prompt
        return self.control.timing(super().stream(query, hits, outcome))
