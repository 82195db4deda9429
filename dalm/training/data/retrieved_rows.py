"""Make training rows whose candidates are searched, and statements to reconstruct."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
import torch

from dalm.config import RagE2E
from dalm.errors import UserError
from dalm.ingest.sentence_boundaries import sentence_starts
from dalm.ingest.words import split_words
from dalm.models.generator import Generator
from dalm.models.retriever import Retriever
from dalm.prompts import STATE
from dalm.records import Example, Passage, ScoredQuestion
from dalm.training.data.batches import Batch, Pieces, Rows

QUESTIONS_PER_STATEMENT = 4
WORDS = range(6, 41)
"""Words of a sentence that can be a statement."""


class RetrievedRows(Rows):
    """Hold rows whose passages are searched, with statements to reconstruct if they have a weight.

    A statement is a sentence of a passage: it is searched like a question, its own passage is
    excluded from its candidates, and the generator has to write it from the others (Siriwardhana et
    al. 2023, arXiv:2210.02627, section 3.2).
    """

    def __init__(self, *given: Any, reconstruction_weight: float = 0.0, **options: Any) -> None:
        super().__init__(*given, **options)
        self.reconstruction_weight = reconstruction_weight
        assert self.generator is not None
        self.task = self.generator.tokenise_queries([STATE])[0].tolist()
        self.passages_with_statements: list[int] = []
        if reconstruction_weight:
            least = self.generator.frame.overhead() + len(self.task) + WORDS.start
            if self.generator.max_length < least:
                raise UserError(
                    "--reconstruction-weight: a prompt leaves no room for a statement; use "
                    f"--generator-max-len {least} or more, or leave it out"
                )
            self.passages_with_statements = [
                place for place, p in enumerate(self.base.passages) if sentences(p.text)
            ]
            if not self.passages_with_statements:
                raise UserError(
                    "--reconstruction-weight: no passage has a sentence of "
                    f"{WORDS.start} to {WORDS.stop - 1} words; leave it out"
                )

    def diagnostic_batch(self, size: int) -> Batch:
        """Return a batch of `size` questions spread over all, the same in every run."""
        return self._batch(self._diagnostic_rows(size), [], [], 0, 1)

    def _collate(self, rows: Sequence[int], rank: int, ranks: int) -> Batch:
        """Return a rank's questions, with its statements beside them."""
        return self._batch(rows, *self._statements(rows, ranks), rank, ranks)

    def _batch(
        self,
        all_rows: Sequence[int],
        all_statements: Sequence[int],
        all_texts: Sequence[str],
        rank: int,
        ranks: int,
    ) -> Batch:
        """Return a rank's share of questions and statements, of which every rank has as many."""
        rows, texts = all_rows[rank::ranks], all_texts[rank::ranks]
        statement_places = all_statements[rank::ranks]
        none = [-1] * len(texts)
        shares = [[*all_rows[each::ranks], *none] for each in range(ranks)]
        everyone = list(chain.from_iterable(shares))
        others = [[self.golds.with_other_answers(row) for row in each] for each in shares]
        columns = np.array([self.gold[row] if row >= 0 else -1 for row in everyone], np.int64)
        queries = [self.query_tokens[row] for row in rows]
        queries += self.retriever.tokenise(texts, "query")
        asked, answers = self._pieces(rows)
        asked += [self.task] * len(texts)
        answers += self._answers(texts)
        not_forced = torch.zeros(len(texts), dtype=torch.bool)
        weights = [1.0] * len(rows) + [self.reconstruction_weight] * len(texts)
        batch: Batch = {
            "query": self.retriever.batch(queries, "query"),
            "gold": torch.tensor([*self.gold[list(rows)].tolist(), *none]),
            "force_gold": torch.cat([self._force_gold(all_rows)[rank::ranks], not_forced]),
            "excluded": torch.tensor([*[-1] * len(rows), *statement_places]),
            "false_negatives": self._false_negatives(
                everyone, columns, rank * len(shares[rank]), len(shares[rank])
            ),
            "other_golds": others[rank],
            "most_other_golds": max(len(each) for share in others for each in share),
            "weights": torch.tensor(weights),
            "pieces": Pieces([], asked, answers),
        }
        if self.teacher is not None:
            found = self.teacher.of(rows, without=len(texts))
            batch["teacher_places"], batch["teacher_logits"] = found
        return batch

    def _statements(self, rows: Sequence[int], ranks: int) -> tuple[list[int], list[str]]:
        """Draw passages and a sentence of each, as many for every rank."""
        if not self.passages_with_statements:
            return [], []
        random = np.random.default_rng([self.seed + 1, self.epoch, *rows])
        each = -(-len(rows) // ranks // QUESTIONS_PER_STATEMENT)
        places = random.choice(self.passages_with_statements, each * ranks).tolist()
        found = [sentences(self.base.passages[place].text) for place in places]
        return places, [texts[random.integers(len(texts))] for texts in found]

    def _answers(self, texts: Sequence[str]) -> list[list[int]]:
        assert self.generator is not None
        room = self.generator.max_length - self.generator.frame.overhead() - len(self.task)
        return [row[:room].tolist() for row in self.generator.tokenise_answers(texts)]


def joint_rows(
    examples: Sequence[Example],
    more: Sequence[Passage],
    retriever: Retriever,
    generator: Generator,
    settings: RagE2E,
    *,
    scored: Sequence[ScoredQuestion] = (),
) -> Rows:
    """Return the rows of joint training; `more` are passages besides the examples' own."""
    chosen: dict[str, Any] = {"gold_probability": settings.gold_probability, "seed": settings.seed}
    chosen["scored"] = scored
    if settings.candidates == "in-batch":
        return Rows(examples, retriever, generator, **chosen)
    chosen["reconstruction_weight"] = settings.reconstruction_weight
    return RetrievedRows(examples, retriever, generator, more=more, **chosen)


def sentences(text: str) -> list[str]:
    """Return the sentences whose length is that of a statement (`WORDS`)."""
    starts = [0, *sentence_starts(text), len(text)]
    parts = (text[start:end].strip() for start, end in pairwise(starts))
    return [part for part in parts if len(split_words(part)) in WORDS]
