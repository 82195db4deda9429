"""Turn training examples into batches: tokenised once, padded together when a step needs them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, ClassVar, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dalm.distributed import position, share
from dalm.models.batching import Ragged
from dalm.models.cut_texts import (
    characters_read,
    count_behind,
    is_behind,
    tell_cut_prompts,
    tell_cut_texts,
)
from dalm.models.generator import Generator
from dalm.models.retriever import ENCODED, Retriever
from dalm.prompts import Prompt
from dalm.records import Example, Passage, ScoredQuestion
from dalm.training.data.gold_passages import GoldPassages
from dalm.training.data.teacher_scores import TeacherScores
from dalm.training.data.usable_rows import fitting


@dataclass(frozen=True, slots=True)
class Pieces:
    """The tokens that the generator's prompts of one batch are joined from."""

    passages: list[list[int]]
    """Those of the whole batch, in the order of `FalseNegatives`; empty if they are searched."""
    queries: list[list[int]]
    answers: list[list[int]]
    first: int = 0
    """Place of the first query's gold passage."""

    def gold(self) -> list[list[int]]:
        """Return the queries' gold passages."""
        return self.passages[self.first : self.first + len(self.queries)]

    def answer_lengths(self) -> list[int]:
        """Return each answer's number of tokens, its EOS included."""
        return [len(answer) + 1 for answer in self.answers]


class FalseNegatives(TypedDict):
    """Mark what is no negative; B queries of this rank, Q of all ranks, C passages of all ranks.

    The passages are the gold ones of rank 0's queries, in their order, then rank 1's and so on;
    behind them the hard negatives of rank 0, of rank 1 and so on.
    """

    by_query: Bool[Tensor, "B C"]
    """Gold passages of the query's question, besides its own."""
    by_passage: Bool[Tensor, "B Q"]
    """Queries whose question the row's own gold passage answers, besides its own."""


class Batch(TypedDict, total=False):
    """What an objective takes: a rank's share of a batch, and what it has to know of the others."""

    query: dict[str, Any]
    passage: dict[str, Any]
    """This rank's passages: gold ones in the queries' order, then hard negatives."""
    keys: Int[Tensor, "passages"]
    """A passage's content hash: equal keys are equal texts."""
    hard_negatives: list[int]
    """The number of hard negatives of each rank."""
    false_negatives: FalseNegatives
    no_candidates: Bool[Tensor, "B C"]
    """What is no candidate of a query: copies of its gold passage, and gold passages of its
    question that stand beside other answers only."""
    other_golds: list[Int[np.ndarray, "golds"]]
    """Places of the same in the knowledge base, where candidates are searched."""
    most_other_golds: int
    """The most of them that a query of any rank has."""
    pieces: Pieces
    gold: Int[Tensor, "queries"]
    """Place of each query's gold passage in the knowledge base; -1: not known."""
    force_gold: Bool[Tensor, "queries"]
    """Whether the gold passage is added to the candidates."""
    excluded: Int[Tensor, "queries"]
    """Place of the passage that must not be a candidate, a statement's own; -1: none."""
    weights: Float[Tensor, "queries"]
    """Weight of each query's answer."""
    candidates: Int[Tensor, "queries K"]
    """Columns of each query's scored candidates in `passage`, its positive first; -1: none."""
    scores: Float[Tensor, "queries K"]
    """The teacher's scores of them; −inf: ruled out, or none."""
    temperatures: Float[Tensor, "queries"]
    """Temperature of the softmax over each query's scores."""
    known: Bool[Tensor, "queries"]
    """Whether the teacher names a positive, where others than it are negatives."""
    prompts: list[Prompt]
    """Whole prompts with their answers, for objectives that don't choose the passages."""
    columns: Int[Tensor, "C"]
    """Places of the passages in the knowledge base, in the order of `FalseNegatives`."""
    teacher_places: Int[Tensor, "queries scored"]
    """Places of the passages that a table's teacher has scored for each query; -1: none."""
    teacher_logits: Float[Tensor, "queries scored"]
    """Logits of its softmax over them."""
    weighted_tokens: float
    """Set by the trainer: see `Objective.weighted_tokens`."""


