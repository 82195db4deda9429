"""Define what a teacher is, and register the teachers by name.

A teacher scores the candidate passages of a question; the scores train a retriever. To add one,
write a class in a file of its own and add a line to `TEACHERS`; another package registers it as an
entry point of the group `dalm.teachers`. `dalm score-candidates --teacher` takes all of them.
"""

import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from dalm.config.options import spelled
from dalm.errors import UserError
from dalm.plugins import entry_points_of, load_entry_point
from dalm.progress import Bar
from dalm.records import Passage
from dalm.scaling.pool import Make, Pool, check_same
from dalm.teachers.score_cache import ScoreCache, pair_key

logger = logging.getLogger(__name__)

TEACHERS: dict[str, str] = {
    "search": "dalm.teachers.search_rank:SearchRank",
    "gold": "dalm.teachers.gold:Gold",
    "answer-match": "dalm.teachers.answer_match:AnswerMatch",
    "generator": "dalm.teachers.answer_likelihood:AnswerLikelihood",
    "cross-encoder": "dalm.teachers.cross_encoder:CrossEncoder",
    "feedback": "dalm.teachers.ratings:Feedback",
    "llm-pointwise": "dalm.teachers.llm_pointwise:LlmPointwise",
    "llm-listwise": "dalm.teachers.llm_listwise:LlmListwise",
}
"""Where each teacher's class is, by its name: `module:class`."""
GROUP = "dalm.teachers"
"""Group of the entry points of other packages' teachers."""

RUNS, RUN = 5, 8
"""Pairs that a dry run scores: so many runs, about, of so many."""

Needs = Literal["answer", "gold"]
"""What a teacher must know of a question: its answer; its gold passages."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """A question and its candidate passages, in the order of the search that found them."""

    query: str
    answer: str | None
    passages: tuple[Passage, ...]
    golds: frozenset[str] = frozenset()
    """`text_key`s of the question's gold passages; only teachers that need gold may look at it."""


class Teacher(ABC):
    """Score candidate passages; higher is better."""

    name: ClassVar[str]
    """Name in the registry, in `--teacher` and in the log."""
    label: ClassVar[str]
    """What it is, in a few words."""
    unit: ClassVar[str]
    """What its scores are measured in."""
    needs: ClassVar[frozenset[Needs]] = frozenset()
    temperature: ClassVar[float]
    """Temperature of the softmax that turns its scores into a distribution over candidates."""
    margin: ClassVar[float]
    """In its unit: a candidate so far below the best one, or farther, is clearly worse than it.
    One that is nearer is tied with the best: it is no negative, and left to a further teacher."""
    is_graded: ClassVar[bool] = False
    """Whether its scores tell how much better a passage is: then a retriever is to be trained on
    them (`--objective listwise`), not on its positives alone."""
    least_positive: ClassVar[float] = -math.inf
    """Score that the best candidate must have to be the positive."""
    takes_time: ClassVar[bool] = False
    """Whether scoring takes more than seconds, so that `log_estimate` says how long."""

    @classmethod  # noqa: B027
    def check(cls, settings: Any) -> None:
        """Refuse options that can't work, before anything is loaded. Raises UserError."""

    @classmethod
    def from_config(cls, settings: Any) -> Self:  # noqa: ARG003
        """Make the teacher of the options of `dalm score-candidates`; here it has none.

        Models are loaded here.

        Raises:
            UserError: no such model, or a server that is down.
        """
        return cls()

    def use_pool(self, pool: Pool, settings: Any) -> None:  # noqa: B027
        """Score in a pool, if that takes time; by default it doesn't."""

    @abstractmethod
    def score(self, questions: Sequence[Candidates]) -> Sequence[Sequence[float | None]]:
        """Return a finite score of each candidate of each question, in their order.

        None: the teacher can't say. What costs time is cached, so that a killed run goes on where
        it was.
        """

    def add_candidates(
        self,
        questions: Sequence[Candidates],
        passages: Sequence[Passage],  # noqa: ARG002
    ) -> list[Candidates]:
        """Return the questions with the candidates that it knows beside those of the search.

        `passages` are those of the knowledge base.
        """
        return list(questions)

    def log_estimate(self, questions: Sequence[Candidates]) -> None:  # noqa: ARG002
        """Log how long scoring takes."""
        logger.info("dry run    %s: seconds", self.name)


class Pair(NamedTuple):
    """A question and answer with one passage."""

    query: str
    answer: str | None
    passage: str


