"""The answers of a system, and of a baseline, in; both with a judge's verdicts out."""

import logging
from collections.abc import Iterator, Sequence

from dalm import distributed
from dalm.eval.answers import abstains
from dalm.eval.citations import uncited_answers
from dalm.eval.judging.cases import Case, correctness, faithfulness, preference
from dalm.eval.judging.judge import Judge
from dalm.eval.judging.outcome import with_preferences, with_verdicts
from dalm.eval.results import Results
from dalm.eval.stopwatch import Stopwatch

logger = logging.getLogger(__name__)


def judge_answers(
    judge: Judge,
    systems: Sequence[Results],
    baselines: Sequence[Results],
    watch: Stopwatch,
) -> tuple[list[Results], list[Results]]:
    """Return systems and baselines, the first of each with verdicts; a guard's answers get none.

    The first process alone asks, and it alone has the verdicts.
    """
    if not distributed.first():
        return list(systems), list(baselines)
    asked = [*systems[:1], *baselines[:1]]
    with watch.stage("judging"):
        mine, *others = _judged(judge, asked)
    return [mine, *systems[1:]], [*others, *baselines[1:]]


def _judged(judge: Judge, asked: Sequence[Results]) -> list[Results]:
    """Ask about all answers at once, and which of two systems' answers are better."""
    several = [list(cases_of(results)) for results in asked]
    if len(asked) > 1:
        several.append(list(preferences_of(*asked)))
    pairs = judge.verdicts([case for cases in several for case in cases])
    if missing := sum(pair.words is None for pair in pairs):
        logger.warning(
            "judge      %d of %d cases have no verdict: a reply is missing, or can't be read",
            *(missing, len(pairs)),
        )
    verdicts = iter(pairs)
    found = [[(case, next(verdicts)) for case in cases] for cases in several]
    done = [
        with_verdicts(results, judged, judge.server.model)
        for results, judged in zip(asked, found, strict=False)
    ]
    if len(asked) > 1:
        done[0] = with_preferences(done[0], done[1], found[-1])
    return done


def cases_of(results: Results) -> Iterator[Case]:
    """Yield what is asked of each answer.

    One that declines claims nothing that could be supported; one that is empty means nothing.
    """
    rows = zip(results.queries, uncited_answers(results), read_by(results), strict=True)
    for query, answer, read in rows:
        if read and not abstains(answer):
            yield faithfulness(query, answer, read)
        if query.references and answer.strip():
            yield correctness(query, answer)


def preferences_of(results: Results, baseline: Results) -> Iterator[Case]:
    """Yield the pairs of answers that differ, to the same queries in the same order."""
    answers = zip(uncited_answers(results), uncited_answers(baseline), strict=True)
    grounds = zip(read_by(results), read_by(baseline), strict=True)
    for query, both, read in zip(results.queries, answers, grounds, strict=True):
        mine, other = (answer.strip() for answer in both)
        passages = list(dict.fromkeys([*read[0], *read[1]]))
        if mine != other and (query.references or passages):
            yield preference(query, mine, other, passages)


def read_by(results: Results) -> list[list[str]]:
    """Return the texts of the passages that stood in each prompt, whole where it had to cut."""
    count = int(results.facts["reader_passages"])
    return [[hit.passage.text for hit in hits[:count]] for hits in results.hits]
