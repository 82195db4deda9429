"""Collect the passages that training reads or searches, and refuse a set that is too small."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from dalm.config import GeneratorOnly, Optimisation, RagE2E
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.models.batching import Ragged
from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.records import Example, Passage


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

    def __len__(self) -> int:
        return len(self.passages)

    def features(self, places: Sequence[int] | np.ndarray) -> dict[str, Any]:
        """Return what the retriever's `embed` takes for some of the passages."""
        return self.retriever.batch([self.tokens[place] for place in places], "passage")

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


def check_negatives(examples: Sequence[Example], settings: Optimisation) -> None:
    """Refuse data that leaves a question without a negative.

    Raises:
        UserError: a batch of one question without hard negatives, or a table of one passage.
    """
    if all(example.negatives for example in examples):
        return
    if settings.per_device_train_batch_size < 2:
        raise UserError(
            "--per-device-train-batch-size 1: the negatives are the batch's other passages; "
            "use 2 or more, or give every question hard negatives (dalm mine-negatives)"
        )
    distinct = {example.passage.id for example in examples if example.passage}
    if len(distinct) < 2:
        raise UserError(
            "the table has one distinct passage, so there are no negatives; add rows with others"
        )


def additional_passages(examples: Sequence[Example], settings: RagE2E) -> list[Passage]:
    """Return the passages for joint training to search besides the examples' own.

    Raises:
        UserError: fewer than two passages in all, or a contrastive weight without gold passages.
    """
    own = {example.passage.id for example in examples if example.passage}
    if settings.candidates == "in-batch":
        check_negatives(examples, settings)
        return []
    more = [p for source in settings.passages or () for p in read_passages(source, settings)]
    count = len(own.union(passage.id for passage in more))
    if count < 2:
        raise UserError(
            f"--candidates index: the knowledge base has {count} passages; name tables of passages "
            "with --passages"
        )
    if not own and settings.contrastive_weight not in (0, RagE2E.contrastive_weight):
        raise UserError(
            "--contrastive-weight has no effect on a table without gold passages; leave it out"
        )
    return more


def searched_passages(examples: Sequence[Example], settings: GeneratorOnly) -> list[Passage]:
    """Return the distinct passages to find distractors in: the examples' own and `--passages`.

    Raises:
        UserError: too few of them for a prompt, or a fraction of gold passages without any.
    """
    found = {example.passage.id: example.passage for example in examples if example.passage}
    if not found and settings.gold_probability is not None:
        raise UserError(
            "--gold-probability has no effect on a table without gold passages; leave it out"
        )
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    if len(found) < settings.reads():
        raise UserError(
            f"--reader-passages {settings.reads()}: there are {len(found)} distinct passages; "
            "lower it, or name tables of passages with --retriever-name-or-path and --passages"
        )
    return list(found.values())
