"""Batches: examples tokenised once, grouped by length, no passage twice as a gold one."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import Sampler

from dalm.errors import UserError
from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.models.tokens import Ragged, Sequences
from dalm.records import Example, Passage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokens from which the generator's prompts are put together, for one batch."""

    passages: list[list[int]]
    """Gold passages in the order of the queries, then hard negatives."""
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
    weighed_tokens: float
    """Set by the trainer: see `Objective.weighed_tokens`."""


class Rows:
    """Training examples in tokens; each distinct passage is tokenised and kept once.

    With `generator` also the pieces of its prompts.
    """

    def __init__(
        self, examples: Sequence[Example], retriever: Retriever, generator: Generator | None = None
    ) -> None:
        self.retriever = retriever
        self.generator = generator
        if generator is not None:
            asked = generator.tokenise([example.query for example in examples])
            answers = generator.tokenise_answers([example.answer or "" for example in examples])
            kept = _fitting(asked, answers, generator)
            examples = [examples[row] for row in kept]
            self.query_pieces = Ragged([asked[row] for row in kept])
            self.answer_pieces = Ragged([answers[row] for row in kept])
        self.passages, self.gold, self.negatives = _distinct(examples)
        texts = [passage.text for passage in self.passages]
        queries = [example.query for example in examples]
        self.keys = np.array([int(p.id, 16) for p in self.passages], np.uint64).view(np.int64)
        self.query_tokens = Ragged(retriever.tokenise(queries, "query"))
        self.passage_tokens = Ragged(retriever.tokenise(texts, "passage"))
        if generator is not None:
            self.passage_pieces = Ragged(generator.tokenise(texts))

    def __len__(self) -> int:
        return len(self.gold)

    def __getitem__(self, row: int) -> int:
        return row

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row costs."""
        lengths: np.ndarray = self.query_tokens.lengths + self.passage_tokens.lengths[self.gold]
        if self.generator is not None:
            lengths = lengths + self.passage_pieces.lengths[self.gold]
            lengths = lengths + self.query_pieces.lengths + self.answer_pieces.lengths
        return lengths

    def gold_keys(self) -> np.ndarray:
        """Return the key of each row's gold passage."""
        return np.take(self.keys, self.gold)

    def collate(self, rows: Sequence[int]) -> Batch:
        """Put rows together to a batch, padded to the longest of them."""
        passages = [int(self.gold[row]) for row in rows]
        passages += [passage for row in rows for passage in self.negatives[row]]
        batch: Batch = {
            "query": self.retriever.batch([self.query_tokens[row] for row in rows], "query"),
            "passage": self.retriever.batch([self.passage_tokens[p] for p in passages], "passage"),
            "keys": torch.from_numpy(self.keys[passages]),
        }
        if self.generator is not None:
            batch["pieces"] = Pieces(
                [self.passage_pieces[passage].tolist() for passage in passages],
                [self.query_pieces[row].tolist() for row in rows],
                [self.answer_pieces[row].tolist() for row in rows],
            )
        return batch


def _distinct(
    examples: Sequence[Example],
) -> tuple[list[Passage], np.ndarray, list[list[int]]]:
    """Return the distinct passages, each row's gold one, and each row's negatives, by place."""
    places: dict[str, int] = {}
    passages: list[Passage] = []

    def place(passage: Passage) -> int:
        if passage.id not in places:
            places[passage.id] = len(passages)
            passages.append(passage)
        return places[passage.id]

    gold, negatives = [], []
    for example in examples:
        assert example.passage is not None
        gold.append(place(example.passage))
        negatives.append([place(negative) for negative in example.negatives])
    return passages, np.array(gold, np.int64), negatives


def _fitting(queries: Sequences, answers: Sequences, generator: Generator) -> list[int]:
    """Return the rows whose question and answer leave a prompt within its length.

    Rows that are left out are counted in a warning.
    """
    most = generator.max_length - generator.frame.overhead()
    needed = [len(query) + len(answer) for query, answer in zip(queries, answers, strict=True)]
    kept = [row for row, need in enumerate(needed) if need <= most]
    longest = generator.frame.overhead() + max(needed, default=0)
    remedy = f"use --generator-max-len {longest} to keep all"
    if not kept:
        raise UserError(f"no row's question and answer fit into the generator's length; {remedy}")
    if len(kept) < len(needed):
        logger.warning(
            "%d of %d rows left out: question and answer alone exceed --generator-max-len %d; %s",
            *(len(needed) - len(kept), len(needed), generator.max_length, remedy),
        )
    return kept


class LengthBatches(Sampler[list[int]]):
    """Batches of similar length in random order, no key twice in one; this rank's share of them.

    Rows are shuffled, taken `POOL` batches at a time, sorted by length and dealt out: padding
    shrinks while every batch stays a fresh mixture. All batches are of one size, or of two sizes
    that differ by one per rank, so none is too small for negatives. The plan depends on seed and
    epoch alone: a resumed run meets the same batches.
    """

    POOL = 16

    def __init__(
        self,
        lengths: np.ndarray,
        keys: np.ndarray,
        size: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.lengths, self.keys = lengths, keys
        self.size, self.seed = size, seed
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.rows = len(lengths) // ranks * ranks
        self.batches = -(-self.rows // (size * ranks))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))[: self.rows]
        sizes = self._sizes()
        batches: list[list[int]] = []
        start = 0
        for pool in np.array_split(sizes, -(-len(sizes) // self.POOL)):
            part = pool.tolist()
            rows = order[start : start + sum(part)]
            start += len(rows)
            batches += self._deal(rows[np.argsort(self.lengths[rows], kind="stable")], part)
        for batch in random.permutation(len(batches)):
            yield batches[batch][self.rank :: self.ranks]

    def _sizes(self) -> list[int]:
        """Return the batches' sizes over all ranks: multiples of the ranks, as equal as can be."""
        each, more = divmod(self.rows // self.ranks, self.batches)
        return [(each + (batch < more)) * self.ranks for batch in range(self.batches)]

    def _deal(self, rows: np.ndarray, sizes: list[int]) -> list[list[int]]:
        """Give each row, shortest first, to the first batch with room that lacks its key.

        Where every batch with room has the key already, the row changes places with one of another
        batch; where that can't be either, the loss masks the second one.
        """
        batches: list[list[int]] = [[] for _ in sizes]
        keys: list[set[int]] = [set() for _ in sizes]
        first = 0
        for row in rows.tolist():
            key = int(self.keys[row])
            while len(batches[first]) == sizes[first]:
                first += 1
            free = [b for b in range(first, len(sizes)) if len(batches[b]) < sizes[b]]
            chosen = next((b for b in free if key not in keys[b]), free[0])
            batches[chosen].append(row)
            if key in keys[chosen]:
                self._exchange(batches, keys, chosen)
            keys[chosen].add(int(self.keys[batches[chosen][-1]]))
        return batches

    def _exchange(self, batches: list[list[int]], keys: list[set[int]], chosen: int) -> None:
        """Let a batch's last row change places with one of a batch that lacks its key."""
        row = batches[chosen][-1]
        for b in reversed(range(len(batches))):  # later batches are nearer in length
            if int(self.keys[row]) in keys[b]:
                continue
            for place, other in enumerate(batches[b]):
                if int(self.keys[other]) not in keys[chosen]:
                    batches[b][place], batches[chosen][-1] = row, other
                    keys[b] = set(self.keys[batches[b]].tolist())
                    return
