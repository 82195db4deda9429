"""Hold the generation of an index that is served, and open another when the index changes."""

import copy
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from dalm.config import Serve
from dalm.config.shared import Reranking
from dalm.errors import UserError
from dalm.models.cut_texts import count_cut_queries
from dalm.models.loading import Placement, placement_of
from dalm.models.reranker import Reranker
from dalm.models.retriever import Retriever
from dalm.models.retriever_sides import Kind
from dalm.records import Hit
from dalm.retrieval.base import Searcher
from dalm.retrieval.conditions import Condition, Joined
from dalm.retrieval.hybrid import IndexSearcher, Mode, searcher_of
from dalm.retrieval.index_folder import POINTER, Generation, IndexFolder
from dalm.retrieval.indexing import retriever_of
from dalm.retrieval.reranking import reranked, reranker_of
from dalm.retrieval.where import parse_condition

logger = logging.getLogger(__name__)


class SharedRetriever:
    """A retriever that several threads use, one at a time: its tokenizer bears no more."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever.eval()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str], side: Kind) -> tuple[Float[Tensor, "n dim"], int]:
        """Return the vectors of one side's texts, and the number of their tokens."""
        with self._lock:
            rows = self.retriever.tokenise(texts, side)
            return self.retriever.encode_tokens(rows, side), sum(map(len, rows))

    def tokens_read(self, query: str) -> int | None:
        """Return how many tokens are read of a query that is longer; None if it is read whole."""
        with self._lock:
            cut = count_cut_queries(self.retriever, [query])
        return self.retriever.sides["query"].max_len if cut else None

    def encode_queries(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of queries."""
        with self._lock:
            return self.retriever.encode_queries(texts)

    def encode_passages(self, texts: Sequence[str]) -> Float[Tensor, "n dim"]:
        """Return the vectors of passages."""
        with self._lock:
            return self.retriever.encode_passages(texts)


@dataclass(frozen=True)
class OpenIndex:
    """A generation with its retriever and its searcher; requests keep the one they began with."""

    generation: Generation
    retriever: SharedRetriever
    searcher: IndexSearcher
    reranker: Reranker | None = None
    """Orders what is found anew, and the texts of clients."""
    rerank_top: int = Reranking.rerank_top

    def search(
        self, query: str, k: int, mode: Mode | None = None, where: str | None = None
    ) -> list[Hit]:
        """Return at most k passages, best first.

        Raises:
            UserError: a condition that can't be read.
        """
        (hits,) = self.searching(mode, where).search([query], k)
        return hits

    def query_cut_at(self, query: str, mode: Mode | None = None) -> int | None:
        """Return after how many tokens the search by meaning cuts a query; None if it doesn't."""
        by_meaning = (mode or self.searcher.mode) != "text"
        return self.retriever.tokens_read(query) if by_meaning else None

    def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the reranker's score of each text for a query; without one the similarity."""
        if self.reranker is not None:
            return self.reranker.score(query, texts)
        vectors = self.retriever.encode_passages(texts)
        scores: list[float] = (vectors @ self.retriever.encode_queries([query])[0]).tolist()
        return scores

    def searching(self, mode: Mode | None = None, where: str | None = None) -> Searcher:
        """Return the searcher with another mode, and among the passages of a further condition.

        With a reranker what it finds is ordered by that.

        Raises:
            UserError: a condition that can't be read.
        """
        searcher = copy.copy(self.searcher)
        searcher.mode = mode or searcher.mode
        if where is not None:
            searcher.where = _both(
                searcher.where, parse_condition(where, self.generation.store.columns)
            )
        return reranked(searcher, self.reranker, self.rerank_top)


def _both(first: Condition | None, second: Condition) -> Condition:
    return second if first is None else Joined(False, (first, second))


class ServedIndex:
    """The generation that is served; `refresh` opens another when the index has changed."""

    def __init__(
        self,
        path: str | Path,
        settings: Serve,
        beside: "ServedIndex | None" = None,
        *,
        previous: bool = False,
    ) -> None:
        """Open the index at a path; what it has in common with one `beside` it is loaded once.

        `previous`: it is the generation before the one that is searched.
        """
        self.folder = IndexFolder(path)
        self.previous = previous
        self.settings = settings
        self.placement: Placement = placement_of(settings)
        self.problem: str | None = None
        """Why the newest state of the index isn't served; None if it is."""
        self.reranker: Reranker | None
        self.reranker = beside.reranker if beside else reranker_of(settings, self.placement)
        self._lock = threading.Lock()
        self._seen = self._state()
        self.current: OpenIndex = self._open(beside.current if beside else None)

    def refresh(self) -> bool:
        """Open the index again if it has changed; return whether another state is served.

        A state that can't be opened leaves the one that is served, and becomes the `problem`.
        """
        with self._lock:
            state = self._state()
            if state == self._seen:
                return False
            self._seen = state
            try:
                self.current = self._open(self.current)
            except UserError as error:
                self.problem = " ".join(str(error).split())
                number = self.current.generation.number
                logger.warning("reload     failed: %s; still served: %d", self.problem, number)
                return False
            self.problem = None
            logger.info("reload     generation %d", self.current.generation.number)
            return True

    def _open(self, before: OpenIndex | None) -> OpenIndex:
        """Open the index; a retriever that is loaded already serves generations that it made."""
        generation = self.folder.previous() if self.previous else self.folder.current()
        if before and before.generation.description.made_like(generation.description):
            retriever = before.retriever
        else:
            retriever = SharedRetriever(retriever_of(generation, self.placement))
        settings = self.settings
        searcher = searcher_of(
            generation, self.placement, settings.search, settings.where, encoder=retriever
        )
        return OpenIndex(generation, retriever, searcher, self.reranker, settings.rerank_top)

    def _state(self) -> tuple[object, ...]:
        """Return what changes with the index: its pointer, and the description it points to."""
        try:
            pointer = self.folder.pointer
        except UserError:
            return ("damaged", *_stamp(self.folder.path / POINTER))
        if pointer is None:
            return ("none",)
        number = pointer.previous if self.previous else pointer.generation
        return (number, *_stamp(self.folder.path / "generations" / str(number) / POINTER))


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        stat = file.stat()
    except OSError:
        return ()
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
