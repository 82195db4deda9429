"""Search and answer for many requests at once, on one index, one retriever and one generator."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Self, TypeVar

from dalm.config import Serve
from dalm.errors import UserError
from dalm.llm.language_model import ModelError
from dalm.llm.sampling import Outcome, Sampling
from dalm.llm.server_errors import RefusedError
from dalm.rag.conversation import Conversation, Turn
from dalm.rag.pipeline import NoRoomError
from dalm.records import Hit
from dalm.retrieval.hybrid import Mode
from dalm.retrieval.where import parse_condition
from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.generators import Control, Generating
from dalm.serving.kept_answers import KeptAnswers
from dalm.serving.open_index import OpenIndex, ServedIndex
from dalm.serving.server_metrics import Metrics
from dalm.serving.slots import Slots

T = TypeVar("T")

SEARCHES = 4
"""Searches, and other work with the retriever, that run at the same time."""
_END = object()


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question of a client: its text, the conversation before it, and how to answer."""

    text: str
    history: Sequence[tuple[str, str]] = ()
    """Earlier questions with their answers, oldest first."""
    system: str | None = None
    """Instructions of the client, put before the prompt's own."""
    sampling: Sampling = field(default_factory=Sampling)
    mode: Mode | None = None
    where: str | None = None
    """A further condition on the passages."""
    reader_passages: int | None = None


class SearchResult(NamedTuple):
    """What was found for a query, and where."""

    hits: list[Hit]
    generation: int
    query_cut_at: int | None
    """Tokens of the query that the search by meaning read, if it is longer."""


