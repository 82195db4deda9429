"""Batches: examples and passages tokenised once, put together when a step needs them."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.errors import UserError
from dalm.models.batching import Ragged, Sequences
from dalm.models.generator import Generator
from dalm.models.prompt_frame import Prompt
from dalm.models.retriever import Retriever
from dalm.records import Example, Passage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokens from which the generator's prompts are put together, for one batch."""

    passages: list[list[int]]
    """Gold passages in the order of the queries, then hard negatives; none if they are searched."""
    queries: list[list[int]]
    answers: list[list[int]]

    def answer_lengths(self) -> list[int]:
        """Return each answer's number of tokens, the closing EOS counted."""
        return [len(answer) + 1 for answer in self.answers]


class Batch(TypedDict, total=False):
    """What an objective takes. Passages: the gold ones in the queries' order, then negatives."""

    query: dict[str, Any]
    passage: dict[str, Any]
    keys: Int[Tensor, "passages"]
    """A passage's content hash: equal keys are equal texts."""
    pieces: Pieces
    gold: Int[Tensor, "queries"]
    """Place of each query's gold passage in the knowledge base; -1: unknown."""
    forced: Bool[Tensor, "queries"]
    """Whether the gold passage is put among the candidates."""
    hidden: Int[Tensor, "queries"]
    """Place of the passage that may not be found for a query, a statement's own; -1: none."""
    weights: Float[Tensor, "queries"]
    """Weight of each query's answer."""
    prompts: list[Prompt]
    """Whole prompts with their answers, where no part of the model chooses what is read."""
    weighed_tokens: float
    """Set by the trainer: see `Objective.weighed_tokens`."""


