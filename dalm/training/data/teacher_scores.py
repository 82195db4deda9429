"""Know a table's teacher's scores of passages, for rows whose candidates are found in training."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dalm.errors import UserError
from dalm.records import NO_SCORE, Example, ScoredQuestion, normalise, question_id
from dalm.training import losses


class TeacherScores:
    """The passages of each row that a teacher has scored, and the logits of its softmax over them.

    A row's are those of the table's line with its question and answer. `places` are those of the
    passages in the knowledge base, by their ids; others aren't found in training, and count as not
    scored.

    Raises:
        UserError: no row has a passage with a score.
    """

    def __init__(
        self,
        questions: Sequence[ScoredQuestion],
        examples: Sequence[Example],
        places: Mapping[str, int],
    ) -> None:
        scored = [
            [c for c in q.candidates if c.score is not None and c.passage.id in places]
            for q in questions
        ]
        scores = padded([np.array([c.score for c in row], np.float64) for row in scored], NO_SCORE)
        best = scores.max(1, initial=NO_SCORE, keepdims=True)
        distances = scores - np.where(best > NO_SCORE, best, 0)  # large scores lose digits in fp32
        logits = distances / temperatures(questions, scores)[:, None]
        lines = {_key(each): line for line, each in enumerate(questions)}
        self.places: list[Int[np.ndarray, "scored"]] = []
        self.logits: list[Float[np.ndarray, "scored"]] = []
        for example in examples:
            line = lines.get(_key(example))
            found = [] if line is None else scored[line]
            self.places.append(np.array([places[c.passage.id] for c in found], np.int64))
            self.logits.append(np.empty(0) if line is None else logits[line, : len(found)])
        if not any(map(len, self.places)):
            raise UserError(
                "--teacher-mix: the table's teacher has scored no passage of the knowledge base; "
                "train on the table and the passages that dalm score-candidates was given"
            )

    def of(
        self, rows: Sequence[int], without: int = 0
    ) -> tuple[Int[Tensor, "queries scored"], Float[Tensor, "queries scored"]]:
        """Return places and logits for some rows, then for `without` queries that have none."""
        places = [self.places[row] for row in rows] + [np.empty(0, np.int64)] * without
        logits = [self.logits[row] for row in rows] + [np.empty(0)] * without
        return torch.from_numpy(padded(places, -1)), torch.from_numpy(padded(logits, NO_SCORE))


def _key(asked: ScoredQuestion | Example) -> tuple[str, str]:
    return question_id(asked.query), normalise(asked.answer or "")


class Tempered(Protocol):
    """Know the temperature of the softmax over its scores; None: not known."""

    @property
    def temperature(self) -> float | None:
        """The temperature."""
        ...


def temperatures(
    questions: Sequence[Tempered], scores: Float[np.ndarray, "questions K"]
) -> Float[np.ndarray, "questions"]:
    """Return each question's temperature: its own, else one for all that have none.

    With that one a third of the scored candidates carry the target on average, at least one.
    Without a score a candidate is at −inf in `scores`.
    """
    chosen = 1.0
    if not all(question.temperature for question in questions):
        table = torch.from_numpy(scores[(scores > NO_SCORE).any(1)])
        if len(table):
            third = ((table > NO_SCORE).sum(1) / 3).clamp(min=1).mean().item()
            chosen = losses.temperature_for(table, third)
    return np.array([question.temperature or chosen for question in questions])


def padded(rows: Sequence[np.ndarray], padding: float) -> np.ndarray:
    """Return rows of unlike lengths in one array, padded on the right."""
    dtype = rows[0].dtype if len(rows) else np.float64
    table = np.full((len(rows), max(map(len, rows), default=0)), padding, dtype)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return table
