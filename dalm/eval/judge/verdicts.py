"""A judge's reply in, its verdict out, or None where there is none to read."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dalm.eval.citations import uncited_answers
from dalm.eval.judge.judge_prompts import VERDICTS, VERSION, Case, Kind
from dalm.eval.metric import Column
from dalm.eval.results import Results
from dalm.llm.json_replies import Object, by_name, objects, one_line, without_thoughts

NAMES = {  # models choose names of their own, too
    "verdict": ("verdict", "judgement", "judgment", "label", "decision", "rating"),
    "reason": ("reason", "reasoning", "explanation", "rationale", "justification"),
}
OTHER_WORDS = {
    "true": "yes",
    "false": "no",
    "partial": "partly",
    "partially": "partly",
    "answer a": "a",
    "answer b": "b",
    "both": "tie",
    "equal": "tie",
}
MIRRORED = {"A": "B", "B": "A", "tie": "tie"}
"""What a preference means once the answers have changed their letters."""
_LINE = re.compile(r"^\W*(?:final )?verdict\W*[:：]\W*(answer [ab]|\w+)\W*$", re.IGNORECASE | re.M)
LONGEST_REASON = 1_000
"""Characters of a reason that are kept; the journal has all of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the words that a judge may say, and why."""

    word: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The verdicts on one case, in the first order and swapped; None: no reply, or unreadable."""

    kind: Kind
    first: Verdict | None
    swapped: Verdict | None

    @property
    def words(self) -> tuple[str, str] | None:
        """What was said of the same thing in both orders; None if either verdict is missing."""
        if self.first is None or self.swapped is None:
            return None
        second = self.swapped.word
        return self.first.word, MIRRORED[second] if self.kind == "preference" else second

    @property
    def agree(self) -> bool | None:
        """Whether the order made no difference; None if either verdict is missing."""
        return None if self.words is None else self.words[0] == self.words[1]

    @property
    def value(self) -> float | None:
        """What the verdicts are worth, in [0, 1]: their mean; None if either is missing.

        An answer is preferred only if it is in both orders; else it is a tie, 0.5.
        """
        if self.words is None:
            return None
        if self.kind == "preference" and not self.agree:
            return VERDICTS[self.kind]["tie"]
        first, second = (VERDICTS[self.kind][word] for word in self.words)
        return (first + second) / 2


def read_verdict(text: str, kind: Kind) -> Verdict | None:
    """Read a reply: JSON wherever it stands in it, else a line such as `Verdict: yes`.

    The last verdict counts, for some models show an example before it. A word that isn't one of
    those that were asked for is none.
    """
    text = without_thoughts(text)
    words = {word.lower(): word for word in VERDICTS[kind]}

    def word_of(said: str) -> str | None:
        plain = one_line(said).lower().strip(" .!\"'*`")
        return words.get(OTHER_WORDS.get(plain, plain)) or words.get(plain)

    found = objects(text, lambda each: word_of(_field(each, "verdict")) is not None)
    for last in reversed(list(found)):
        word = word_of(_field(last, "verdict"))
        assert word is not None
        return Verdict(word, one_line(_field(last, "reason"))[:LONGEST_REASON])
    lines = _LINE.findall(text)
    word = word_of(lines[-1] if lines else text)
    return Verdict(word) if word else None


def _field(found: Object, name: str) -> str:
    values = by_name(found)
    for each in NAMES[name]:
        value = values.get(each)
        if isinstance(value, str | bool):
            return str(value)
    return ""


# FOLDED agreement.py: Verdicts in; how far they depend on the order, and agree with exact match, out.


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many answers are right by the judge, in both orders, and by exact match."""

    both: int
    judge_alone: int
    exact_match_alone: int
    neither: int

    @classmethod
    def of(cls, values: Iterable[tuple[float | None, float | None]]) -> "Agreement":
        """Count correctness and exact match where both are known; an answer is right at 1."""
        found = [(c == 1, em == 1) for c, em in values if c is not None and em is not None]
        cells = ((True, True), (True, False), (False, True), (False, False))
        return cls(*(found.count(cell) for cell in cells))

    @property
    def answers(self) -> int:
        """The number of answers."""
        return self.both + self.judge_alone + self.exact_match_alone + self.neither

    @property
    def share(self) -> float | None:
        """The share of answers on which the two agree; None if there are no answers."""
        return (self.both + self.neither) / self.answers if self.answers else None

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa, (p − e) / (1 − e); None where e is 1: both always say the same one thing.

        p is the share on which they agree, e that on which they would by chance, from how often
        each finds an answer right. Cohen, 1960, doi:10.1177/001316446002000104.
        """
        if self.share is None:
            return None
        judge = (self.both + self.judge_alone) / self.answers
        match = (self.both + self.exact_match_alone) / self.answers
        chance = judge * match + (1 - judge) * (1 - match)
        return None if chance == 1 else (self.share - chance) / (1 - chance)


