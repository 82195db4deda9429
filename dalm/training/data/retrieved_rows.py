"""Rows whose candidates are searched, and statements of the knowledge base to write from others."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from dalm.errors import UserError
from dalm.ingest.sentences import sentence_starts
from dalm.ingest.words import split_words
from dalm.prompts import STATE
from dalm.training.data.batches import Batch, Pieces, Rows, probed

SHARE = 4
"""Questions to each statement."""
WORDS = range(6, 41)
"""Words of a sentence that states something and is written soon enough."""


class SearchedRows(Rows):
    """Rows whose passages are found in the knowledge base, with statements if they have a weight.

    A statement is a sentence of a passage: it is searched like a question, its own passage may not
    be found for it, and the generator has to write it from what is found (Siriwardhana et al. 2023,
    arXiv:2210.02627, section 3.2).
    """

    def __init__(self, *given: Any, reconstruction_weight: float = 0.0, **options: Any) -> None:
        super().__init__(*given, **options)
        self.reconstruction_weight = reconstruction_weight
        assert self.generator is not None
        self.task = self.generator.tokenise_queries([STATE])[0].tolist()
        self.stated: list[int] = []
        if reconstruction_weight:
            least = self.generator.frame.overhead() + len(self.task) + WORDS.start
            if self.generator.max_length < least:
                raise UserError(
                    "--reconstruction-weight: a prompt leaves no room for a statement; use "
                    f"--generator-max-len {least} or more, or leave it out"
                )
            passages = enumerate(self.base.passages)
            self.stated = [place for place, p in passages if sentences(p.text)]
            if not self.stated:
                raise UserError(
                    "--reconstruction-weight: no passage has a sentence of "
                    f"{WORDS.start} to {WORDS.stop - 1} words; leave it out"
                )

    def collate(self, rows: Sequence[int]) -> Batch:
        """Put questions and statements together to a batch."""
        return self._batch(rows, *self._statements(rows))

    def probe(self, size: int) -> Batch:
        """Return some questions, the same in every run, to take figures on."""
        return self._batch(probed(len(self), size), [], [])

    def _batch(self, rows: Sequence[int], stated: Sequence[int], texts: Sequence[str]) -> Batch:
        queries = [self.query_tokens[row] for row in rows]
        queries += self.retriever.tokenise(texts, "query")
        asked, answers = self._pieces(rows)
        asked += [self.task] * len(texts)
        answers += self._answers(texts)
        none = torch.full((len(texts),), -1)
        weights = [1.0] * len(rows) + [self.reconstruction_weight] * len(texts)
        return {
            "query": self.retriever.batch(queries, "query"),
            "gold": torch.cat([torch.from_numpy(self.gold[list(rows)]), none]),
            "forced": torch.cat([self._forced(rows), none > 0]),
            "hidden": torch.cat([torch.full((len(rows),), -1), torch.tensor(stated).long()]),
            "weights": torch.tensor(weights),
            "pieces": Pieces([], asked, answers),
        }

    def _statements(self, rows: Sequence[int]) -> tuple[list[int], list[str]]:
        """Draw passages and a sentence of each."""
        if not self.stated:
            return [], []
        random = np.random.default_rng([self.seed + 1, self.epoch, *rows])
        places = random.choice(self.stated, -(-len(rows) // SHARE)).tolist()
        found = [sentences(self.base.passages[place].text) for place in places]
        return places, [each[random.integers(len(each))] for each in found]

    def _answers(self, texts: Sequence[str]) -> list[list[int]]:
        assert self.generator is not None
        room = self.generator.max_length - self.generator.frame.overhead() - len(self.task)
        return [row[:room].tolist() for row in self.generator.tokenise_answers(texts)]


def sentences(text: str) -> list[str]:
    """Return the sentences that state something: neither a fragment nor a paragraph."""
    starts = [0, *sentence_starts(text), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(starts))
    return [part for part in parts if len(split_words(part)) in WORDS]
