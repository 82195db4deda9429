"""Decide from evaluations whether a system is better than its baseline.

**Better** needs all of this:

1. a decisive measure gained on a deciding part, by more than chance;
2. the gain survives where it is used;
3. no measure of any part is significantly worse, those of the guard and of fused and reranked
   rankings included.

**Worse**: a measure is significantly worse, and no gain survives. Everything else is **not shown**.

*Parts* are kinds of questions. Those of people and of feedback decide; generated ones, and others,
decide only where neither could show any difference: so few documents allow no p that is small
enough, whatever is measured. General questions, the guard, can only lose.

*Decisive* are retrieval measures, and of answers those that say whether they are right
(`Metric.headline`). The others, such as grounding or NLL, can lose, but make no system better.

*A gain survives* if the same retrieval measure is also significantly better in each later stage
that was measured: fused with BM25, and reranked. A gain of answers survives if they were read from
reranked passages or from a searched index, if a gain of retrieval survives, or if the answers from
the gold passage are significantly better, too: then it is the generator's own.

*Chance*: p is adjusted by Holm over the measures of a part, in each stage (`comparison`), and
multiplied by the number of deciding parts (Bonferroni). So two equal systems are called better in
at most 5 % of all cases, and in fact in half of that at most: half of what chance finds are losses,
and each further condition only takes cases away. Losses are not adjusted over parts and stages:
what is missed there would be served to people.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from dalm import file_reading
from dalm.errors import UserError
from dalm.eval.comparison import ALPHA, MeasureResult, compare
from dalm.eval.metrics import is_variant, label, metric_of
from dalm.eval.results import BASELINE, REMEDY, SUMMARY, Results, load
from dalm.eval.sentences import counted, number, sentence

HUMAN, FEEDBACK, GENERATED = "human questions", "feedback", "generated questions"
GUARD = "general questions"
PEOPLE = (HUMAN, FEEDBACK)
"""Parts that decide before all others."""
LATER = {"fused": "fused with BM25", "reranked": "behind the reranker"}
"""Stages of the search in which a gain has to survive."""
READS = "F1"
"""The measure that shows whether a generator answers better from the gold passage, where the
gaining measure isn't taken there, as a judge's."""

Outcome = Literal["better", "worse", "not shown"]
WORDS = {"better": "Better", "worse": "Worse", "not shown": "Not shown to be better"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One evaluation of a system and its baseline: one kind of questions.

    `name` is `HUMAN`, `FEEDBACK`, `GENERATED`, `GUARD`, or any other for questions that decide as
    generated ones do; empty, if there is one part.
    """

    name: str
    results: Results
    baseline: Results
    measures: Sequence[MeasureResult]

    @classmethod
    def read(cls, name: str, run_folder: Path) -> Self:
        """Read a run folder of `dalm eval-retriever` or `dalm eval-rag` with its baseline's.

        Raises:
            UserError: no run, a damaged one, or one without a baseline.
        """
        results = load(run_folder)
        if not (run_folder / BASELINE).is_dir():
            raise UserError(f"{run_folder} has no baseline to compare with; evaluate with one")
        baseline = load(run_folder / BASELINE)
        seed = int(file_reading.read_json(run_folder / SUMMARY, REMEDY).get("seed", 0))
        measures = compare(results, baseline, seed=seed)
        return cls(name=name, results=results, baseline=baseline, measures=measures)

    @cached_property
    def known(self) -> dict[str, MeasureResult]:
        """The measures that both systems have, by name."""
        return {each.measure: each for each in self.measures if each.against}

    @property
    def plain(self) -> list[MeasureResult]:
        """The measures of the retriever alone and of the answers, which p is adjusted over."""
        return [each for name, each in self.known.items() if not is_variant(name)]

    @property
    def decisive(self) -> list[MeasureResult]:
        """The measures whose gain makes a system better."""
        return [each for each in self.plain if _is_decisive(each.measure)]

    def could_show(self, alpha: float) -> bool:
        """Return whether so many documents and measures allow an adjusted p up to `alpha`."""
        ps = [each.against.least_p for each in self.decisive if each.against]
        return bool(ps) and min(ps) * len(self.plain) <= alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a system is better than its baseline, why, and what it lost.

    Each sentence names the figures, the interval of the difference, and the questions and documents
    behind it.
    """

    outcome: Outcome
    headline: str
    reasons: tuple[str, ...]
    losses: tuple[str, ...]

    @property
    def switches(self) -> bool:
        """Whether an index may be switched to the system: only if it is better."""
        return self.outcome == "better"


def verdict_of(parts: Sequence[Part]) -> Verdict:
    """Return the verdict on one system by all its parts; this module's docstring has the rule."""
    deciding = _deciding(parts)
    gains = {part: _gains(part, max(1, len(deciding))) for part in parts}
    decisive = [gain for part in deciding for gain in gains[part]]
    survived = [gain for gain in decisive if gain.survived]
    losses = tuple(_in(part, each) for part in parts for each in _losses(part))
    outcome: Outcome = "not shown"
    if survived and not losses:
        outcome = "better"
    elif losses and not survived:
        outcome = "worse"
    lead = next(iter(survived or decisive), None)
    said = _headline([*deciding, *parts], lead, losses)
    return Verdict(
        outcome=outcome,
        headline=f"{WORDS[outcome]}: {said}",
        reasons=tuple(_reasons(parts, deciding, gains)),
        losses=losses,
    )


