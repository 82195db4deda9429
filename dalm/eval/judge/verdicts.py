"""Read a judge's verdicts, and add them to results: values, figures and reasons."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dalm.eval.judge.judge_prompts import VERDICTS, VERSION, Case, Kind
from dalm.eval.metrics import Column
from dalm.eval.results import Results, uncited_answers
from dalm.llm.json_replies import Object, by_name, objects, one_line
from dalm.llm.thoughts import without_thoughts

FIELD_NAMES = {  # models choose other names, too
    "verdict": ("verdict", "judgement", "judgment", "label", "decision", "rating"),
    "reason": ("reason", "reasoning", "explanation", "rationale", "justification"),
}
SYNONYMS = {
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
"""A preference's meaning when the answers have swapped their letters."""
_LINE = re.compile(r"^\W*(?:final )?verdict\W*[:：]\W*(answer [ab]|\w+)\W*$", re.IGNORECASE | re.M)
MAX_REASON = 1_000
"""Characters of a reason that are kept; the journal has it in full."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the words that a judge may choose, and its reason."""

    word: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VerdictPair:
    """The verdicts on one case, in the first order and swapped; None: no reply, or unreadable."""

    kind: Kind
    first: Verdict | None
    swapped: Verdict | None

    @property
    def words(self) -> tuple[str, str] | None:
        """The verdicts on the same answer in both orders; None if either is missing."""
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
        """The mean of the verdicts' values, in [0, 1]; None if either is missing.

        An answer is preferred only if it is in both orders; else it is a tie, 0.5.
        """
        if self.words is None:
            return None
        if self.kind == "preference" and not self.agree:
            return VERDICTS[self.kind]["tie"]
        first, second = (VERDICTS[self.kind][word] for word in self.words)
        return (first + second) / 2


def read_verdict(text: str, kind: Kind) -> Verdict | None:
    """Read a reply: JSON anywhere in it, else a line such as `Verdict: yes`.

    The last verdict counts, as some models show an example before it. A word that isn't among those
    asked for is no verdict.
    """
    text = without_thoughts(text)
    words = {word.lower(): word for word in VERDICTS[kind]}

    def word_of(value: str) -> str | None:
        plain = one_line(value).lower().strip(" .!\"'*`")
        return words.get(SYNONYMS.get(plain, plain)) or words.get(plain)

    found = objects(text, lambda each: word_of(_field(each, "verdict")) is not None)
    for last in reversed(list(found)):
        word = word_of(_field(last, "verdict"))
        assert word is not None
        return Verdict(word, one_line(_field(last, "reason"))[:MAX_REASON])
    lines = _LINE.findall(text)
    word = word_of(lines[-1] if lines else text)
    return Verdict(word) if word else None


def _field(found: Object, name: str) -> str:
    values = by_name(found)
    for each in FIELD_NAMES[name]:
        value = values.get(each)
        if isinstance(value, str | bool):
            return str(value)
    return ""


def kappa(rights: Sequence[tuple[bool, bool]]) -> float | None:
    """Return Cohen's kappa, (p − e) / (1 − e); None where e is 1: both always decide the same way.

    `rights` holds of each answer whether it is right by the judge, and by exact match. p is the
    fraction on which they agree, e the one expected by chance, from how often each finds an answer
    right. Cohen, 1960, doi:10.1177/001316446002000104.
    """
    if not rights:
        return None
    judge, match = (sum(column) / len(rights) for column in zip(*rights, strict=True))
    agree = sum(one == other for one, other in rights) / len(rights)
    chance = judge * match + (1 - judge) * (1 - match)
    return None if chance == 1 else (agree - chance) / (1 - chance)


def agreement_figures(values: Iterable[tuple[float | None, float | None]]) -> dict[str, Any]:
    """Return how far correctness and exact match agree, as results.json holds it.

    Where both are known; an answer is right at 1.
    """
    rights = [(c == 1, em == 1) for c, em in values if c is not None and em is not None]
    agree = sum(one == other for one, other in rights)
    return {
        "answers": len(rights),
        "agree": agree / len(rights) if rights else None,
        "kappa": kappa(rights),
        "both_right": rights.count((True, True)),
        "judge_alone": rights.count((True, False)),
        "exact_match_alone": rights.count((False, True)),
        "neither_right": rights.count((False, False)),
    }


def order_figures(pairs: Sequence[VerdictPair]) -> dict[str, Any]:
    """Return how many cases have a verdict, have none, and what fraction changed with the order."""
    agree = [pair.agree for pair in pairs if pair.agree is not None]
    return {
        "judged": len(agree),
        "without_verdict": len(pairs) - len(agree),
        "orders_disagree": agree.count(False) / len(agree) if agree else None,
    }


def preference_figures(pairs: Sequence[VerdictPair], equal: int) -> dict[str, Any]:
    """Return wins, ties and losses; `equal` answers are ties without a request."""
    values = [pair.value for pair in pairs]
    return {
        "wins": values.count(1.0),
        "ties": values.count(0.5) + equal,
        "losses": values.count(0.0),
        "equal_answers": equal,
        **order_figures(pairs),
    }


Judged = Sequence[tuple[Case, VerdictPair]]


def with_verdicts(results: Results, judged: Judged, model: str) -> Results:
    """Add `faithfulness` and `correctness`, the verdicts, and `facts["judge"]`: their figures.

    An empty answer to a question that has one is wrong, without a request.
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
        "exact_match": agreement_figures(both),
    }
    return _added(results, columns, judged, figures)


def with_preferences(results: Results, baseline: Results, judged: Judged) -> Results:
    """Add `preference`: 1 where the answer is better than the baseline's, 0.5 for a tie, else 0.

    Equal answers are ties, without a request.
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


def _record(case: Case, pair: VerdictPair) -> dict[str, Any]:
    """Return a line of verdicts.jsonl; of a preference, the answer is A first and B swapped."""
    return {
        "query": case.query,
        "asked": case.kind,
        "value": pair.value,
        "first": asdict(pair.first) if pair.first else None,
        "swapped": asdict(pair.swapped) if pair.swapped else None,
    }


def _by_query(judged: Judged, kind: Kind) -> dict[str, VerdictPair]:
    return {case.query: pair for case, pair in judged if case.kind == kind}


def _column(results: Results, pairs: Mapping[str, VerdictPair]) -> Column:
    found = [pairs.get(query.id) for query in results.queries]
    return [None if pair is None else pair.value for pair in found]


def judge_summary(figures: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield sentences on agreement with exact match, preferences and order; none for None."""
    if figures is None:
        return
    match = figures["exact_match"]
    if match["answers"]:
        kappa = "undefined" if match["kappa"] is None else f"{match['kappa']:.2f}"
        yield (
            f"the judge agrees with exact match on {_percent(match['agree'])} of "
            f"{match['answers']} answers, kappa {kappa}"
        )
    if preferred := figures.get("preference"):
        yield (
            f"the judge prefers the answer {preferred['wins']} times, that of "
            f"{preferred['baseline']} {preferred['losses']} times; {preferred['ties']} ties, "
            f"{preferred['equal_answers']} of them equal answers"
        )
    kinds = ("faithfulness", "correctness", "preference")
    changes = {kind: figures.get(kind, {}).get("orders_disagree") for kind in kinds}
    if changed := [f"{_percent(c)} on {kind}" for kind, c in changes.items() if c is not None]:
        yield f"with the order swapped, the judge changed its verdict: {', '.join(changed)}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"