class PairTeacher(Teacher):
    """Score each candidate by itself, each distinct pair once, and cache the scores on disk.

    `cache` is the folder of the caches; None: nothing is cached.
    """

    takes_time: ClassVar[bool] = True
    block: ClassVar[int] = 256
    """Pairs that are scored together."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self._elsewhere: tuple[Pool, Make[Sequence[Pair], Mapping[int, float]]] | None = None

    def use_pool(self, pool: Pool, settings: Any) -> None:
        """Score in a pool, with what `from_config` loads there by the same options."""
        self._elsewhere = pool, partial(_scorer, type(self), settings, self.identity)

    @property
    @abstractmethod
    def identity(self) -> str:
        """A hash of all that a score depends on besides question, answer and passage."""

    @abstractmethod
    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
        """Yield the scores of one batch after the other, each by its pair's place in `pairs`.

        A pair that can't be scored is left out.
        """

    def order(self, pairs: Sequence[Pair]) -> Sequence[int]:
        """Return the places of the pairs in the order in which blocks of them are scored."""
        return range(len(pairs))

    def _scored(self, pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
        """Yield the scores of one batch after the other, computed here or in the pool."""
        if self._elsewhere is None:
            yield from self.score_pairs(pairs)
            return
        pool, make = self._elsewhere
        order = self.order(pairs)
        blocks = [order[start : start + self.block] for start in range(0, len(order), self.block)]
        of_blocks = ([pairs[row] for row in block] for block in blocks)
        with closing(pool.map(make, of_blocks)) as scored:
            for block, scores in zip(blocks, scored, strict=True):
                yield {block[place]: score for place, score in scores.items()}

    def score(self, questions: Sequence[Candidates]) -> list[list[float | None]]:
        """Return the scores; what the cache has is not computed again.

        Raises:
            UserError: a score is not finite.
        """
        keys = _keys(questions)
        with self._open_cache() as cache:
            missing = [pair for pair, key in keys.items() if key not in cache]
            cache.log(self.name, len(keys), len(missing))
            known = len(keys) - len(missing)
            with Bar(len(keys), "scoring", "candidates", initial=known) as bar:
                for batch in self._scored(missing) if missing else ():
                    self._check(batch)
                    cache.add({keys[missing[row]]: score for row, score in batch.items()})
                    bar.update(len(batch))
            return [
                [cache.get(keys[Pair(q.query, q.answer, p.text)]) for p in q.passages]
                for q in questions
            ]

    def _open_cache(self) -> ScoreCache:
        name = f"{self.name}-{self.identity}.txt"
        return ScoreCache(self.cache and self.cache / "scores" / name)

    def log_estimate(self, questions: Sequence[Candidates]) -> None:
        """Log how long scoring takes, by the time of a few pairs; none of their scores is kept."""
        keys = _keys(questions)
        with self._open_cache() as cache:
            missing = [pair for pair, key in keys.items() if key not in cache]
            cache.log(self.name, len(keys), len(missing))
        missing.sort(key=lambda pair: pair.passage)  # as a teacher may take them: read once
        runs = range(0, len(missing), max(RUN, len(missing) // RUNS))
        some = [pair for start in runs for pair in missing[start : start + RUN]]
        if some:
            list(self.score_pairs(some[:1]))  # the first call is slower than the others
            start = time.perf_counter()
            list(self.score_pairs(some))
            seconds = time.perf_counter() - start
            total = seconds * sum(map(_size, missing)) / sum(map(_size, some))
            logger.info(
                "dry run    %s: about %s for %d candidates, of which %d took %.1f s",
                *(self.name, timedelta(seconds=round(total)), len(missing), len(some), seconds),
            )

    def _check(self, batch: Mapping[int, float]) -> None:
        for score in batch.values():
            if not math.isfinite(score):
                raise UserError(
                    f"teacher {self.name}: a score is {score}; try --precision fp32, or another "
                    "model"
                )


def _scorer(
    kind: type[PairTeacher], settings: Any, identity: str
) -> Callable[[Sequence[Pair]], Mapping[int, float]]:
    """Load a teacher in a worker, check that it is the command's own, and return how it scores."""
    teacher = kind.from_config(settings)
    check_same(f"teacher {kind.name}", teacher.identity, identity)
    return lambda pairs: dict(
        each for batch in teacher.score_pairs(pairs) for each in batch.items()
    )


def _keys(questions: Sequence[Candidates]) -> dict[Pair, bytes]:
    """Return the distinct pairs with their keys in the cache."""
    keys: dict[Pair, bytes] = {}
    for each in questions:
        for passage in each.passages:
            pair = Pair(each.query, each.answer, passage.text)
            keys.setdefault(pair, pair_key(*pair))
    return keys


def _size(pair: Pair) -> int:
    return len(pair.query) + len(pair.answer or "") + len(pair.passage)


def teacher_class(name: str) -> type[Teacher]:
    """Return the class of a registered teacher.

    Raises:
        UserError: no teacher has this name, here or among the entry points.
    """
    if name in TEACHERS:
        module, _, attribute = TEACHERS[name].partition(":")
        found: type[Teacher] = getattr(import_module(module), attribute)
        return found
    others = entry_points_of(GROUP)
    if name not in others:
        known = ", ".join(sorted({*TEACHERS, *others}))
        raise UserError(f"--teacher {name}: no such teacher; registered are {known}")
    loaded: object = load_entry_point(others[name])
    if not (isinstance(loaded, type) and issubclass(loaded, Teacher)):
        raise UserError(
            f"--teacher {name} ({others[name].value}) is no subclass of "
            "dalm.teachers.teacher.Teacher; update or remove the package that brings it"
        )
    return loaded


def needs_of(teachers: Sequence[type[Teacher]], settings: Any) -> dict[Needs, str]:
    """Return what the rows must have, each with the option that needs it."""
    needs: dict[Needs, str] = {"gold": "--check"} if settings.check else {}
    for teacher in teachers:
        for each in teacher.needs:
            needs.setdefault(each, f"--teacher {teacher.name}")
    return needs


def required(settings: Any, teacher: str, option: str) -> str:
    """Return the option without which a teacher can't work.

    Raises:
        UserError: it is not given.
    """
    value: str | None = getattr(settings, option)
    if value is None:
        raise UserError(f"--teacher {teacher} needs {spelled(option)}; name one")
    return value