# The rule


@dataclass(frozen=True, slots=True)
class _Gain:
    """A significant gain of a decisive measure, and what became of it where it is used."""

    part: Part
    result: MeasureResult
    survived: bool
    where: str
    """Where it did or didn't survive, in words."""


def _is_retrieval(measure: str) -> bool:
    metric = metric_of(measure)
    return metric is None or metric.needs == "relevance"


def _is_decisive(measure: str) -> bool:
    metric = metric_of(measure)
    return _is_retrieval(measure) or (metric is not None and metric.headline)


def _deciding(parts: Sequence[Part]) -> list[Part]:
    """Return the parts that decide: those of people, unless none of them could show a thing."""
    people = [part for part in parts if part.name in PEOPLE]
    others = [part for part in parts if part.name not in (*PEOPLE, GUARD)]
    for rank in (people, others):
        if able := [part for part in rank if part.could_show(ALPHA / len(rank))]:
            return able
    return []


def _gains(part: Part, deciding: int) -> list[_Gain]:
    """Return the significant gains of a part's decisive measures, those of retrieval first."""
    if part.name == GUARD:
        return []
    gained = [each for each in part.decisive if _gained(each, ALPHA / deciding)]
    found: list[_Gain] = []
    for result in sorted(gained, key=lambda each: not _is_retrieval(each.measure)):
        if _is_retrieval(result.measure):
            survived, where = _ranking_survives(part, result)
        else:
            survived, where = _answers_survive(part, result, found)
        found.append(_Gain(part, result, survived, where))
    return found


def _gained(result: MeasureResult, alpha: float) -> bool:
    p = result.against.p_holm if result.against else None
    return result.verdict == "better" and p is not None and p <= alpha


def _ranking_survives(part: Part, result: MeasureResult) -> tuple[bool, str]:
    later = {words: part.known.get(f"{result.measure}[{stage}]") for stage, words in LATER.items()}
    found = {words: each for words, each in later.items() if each is not None}
    if not found:
        why = part.results.facts.get("not_fused", "no fused ranking was measured")
        return True, f"as it was searched ({why})"
    lost = [words for words, each in found.items() if each.verdict != "better"]
    return not lost, " and ".join(lost or found)


def _answers_survive(
    part: Part, result: MeasureResult, before: Sequence[_Gain]
) -> tuple[bool, str]:
    if part.results.reranked:
        return True, "read from the reranked passages"
    if "search_index" in part.results.facts:
        return True, "read from the index as it is searched"
    if any(gain.survived for gain in before if _is_retrieval(gain.result.measure)):
        return True, "as the gain of the search does"
    gold = part.known.get(f"{result.measure}[gold]") or part.known.get(f"{READS}[gold]")
    if gold and gold.against and gold.against.p <= ALPHA and gold.improves:
        return True, "from the gold passage, too"
    return False, "from the gold passage, and its passages are not found better in use"


def _losses(part: Part) -> list[MeasureResult]:
    """Return what is significantly worse; BM25's own ranking is of neither system."""
    known = part.known.items()
    return [each for name, each in known if each.verdict == "worse" and not name.endswith("[BM25]")]


# In words


def _in(part: Part, result: MeasureResult) -> str:
    return f"{part.name}: {sentence(result)}" if part.name else sentence(result)


def _headline(parts: Sequence[Part], lead: _Gain | None, losses: Sequence[str]) -> str:
    if lead is None and losses:
        return losses[0]
    if lead is None:
        shown = next((part for part in parts if part.decisive), None)
        return _in(shown, shown.decisive[0]) if shown else "nothing was compared"
    lost = f"{number(len(losses), 'measure is', 'measures are')} significantly worse"
    survival = f"the gain {'holds' if lead.survived else 'is not significant'} {lead.where}"
    return f"{_in(lead.part, lead.result)}; {survival}; {lost if losses else 'nothing was lost'}"


def _reasons(
    parts: Sequence[Part], deciding: Sequence[Part], gains: Mapping[Part, Sequence[_Gain]]
) -> Iterator[str]:
    names = " and ".join(part.name for part in deciding)
    if len(deciding) > 1:
        yield f"{names} decide: p, times {len(deciding)}, has to be at most {ALPHA}"
    for part in filter(lambda part: part.plain, parts):
        first, *more = [gain.result for gain in gains[part]] or part.decisive or part.plain
        yield _in(part, first)
        for stage in LATER:
            if later := part.known.get(f"{first.measure}[{stage}]"):
                yield _in(part, later)
        if gains[part] and more:
            kind = f"{part.name}: " if part.name else ""
            others = [f"{', '.join(names)} ({over})" for over, names in _by_count(more).items()]
            yield f"{kind}significantly better, too: {'; '.join(others)}"
        if part not in deciding and part.name != GUARD:
            few = f"too few documents for {number(len(part.plain), 'measure', 'measures')}"
            why = f"{names} do" if part.could_show(ALPHA) else few
            over = counted(first.against or first)
            yield f"{part.name or 'questions'} ({over}) don't decide: {why}"


def _by_count(results: Sequence[MeasureResult]) -> dict[str, list[str]]:
    """Return the labels of compared measures by what they are compared over."""
    found: dict[str, list[str]] = {}
    for each in results:
        assert each.against is not None
        found.setdefault(counted(each.against), []).append(label(each.measure))
    return found