class RunningAnswer:
    """An answer while it is generated: iterate over its pieces; then `turn.answer` is whole.

    As a context manager it stops the generator when the block is left.
    """

    def __init__(self, index: OpenIndex, control: Control) -> None:
        self.index, self.control = index, control
        self.turn: Turn
        """The question as it was searched, and the passages read."""
        self.query_cut_at: int | None = None
        """Tokens of what was searched that the search by meaning read, if it is longer."""
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._next: Any = None

    @property
    def outcome(self) -> Outcome:
        """How the answer ended, and its tokens."""
        return self.turn.outcome

    def cancel(self) -> None:
        """Stop generating; what waits for a piece meets the end."""
        self.control.cancel()
        self._items.put_nowait(_END)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        while self._next is not _END:
            yield self._next
            self._next = await self._get()

    async def started(self) -> None:
        """Wait for the turn and the first piece of the answer."""
        self.turn = await self._get()
        self._next = await self._get()

    async def _get(self) -> Any:
        item = await self._items.get()
        if isinstance(item, BaseException):
            self.control.cancel()
            raise item
        return item

    def expire(self, seconds: float) -> None:
        """Break the answer off: its time is over."""
        message = f"no answer within {seconds:g} s; try again later"
        self._items.put_nowait(ApiError(504, message, code="timeout"))

    def run(self, ask: Callable[[], tuple[Turn, Iterator[str]]]) -> None:
        """Put the turn, the pieces and the end where they are awaited; runs in a thread."""
        try:
            turn, pieces = ask()
            self._put(turn)
            for piece in pieces:
                self._put(piece)
                if self.control.cancelled:
                    break
            self._put(_END)
        except BaseException as error:
            self._put(_explained(error))

    def _put(self, item: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: the server has ended
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


def _explained(error: BaseException) -> BaseException:
    """Return what a client is told of an error while answering."""
    if isinstance(error, NoRoomError):
        return invalid(
            f"the question and its prompt leave no room for an answer of {error.new} tokens within "
            f"{error.length}; shorten it or lower max_tokens",
            "messages",
            "context_length_exceeded",
        )
    if isinstance(error, RefusedError):
        return invalid(f"the generator's server refuses: {error}", code="generator_refused")
    if isinstance(error, ModelError):
        return ApiError(502, f"the generator's server: {error}", code="generator_failed")
    return error


class Service:
    """What is served; every route works through it.

    `search` and `ask` wait for their turn and work in threads. `run` does the same for any other
    blocking work with the retriever or the store.
    """

    def __init__(self, index: ServedIndex, generating: Generating, settings: Serve) -> None:
        self.served, self.generating, self.settings = index, generating, settings
        self.answering = Slots(settings.max_concurrent, settings.max_waiting)
        self.searching = Slots(SEARCHES, settings.max_waiting)
        self.metrics = Metrics(self.answering)
        self.answers = KeptAnswers()
        self.compared: Service | None = None
        """The system that answers beside this one in comparisons."""
        self.key: str | None = None
        """The API key that requests have to carry."""
        self.running = 0
        """Requests that are being served."""
        self.stopping = False
        """Whether the server ends: it takes no new requests."""
        self._threads = ThreadPoolExecutor(settings.max_concurrent + SEARCHES, "request")

    @property
    def index(self) -> OpenIndex:
        """The generation that is served now."""
        return self.served.current

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Return what `work(*args)` returns, in a thread, once it is its turn."""
        async with self.searching.one():
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(work, *args))

    async def search(
        self, query: str, k: int, mode: Mode | None = None, where: str | None = None
    ) -> SearchResult:
        """Return at most k passages, best first.

        Raises:
            ApiError: 400 for a condition that can't be read.
        """
        self.check_condition(where)
        return await self.run(self._search, query, k, mode, where)

    def _search(self, query: str, k: int, mode: Mode | None, where: str | None) -> SearchResult:
        index = self.index
        try:
            hits = index.search(query, k, mode, where)
        except UserError:  # its generation may have been dropped a moment ago
            if not self.served.refresh():
                raise
            index = self.index
            hits = index.search(query, k, mode, where)
        return SearchResult(hits, index.generation.number, index.query_cut_at(query, mode))

    async def rerank(self, query: str, texts: Sequence[str]) -> list[tuple[int, float]]:
        """Return each text's place and its score for the query, best first."""
        scores = await self.run(self.index.score, query, texts)
        return sorted(enumerate(scores), key=lambda each: (-each[1], each[0]))

    def check_condition(self, where: str | None) -> None:
        """Refuse a condition that can't be read, in the client's terms."""
        if where is None:
            return
        try:
            parse_condition(where, self.index.generation.store.columns)
        except UserError as error:
            raise invalid(str(error).removeprefix("--"), "where") from error

    async def ask(self, question: Question) -> RunningAnswer:
        """Return an answer of which the first piece is there; use it in `async with`.

        Its place is free again when it is generated, however slowly the client reads it.

        Raises:
            ApiError: 400 for a condition or a length that can't be, 429 if too many wait, 502 if
                the generator's server fails, 504 after the time limit.
        """
        self.check_condition(question.where)
        asked, limit = time.perf_counter(), self.settings.request_timeout
        loop = asyncio.get_running_loop()
        answer = RunningAnswer(self.index, Control(question.sampling))
        expiry = loop.call_later(limit, answer.expire, limit)
        try:
            async with asyncio.timeout(limit):
                await self.answering.take()
        except TimeoutError as error:
            raise ApiError(504, f"no answer within {limit:g} s", code="timeout") from error
        start = time.perf_counter()
        answer.control.seconds["queue"] = start - asked

        def done(_: object) -> None:
            self.answering.give_back(time.perf_counter() - start)
            expiry.cancel()

        ask = partial(self._answer, question, answer)
        loop.run_in_executor(self._threads, answer.run, ask).add_done_callback(done)
        try:
            await answer.started()
        except BaseException:
            answer.cancel()
            raise
        return answer

    def _answer(self, question: Question, answer: RunningAnswer) -> tuple[Turn, Iterator[str]]:
        control, index = answer.control, answer.index
        reader = self.generating.reader(control, question.system, question.reader_passages)
        conversation = Conversation(
            control.timed(index.searching(question.mode, question.where)),
            reader,
            self.generating.rewriter(control),
            [Turn(asked, asked, answer=said) for asked, said in question.history],
            answer_anyway=self.settings.answer_anyway,
        )
        turn, pieces = conversation.ask(question.text)
        answer.query_cut_at = index.query_cut_at(turn.searched, question.mode)
        return turn, pieces

    async def watch(self, every: float = 1.0) -> None:
        """Look for changes of the index, for as long as the server runs."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.served.refresh)
            if self.compared is not None:
                await asyncio.to_thread(self.compared.served.refresh)
