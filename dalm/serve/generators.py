"""Give every request a reader of its own, on a generator that all share, local or on a server."""

import copy
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from dalm.llm.language_model import LanguageModel
from dalm.llm.local_model import LocalModel, stream_tokens
from dalm.llm.sampling import Outcome, Sampling
from dalm.models.generator import Generator
from dalm.rag.pipeline import LocalReader, Reader, ServedGenerator
from dalm.records import Hit
from dalm.retrieval.base import Searcher


@dataclass
class Control:
    """What a request asks of its answer, what is known of it, and the means to stop it."""

    sampling: Sampling
    outcome: Outcome = field(default_factory=Outcome)
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of each stage: queue, search, prompt, first_token, generate."""
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._stop.is_set()

    def cancel(self) -> None:
        """Stop generating."""
        self._stop.set()

    def add(self, stage: str, start: float) -> None:
        """Count the time since `start` as the stage's."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timed(self, searcher: Searcher) -> Searcher:
        """Return the searcher with its time counted."""
        return _TimedSearcher(searcher, self)


@dataclass(frozen=True)
class _TimedSearcher:
    searcher: Searcher
    control: Control

    def search(self, queries: Sequence[str], k: int, /) -> list[list[Hit]]:
        start = time.perf_counter()
        try:
            return self.searcher.search(queries, k)
        finally:
            self.control.add("search", start)


class Generating(Protocol):
    """A generator that many requests share."""

    name: str

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:
        """Return a reader for one request; `system` is put before the prompt's instruction."""

    def rewriter(self, control: Control) -> LanguageModel | None:
        """Return what rewrites a follow-up question of the request, if there is such a model."""


class LocalGenerating:
    """A generator in this process."""

    def __init__(self, reader: LocalReader, model: LocalModel | None, name: str) -> None:
        self.local, self.model, self.name = reader, model, name
        reader.generator.eval()
        self._lock = threading.Lock()

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:  # noqa: ARG002
        """Return a reader for one request."""
        return replace(
            self.local,
            reader_passages=passages or self.local.reader_passages,
            max_new_tokens=control.sampling.max_tokens or self.local.max_new_tokens,
            stream_tokens=self._stream_tokens,
        )

    def rewriter(self, control: Control) -> LanguageModel | None:  # noqa: ARG002
        """Return the generator as a model that follows instructions, if it is one."""
        if self.model is None:
            return None
        model = copy.copy(self.model)
        model.stream_tokens = self._stream_tokens
        return model

    def _stream_tokens(self, generator: Generator, row: Sequence[int], most: int) -> Iterator[str]:
        with self._lock:
            yield from stream_tokens(generator, row, most)


class ServedGenerating:
    """A generator on a server."""

    def __init__(self, reader: ServedGenerator) -> None:
        self.served, self.name = reader, reader.model.name

    def reader(self, control: Control, system: str | None, passages: int | None) -> Reader:  # noqa: ARG002
        """Return a reader for one request."""
        return replace(self.served, reader_passages=passages or self.served.reader_passages)

    def rewriter(self, control: Control) -> LanguageModel | None:  # noqa: ARG002
        """Return the generator."""
        return self.served.model
