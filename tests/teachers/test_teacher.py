"""What every teacher is and does: the registry, and the cache of those that score pairs."""

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from dalm.errors import UserError
from dalm.records import Passage
from dalm.teachers import teacher as registry
from dalm.teachers.teacher import TEACHERS, Candidates, Pair, PairTeacher, Teacher, teacher_class


@pytest.mark.parametrize("name", TEACHERS)
def test_a_registered_teacher_says_what_it_is(name: str) -> None:
    found = teacher_class(name)
    assert issubclass(found, Teacher)
    assert found.name == name
    assert found.label
    assert found.unit
    assert found.temperature > 0
    assert found.margin > 0


def test_an_unknown_teacher_is_refused() -> None:
    with pytest.raises(UserError, match="--teacher oracle: no such teacher; registered are answer"):
        teacher_class("oracle")


class Length(PairTeacher):
    """Score a passage by its length; batches of two, the last one first."""

    name: ClassVar[str] = "length"
    label: ClassVar[str] = "length"
    unit: ClassVar[str] = "characters"
    temperature: ClassVar[float] = 1.0
    margin: ClassVar[float] = 1.0
    breaks_after: int | None = None

    def __init__(self, cache: Path | None, scale: int = 1) -> None:
        super().__init__(cache)
        self.scale = scale
        self.scored: list[str] = []

    @classmethod
    def from_config(cls, settings: Any) -> Self:
        return cls(settings.cache_dir)

    @property
    def identity(self) -> str:
        return str(self.scale)

    def score_pairs(self, pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
        for start in range((len(pairs) - 1) // 2 * 2, -1, -2):
            if self.breaks_after is not None and len(self.scored) >= self.breaks_after:
                raise KeyboardInterrupt
            batch = {row: pairs[row] for row in range(start, min(start + 2, len(pairs)))}
            self.scored += [pair.passage for pair in batch.values()]
            yield {row: float(len(p.passage)) * self.scale for row, p in batch.items()}


def asked(query: str, *texts: str) -> Candidates:
    return Candidates(query, "an answer", tuple(map(Passage.of, texts)))


QUESTIONS = [asked("1?", "a", "bb", "ccc"), asked("1?", "bb"), asked("2?", "dddd", "bb")]


def test_teachers_of_other_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [
        EntryPoint("oracle", "dalm.teachers.gold:Gold", registry.GROUP),
        EntryPoint("passage", "dalm.records:Passage", registry.GROUP),
    ]
    monkeypatch.setattr(
        "dalm.plugins.entry_points", lambda group: entries * (group == registry.GROUP)
    )
    assert teacher_class("oracle").name == "gold"
    with pytest.raises(UserError, match=r"passage \(dalm\.records:Passage\) is no subclass"):
        teacher_class("passage")
    with pytest.raises(UserError, match=r"registered are answer-match, .*oracle, passage"):
        teacher_class("another")


def test_the_search_s_own_order() -> None:
    scores = teacher_class("search")().score(QUESTIONS)  # type: ignore[abstract]
    assert scores == [[0, -1, -2], [0], [0, -1]]


def test_each_pair_is_scored_once(tmp_path: Path) -> None:
    for cache in (None, tmp_path):
        teacher = Length(cache)
        assert teacher.score(QUESTIONS) == [[1, 2, 3], [2], [4, 2]]
        assert sorted(teacher.scored) == ["a", "bb", "bb", "ccc", "dddd"], "bb for two questions"
    again = Length(tmp_path)
    assert again.score([*QUESTIONS, asked("2?", "a", "bb")])[3] == [1, 2]
    assert again.scored == ["a"]
    other = Length(tmp_path, scale=2)
    assert other.score(QUESTIONS)[0] == [2, 4, 6]
    assert len(other.scored) == 5, "another teacher's scores are not its own"


def test_a_stopped_teacher_goes_on(tmp_path: Path) -> None:
    stopped = Length(tmp_path)
    stopped.breaks_after = 2
    with pytest.raises(KeyboardInterrupt):
        stopped.score(QUESTIONS)
    again = Length(tmp_path)
    assert again.score(QUESTIONS) == [[1, 2, 3], [2], [4, 2]]
    assert len(stopped.scored) + len(again.scored) == 5


def test_a_score_that_is_no_number_is_refused_and_not_kept(tmp_path: Path) -> None:
    broken = Length(tmp_path)
    broken.score_pairs = lambda pairs: iter([{0: float("nan")}])  # type: ignore[method-assign]
    with pytest.raises(UserError, match="teacher length: a score is nan; try --precision fp32"):
        broken.score([asked("1?", "a")])
    assert Length(tmp_path).score([asked("1?", "a")]) == [[1]]