class TrainingRows(ABC):
    """What the trainer needs of training rows; a row is its number until it is collated."""

    seed = 0
    epoch = 0
    of_options: ClassVar[frozenset[str]] = frozenset({"epoch", "seed"})
    """Attributes that follow from options, which a resumed run may change, and not from data."""

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> int:
        return row

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from which random draws are seeded."""
        self.epoch = epoch

    @abstractmethod
    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row has."""

    def keys_apart(self) -> Int[np.ndarray, "rows keys"]:
        """Return keys of each row, here one of its own; rows with a common one are kept apart."""
        return np.arange(len(self))[:, None]

    @abstractmethod
    def collate(self, rows: Sequence[int]) -> Batch:
        """Return a batch of some rows, for a rank alone."""

    def collate_share(self, rows: Sequence[int]) -> Batch:
        """Return this rank's share of a batch of some rows."""
        return self.collate(share(rows))

    @abstractmethod
    def describe(self) -> str:
        """Return a line on how much data there is."""

    def tell_cut(self) -> None:  # noqa: B027
        """Log how many texts are cut at a maximum length, if any can be."""

    def random(self, rows: Sequence[int]) -> np.random.Generator:
        """Return a generator seeded by epoch and rows, so that a resumed run draws the same."""
        return np.random.default_rng([self.seed, self.epoch, *rows])

    def draw_candidates(self, row: int, count: int, most: int) -> Int[np.ndarray, "K"]:
        """Return which `most` of a row's `count` candidates a batch has, the first one first.

        The others are drawn again in every epoch.
        """
        if count <= most:
            return np.arange(count)
        others = self.random([row]).choice(count - 1, most - 1, replace=False)
        return np.concatenate([[0], 1 + np.sort(others)])


