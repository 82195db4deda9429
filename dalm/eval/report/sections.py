"""Hold what the page shows of one kind of questions: systems, measures, baseline, findings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from dalm.eval.comparison import MeasureResult
from dalm.eval.findings import findings
from dalm.eval.results import Results
from dalm.eval.verdict import Part, Verdict, verdict_of


@dataclass(frozen=True, kw_only=True)
class Section:
    """Systems on one set of questions, compared with a baseline if there is one.

    `name` is the kind of questions, where the page has several. `findings` are those of each
    system.
    """

    name: str = ""
    systems: Sequence[Results]
    measures: Sequence[Sequence[MeasureResult]]
    baseline: Results | None = None
    findings: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, part: Part) -> Self:
        """Return the section of a verdict's part."""
        return cls(
            name=part.name,
            systems=[part.results],
            measures=[part.measures],
            baseline=part.baseline,
            findings=[findings(part.results, part.measures)],
        )

    @property
    def all_systems(self) -> list[tuple[int, Results]]:
        """All systems with the positions of their colours: the baseline is 0."""
        found = list(enumerate(self.systems, start=1))
        return [(0, self.baseline), *found] if self.baseline else found


def verdicts_of(sections: Sequence[Section]) -> list[Verdict]:
    """Return the verdict on each system by all sections; none without a baseline."""
    compared = [each for each in sections if each.baseline]
    if not compared:
        return []
    rows = [
        [
            Part(name=each.name, results=results, baseline=each.baseline, measures=measures)
            for results, measures in zip(each.systems, each.measures, strict=True)
            if each.baseline
        ]
        for each in compared
    ]
    return [verdict_of(parts) for parts in zip(*rows, strict=True)]
