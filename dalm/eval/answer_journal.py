"""Keep what a local generator made of prompts on disk, so that a killed evaluation goes on."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple, Self

from dalm import stop_signals
from dalm.llm.language_model import Reply
from dalm.llm.response_cache import Journal
from dalm.teachers.score_cache import ScoreCache


class _Asked(NamedTuple):
    key: str
    query: str

    @property
    def about(self) -> dict[str, str]:
        return {"query": self.query}


class AnswerJournal:
    """Hold answers and mean log-probabilities by their keys, and append new ones to two files.

    `path` has the answers of `generator`, as a server's replies are kept; the likelihoods of
    references are in the file beside it that ends in `-likelihoods.txt`. Processes at the same time
    have files of their own, and read all (see `Journal`). A killed process loses at most the batch
    that it was generating; `resume` is what goes on. Without a path nothing is read or written.

    Raises UserError when a file can't be written.
    """

    def __init__(
        self, path: Path | None = None, generator: str = "", resume: str = "the same command"
    ) -> None:
        self.path, self.generator, self.resume = path, generator, resume
        self._answers: Journal | None = None
        self._log_probs = ScoreCache(None)
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            if self.path is not None:
                answers = Journal(self.path, keep_empty=True, shared=True)
                self._answers = opened.enter_context(answers)
                hint = f" answers are kept: {self.resume} goes on"
                opened.enter_context(stop_signals.explaining(lambda: f"; {len(answers)}{hint}"))
                own, *others = map(_likelihoods, (answers.path, *answers.others))
                log_probs = ScoreCache(own, "--output-dir", others)
                self._log_probs = opened.enter_context(log_probs)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._opened.__exit__(*raised)

    def answer(self, key: bytes) -> str | None:
        """Return the answer to a prompt; None if there is none."""
        if self._answers is None or key.hex() not in self._answers:
            return None
        return self._answers.get(key.hex()).text

    def log_prob(self, key: bytes) -> float | None:
        """Return the mean log-probability of a reference; None if there is none."""
        return self._log_probs.get(key)

    def add_answers(self, answers: Mapping[bytes, str], queries: Mapping[bytes, str]) -> None:
        """Keep the answers of a batch, with the questions for whoever reads the file."""
        if self._answers is not None:
            for key, answer in answers.items():
                self._answers.add(_Asked(key.hex(), queries[key]), Reply(answer), self.generator)

    def add_log_probs(self, log_probs: Mapping[bytes, float]) -> None:
        """Keep the mean log-probabilities of a batch of references."""
        self._log_probs.add(log_probs)


def _likelihoods(answers: Path) -> Path:
    return answers.with_name(f"{answers.stem}-likelihoods.txt")