class KnowledgeBase:
    """Hold distinct passages in tokens, for the retriever and, if given, for the generator."""

    def __init__(
        self, passages: Sequence[Passage], retriever: Retriever, generator: Generator | None = None
    ) -> None:
        self.passages = passages
        self.retriever = retriever
        self.keys = np.array([int(p.id, 16) for p in passages], np.uint64).view(np.int64)
        texts = [passage.text for passage in passages]
        self.tokens = Ragged(retriever.tokenise(texts, "passage"))
        self.pieces = Ragged([] if generator is None else generator.tokenise_passages(texts))
        self.vectors: Float[Tensor, "passages dim"] | None = None
        """Those that training leaves unchanged; None: they are embedded in every batch."""

    def __len__(self) -> int:
        return len(self.passages)

    def features(self, places: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Return what the retriever's `embed` takes for some of the passages."""
        features = self.retriever.batch([self.tokens[place] for place in places], "passage")
        return _with_vectors(features, self.vectors, places)

    def identity(self) -> str:
        """Return a hash of the passages in their order."""
        return hashlib.blake2b(self.keys.tobytes(), digest_size=16).hexdigest()


def distinct_passages(
    examples: Sequence[Example], more: Sequence[Passage] = ()
) -> tuple[list[Passage], np.ndarray, list[list[int]]]:
    """Return the distinct passages, and by place each row's gold one (-1: none) and negatives."""
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


class Rows(TrainingRows):
    """Hold training examples in tokens; each distinct passage is tokenised and kept once.

    With `generator`, its prompts' tokens are held too. `more` are passages of the knowledge base
    besides the examples' own. A row's gold passage is added to its candidates with probability
    `gold_probability`, drawn again in every epoch. `scored` are questions whose passages a teacher
    has scored, for the target of the rows with the same question and answer.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        retriever: Retriever,
        generator: Generator | None = None,
        *,
        more: Sequence[Passage] = (),
        scored: Sequence[ScoredQuestion] = (),
        gold_probability: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.retriever = retriever
        self.generator = generator
        self.gold_probability, self.seed = gold_probability, seed
        if generator is not None:
            asked = generator.tokenise_queries([example.query for example in examples])
            answers = generator.tokenise_answers([example.answer or "" for example in examples])
            kept = fitting(asked, answers, generator)
            examples = [examples[row] for row in kept]
            self.query_pieces = Ragged([asked[row] for row in kept])
            self.answer_pieces = Ragged([answers[row] for row in kept])
        passages, self.gold, self.negatives = distinct_passages(examples, more)
        self.golds = GoldPassages(examples, self.gold)
        self.base = KnowledgeBase(passages, retriever, generator)
        self.questions = [example.query for example in examples]
        self.answers = [example.answer for example in examples]
        self.query_tokens = Ragged(retriever.tokenise(self.questions, "query"))
        self.query_vectors: Float[Tensor, "rows dim"] | None = None
        """Those that training leaves unchanged, as of the passages."""
        self.teacher: TeacherScores | None = None
        if scored:
            places = {passage.id: place for place, passage in enumerate(passages)}
            self.teacher = TeacherScores(scored, examples, places)

    def __len__(self) -> int:
        return len(self.gold)

    def describe(self) -> str:
        """Return a line on how much data there is."""
        return f"{len(self)} questions, {len(self.base)} distinct passages"

    def tell_cut(self) -> None:
        """Log how many passages, questions and prompts are cut, and whose answers are lost."""
        texts = [passage.text for passage in self.base.passages]
        read = partial(characters_read, self.retriever)
        cut = read(texts, self.base.tokens.lengths, "passage")
        golds = zip(self.gold.tolist(), self.answers, strict=True)
        behind = sum(
            gold in cut and is_behind(answer, texts[gold], cut[gold]) for gold, answer in golds
        )
        tell_cut_texts(self.retriever, "passage", len(cut), len(texts), behind)
        cut = read(self.questions, self.query_tokens.lengths, "query")
        tell_cut_texts(self.retriever, "query", len(cut), len(self))
        if self.generator is not None and (self.gold >= 0).any():
            self._tell_cut_prompts(self.generator)

    def _tell_cut_prompts(self, generator: Generator) -> None:
        """Log in how many prompts the gold passage is cut."""
        rows = np.flatnonzero(self.gold >= 0)
        of_passages = self.base.pieces.lengths[self.gold[rows]]
        others = self.query_pieces.lengths + self.answer_pieces.lengths
        rooms = generator.max_length - generator.frame.overhead() - others[rows]
        cut = [
            (
                self.base.pieces[gold].tolist(),
                int(rooms[place]),
                self.base.passages[gold].text,
                self.answers[rows[place]],
            )
            for place, gold in enumerate(self.gold[rows].tolist())
            if of_passages[place] > rooms[place]
        ]
        whole = generator.max_length - rooms + of_passages
        tell_cut_prompts(generator, whole, count_behind(generator, cut))

    def lengths(self) -> np.ndarray:
        """Return about how many tokens each row has."""
        of_passages = self.base.tokens.lengths
        lengths: np.ndarray = self.query_tokens.lengths + self._of_gold(of_passages, 0)
        lengths = lengths + [int(of_passages[places].sum()) for places in self.negatives]
        if self.generator is not None:
            lengths = lengths + self._of_gold(self.base.pieces.lengths, 0)
            lengths = lengths + self.query_pieces.lengths + self.answer_pieces.lengths
        return lengths

    def keys_apart(self) -> Int[np.ndarray, "rows keys"]:
        """Return two keys of each row: its gold passage, if it has one, and its question."""
        passages = np.where(self.gold < 0, -1 - np.arange(len(self)), self.gold)
        return np.stack([passages, len(self.base) + self.golds.questions], 1)

    def _of_gold(self, values: np.ndarray, otherwise: np.ndarray | int) -> np.ndarray:
        return np.where(self.gold < 0, otherwise, values[self.gold])

    def collate(self, rows: Sequence[int]) -> Batch:
        """Return a batch of some rows, padded to the longest, for a rank alone."""
        return self._collate(rows, 0, 1)

    def collate_share(self, rows: Sequence[int]) -> Batch:
        """Return this rank's share of a batch, padded to the longest.

        What it has to know of the other ranks' rows, it reads from its own copy of them all.
        """
        return self._collate(rows, *position())

    def diagnostic_batch(self, size: int) -> Batch:
        """Return a batch of `size` rows spread over all, the same in every run."""
        return self.collate(self._diagnostic_rows(size))

    def _diagnostic_rows(self, size: int) -> list[int]:
        """Return rows with different questions: for each, another's passage is no gold one."""
        _, first = np.unique(self.golds.questions, return_index=True)
        return [int(first[n]) for n in spread_rows(len(first), size)]

    def _collate(self, rows: Sequence[int], rank: int, ranks: int) -> Batch:
        shares = [rows[each::ranks] for each in range(ranks)]
        own = shares[rank]
        negatives = [[p for row in each for p in self.negatives[row]] for each in shares]
        everyone = list(chain.from_iterable(shares))
        columns = np.array([*self.gold[everyone], *chain.from_iterable(negatives)], np.int64)
        places = [*self.gold[own].tolist(), *negatives[rank]]
        first = rank * len(own)
        batch: Batch = {
            "query": self.query_features(own),
            "passage": self.base.features(places),
            "keys": torch.from_numpy(self.base.keys[places]),
            "hard_negatives": [len(each) for each in negatives],
            "false_negatives": self._false_negatives(everyone, columns, first, len(own)),
        }
        if self.generator is not None:
            passages = [self.base.pieces[place].tolist() for place in columns]
            batch["pieces"] = Pieces(passages, *self._pieces(own), first)
            batch["no_candidates"] = self._no_candidates(own, columns, first)
            batch["force_gold"] = self._force_gold(rows)[rank::ranks]
        if self.teacher is not None:
            batch["columns"] = torch.from_numpy(columns)
            batch["teacher_places"], batch["teacher_logits"] = self.teacher.of(own)
        return batch

    def query_features(self, rows: Sequence[int]) -> dict[str, Any]:
        """Return what the retriever's `embed` takes for the questions of some rows."""
        features = self.retriever.batch([self.query_tokens[row] for row in rows], "query")
        return _with_vectors(features, self.query_vectors, rows)

    def _false_negatives(
        self, everyone: Sequence[int], columns: np.ndarray, first: int, count: int
    ) -> FalseNegatives:
        """Mark what is no negative for `count` rows from the first on; a row -1 has no gold."""
        own = slice(first, first + count)
        by_query = self.golds.mark(everyone[own], columns)
        by_passage = self.golds.mark(everyone, columns[own]).T
        for marked in (by_query, by_passage):
            marked[np.arange(count), np.arange(first, first + count)] = False
        return {
            "by_query": torch.from_numpy(by_query),
            "by_passage": torch.from_numpy(np.ascontiguousarray(by_passage)),
        }

    def _no_candidates(
        self, own: Sequence[int], columns: np.ndarray, first: int
    ) -> Bool[Tensor, "B C"]:
        """Mark gold passages that stand beside other answers only, and copies of the row's own."""
        marked = self.golds.mark(own, columns) & ~self.golds.mark(own, columns, with_answer=True)
        marked |= self.gold[own][:, None] == columns
        marked[np.arange(len(own)), first + np.arange(len(own))] = False
        return torch.from_numpy(marked)

    def _pieces(self, rows: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
        return (
            [self.query_pieces[row].tolist() for row in rows],
            [self.answer_pieces[row].tolist() for row in rows],
        )

    def _force_gold(self, rows: Sequence[int]) -> Tensor:
        drawn = self.random(rows).random(len(rows))
        return torch.from_numpy((drawn < self.gold_probability) & (self.gold[list(rows)] >= 0))


def _with_vectors(
    features: dict[str, Any], vectors: Tensor | None, places: Sequence[int] | np.ndarray
) -> dict[str, Any]:
    return features if vectors is None else features | {ENCODED: vectors[list(places)]}


def spread_rows(count: int, size: int) -> list[int]:
    """Return `size` of `count` rows, spread evenly."""
    return [int(row) for row in np.linspace(0, count - 1, min(size, count))]