class KnowledgeBase:
    """Distinct passages in tokens, for the retriever and, with a generator, for its prompts."""

    def __init__(
        self, passages: Sequence[Passage], retriever: Retriever, generator: Generator | None = None
    ) -> None:
        self.passages = passages
        self.retriever = retriever
        self.keys = np.array([int(p.id, 16) for p in passages], np.uint64).view(np.int64)
        texts = [passage.text for passage in passages]
        self.tokens = Ragged(retriever.tokenise(texts, "passage"))
        self.pieces = Ragged([] if generator is None else generator.tokenise_passages(texts))

    def __len__(self) -> int:
        return len(self.passages)

    def features(self, places: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Return what the retriever's `embed` takes for some of the passages."""
        return self.retriever.batch([self.tokens[place] for place in places], "passage")

    def identity(self) -> str:
        """Return a hash of the passages in their order."""
        return hashlib.blake2b(self.keys.tobytes(), digest_size=16).hexdigest()


class TrainingRows(Protocol):
    """What the trainer needs to know of training rows; a row stands for itself until collated."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next."""

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row costs."""

    def gold_keys(self) -> np.ndarray:
        """Return a key for each row; rows of one key don't meet in a batch."""

    def collate(self, rows: Sequence[int]) -> Batch:
        """Put rows together to a batch."""

    def describe(self) -> str:
        """Return in words how much there is."""


class Rows:
    """Training examples in tokens; each distinct passage is tokenised and kept once.

    With `generator` also the pieces of its prompts. `more` are passages of the knowledge base
    besides the examples' own. A row's gold passage is put among its candidates with
    `gold_probability`, drawn anew in every epoch.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        retriever: Retriever,
        generator: Generator | None = None,
        *,
        more: Sequence[Passage] = (),
        gold_probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.retriever = retriever
        self.generator = generator
        self.gold_probability, self.seed, self.epoch = gold_probability, seed, 0
        if generator is not None:
            asked = generator.tokenise_queries([example.query for example in examples])
            answers = generator.tokenise_answers([example.answer or "" for example in examples])
            kept = fitting(asked, answers, generator)
            examples = [examples[row] for row in kept]
            self.query_pieces = Ragged([asked[row] for row in kept])
            self.answer_pieces = Ragged([answers[row] for row in kept])
        passages, self.gold, self.negatives = distinct(examples, more)
        self.base = KnowledgeBase(passages, retriever, generator)
        queries = [example.query for example in examples]
        self.query_tokens = Ragged(retriever.tokenise(queries, "query"))

    def __len__(self) -> int:
        return len(self.gold)

    def __getitem__(self, row: int) -> int:
        return row

    def describe(self) -> str:
        """Return in words how much there is."""
        return f"{len(self)} questions, {len(self.base)} distinct passages"

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose draws come next."""
        self.epoch = epoch

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row costs."""
        of_passages = self.base.tokens.lengths
        lengths: np.ndarray = self.query_tokens.lengths + self._of_gold(of_passages, 0)
        lengths = lengths + [int(of_passages[places].sum()) for places in self.negatives]
        if self.generator is not None:
            lengths = lengths + self._of_gold(self.base.pieces.lengths, 0)
            lengths = lengths + self.query_pieces.lengths + self.answer_pieces.lengths
        return lengths

    def gold_keys(self) -> np.ndarray:
        """Return the key of each row's gold passage; one of its own for a row without."""
        return self._of_gold(self.base.keys, -1 - np.arange(len(self)))

    def _of_gold(self, values: np.ndarray, otherwise: np.ndarray | int) -> np.ndarray:
        return np.where(self.gold < 0, otherwise, values[self.gold])

    def collate(self, rows: Sequence[int]) -> Batch:
        """Put rows together to a batch, padded to the longest of them."""
        places = [int(self.gold[row]) for row in rows]
        places += [place for row in rows for place in self.negatives[row]]
        batch: Batch = {
            "query": self.retriever.batch([self.query_tokens[row] for row in rows], "query"),
            "passage": self.base.features(places),
            "keys": torch.from_numpy(self.base.keys[places]),
        }
        if self.generator is not None:
            passages = [self.base.pieces[place].tolist() for place in places]
            batch["pieces"] = Pieces(passages, *self._pieces(rows))
            batch["forced"] = self._forced(rows)
        return batch

    def probe(self, size: int) -> Batch:
        """Return some rows, the same in every run, to take figures on."""
        return self.collate(probed(len(self), size))

    def _pieces(self, rows: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
        return (
            [self.query_pieces[row].tolist() for row in rows],
            [self.answer_pieces[row].tolist() for row in rows],
        )

    def _forced(self, rows: Sequence[int]) -> Tensor:
        chance = self._random(rows).random(len(rows))
        return torch.from_numpy((chance < self.gold_probability) & (self.gold[list(rows)] >= 0))

    def _random(self, rows: Sequence[int]) -> np.random.Generator:
        """Return a source of chance from which a resumed run draws the same."""
        return np.random.default_rng([self.seed, self.epoch, *rows])


def on(batch: Any, device: torch.device) -> Any:
    """Return a batch with its tensors on a device."""
    if torch.is_tensor(batch):
        return batch.to(device)
    if isinstance(batch, dict):
        return {name: on(value, device) for name, value in batch.items()}
    return batch


def probed(count: int, size: int) -> list[int]:
    """Return the rows of a probe: spread over all of them."""
    return [int(row) for row in np.linspace(0, count - 1, min(size, count))]


def distinct(
    examples: Sequence[Example], more: Sequence[Passage] = ()
) -> tuple[list[Passage], np.ndarray, list[list[int]]]:
    """Return the distinct passages, each row's gold one (-1: none), its negatives, by place."""
    places: dict[str, int] = {}
    passages: list[Passage] = []

    def place(passage: Passage) -> int:
        if passage.id not in places:
            places[passage.id] = len(passages)
            passages.append(passage)
        return places[passage.id]

    gold, negatives = [], []
    for example in examples:
        gold.append(-1 if example.passage is None else place(example.passage))
        negatives.append([place(negative) for negative in example.negatives])
    for passage in more:
        place(passage)
    return passages, np.array(gold, np.int64), negatives


def fitting(
    queries: Sequences, answers: Sequences, generator: Generator, passages: int = 1
) -> list[int]:
    """Return the rows whose question and answer leave a prompt of passages within its length.

    Rows that are left out are counted in a warning.
    """
    overhead = generator.frame.overhead(passages)
    most = generator.max_length - overhead
    needed = [len(query) + len(answer) for query, answer in zip(queries, answers, strict=True)]
    kept = [row for row, need in enumerate(needed) if need <= most]
    longest = overhead + max(needed, default=0)
    remedy = f"use --generator-max-len {longest} to keep all"
    if not kept:
        raise UserError(f"no row's question and answer fit into the generator's length; {remedy}")
    if len(kept) < len(needed):
        logger.warning(
            "%d of %d rows left out: question and answer alone exceed --generator-max-len %d; %s",
            *(len(needed) - len(kept), len(needed), generator.max_length, remedy),
        )
    return kept