def agreement_figures(found: Agreement) -> dict[str, Any]:
    """Return what results.json says of the judge beside exact match."""
    return {
        "answers": found.answers,
        "agree": found.share,
        "kappa": found.kappa,
        "both_right": found.both,
        "judge_alone": found.judge_alone,
        "exact_match_alone": found.exact_match_alone,
        "neither_right": found.neither,
    }


def order_figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how many cases were judged, have no verdict, and changed theirs with the order."""
    agree = [pair.agree for pair in pairs if pair.agree is not None]
    return {
        "judged": len(agree),
        "without_verdict": len(pairs) - len(agree),
        "orders_disagree": agree.count(False) / len(agree) if agree else None,
    }


def preference_figures(pairs: Sequence[Pair], equal: int) -> dict[str, Any]:
    """Return wins, ties and losses; `equal` answers are ties that nobody was asked about."""
    values = [pair.value for pair in pairs]
    return {
        "wins": values.count(1.0),
        "ties": values.count(0.5) + equal,
        "losses": values.count(0.0),
        "equal_answers": equal,
        **order_figures(pairs),
    }


# FOLDED outcome.py: Results and a judge's verdicts in; the results with columns, figures and reasons out.

Judged = Sequence[tuple[Case, Pair]]


def with_verdicts(results: Results, judged: Judged, model: str) -> Results:
    """Add `faithfulness` and `correctness`, the verdicts, and `facts["judge"]`: their figures.

    An empty answer that should be one is as wrong as any, and nobody is asked about it.
    """
    faithful, correct = _by_query(judged, "faithfulness"), _by_query(judged, "correctness")
    columns = {"faithfulness": _column(results, faithful), "correctness": _column(results, correct)}
    for place, answer in enumerate(uncited_answers(results)):
        if results.queries[place].references and not answer.strip():
            columns["correctness"][place] = 0.0
    queries = [query.id for query in results.queries]
    matches = dict(zip(queries, results.measures["EM"], strict=True))
    both = [(pair.value, matches[query]) for query, pair in correct.items()]
    figures = {
        "model": model,
        "prompts": VERSION,
        "faithfulness": order_figures(list(faithful.values())),
        "correctness": order_figures(list(correct.values())),
        "exact_match": agreement_figures(Agreement.of(both)),
    }
    return _added(results, columns, judged, figures)


def with_preferences(results: Results, baseline: Results, judged: Judged) -> Results:
    """Add `preference`: 1 where the answer is better than the baseline's, 0.5 for a tie, else 0.

    Equal answers are ties, and nobody is asked about them.
    """
    pairs = _by_query(judged, "preference")
    column = _column(results, pairs)
    answers = zip(uncited_answers(results), uncited_answers(baseline), strict=True)
    equal = [place for place, (mine, other) in enumerate(answers) if mine.strip() == other.strip()]
    for place in equal:
        column[place] = 0.5
    figures = preference_figures(list(pairs.values()), len(equal))
    figures["baseline"] = baseline.name
    known = {**results.facts["judge"], "preference": figures}
    return _added(results, {"preference": column}, judged, known)


def _added(
    results: Results, columns: Mapping[str, Column], judged: Judged, figures: Mapping[str, Any]
) -> Results:
    return replace(
        results,
        measures={**results.measures, **columns},
        verdicts=[*results.verdicts, *(_record(case, pair) for case, pair in judged)],
        facts={**results.facts, "judge": figures},
    )


def _record(case: Case, pair: Pair) -> dict[str, Any]:
    """Return a line of verdicts.jsonl; of a preference, the answer is A first and B swapped."""
    return {
        "query": case.query,
        "asked": case.kind,
        "value": pair.value,
        "first": asdict(pair.first) if pair.first else None,
        "swapped": asdict(pair.swapped) if pair.swapped else None,
    }


def _by_query(judged: Judged, kind: Kind) -> dict[str, Pair]:
    return {case.query: pair for case, pair in judged if case.kind == kind}


def _column(results: Results, pairs: Mapping[str, Pair]) -> Column:
    found = [pairs.get(query.id) for query in results.queries]
    return [None if pair is None else pair.value for pair in found]


# FOLDED said.py: What results.json holds of a judge in, sentences out.


def said_of_judge(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield how a judge agrees with exact match, what it prefers, how steadily; None: no judge."""
    if figures is None:
        return
    match = figures["exact_match"]
    if match["answers"]:
        kappa = "undefined" if match["kappa"] is None else f"{match['kappa']:.2f}"
        yield (
            f"judge agrees with exact match on {_percent(match['agree'])} of {match['answers']} "
            f"answers, kappa {kappa}"
        )
    if preferred := figures.get("preference"):
        yield (
            f"judge prefers the answer {preferred['wins']} times, that of {preferred['baseline']} "
            f"{preferred['losses']} times; {preferred['ties']} ties, {preferred['equal_answers']} "
            "of them equal answers"
        )
    kinds = ("faithfulness", "correctness", "preference")
    shares = {kind: figures.get(kind, {}).get("orders_disagree") for kind in kinds}
    if changed := [f"{_percent(s)} on {kind}" for kind, s in shares.items() if s is not None]:
        yield f"shown in the other order, judge changed its verdict: {', '.join(changed)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
