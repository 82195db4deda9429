"""A judge: a model on a server that is asked for verdicts, each of them kept."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dalm import distributed
from dalm.config import EvalRag
from dalm.errors import UserError
from dalm.eval.answer_metrics import abstains
from dalm.eval.citations import uncited_answers
from dalm.eval.judge.judge_prompts import Case, correctness, faithfulness, preference
from dalm.eval.judge.verdicts import Pair, read_verdict, with_preferences, with_verdicts
from dalm.eval.results import Results
from dalm.eval.timing import Stopwatch
from dalm.llm.chat_completions import Options, Server, server_of
from dalm.llm.language_model import Reply
from dalm.llm.openai_client import Asker
from dalm.llm.response_cache import Journal, ask_once
from dalm.records import JudgedQuery

logger = logging.getLogger(__name__)

JOURNAL = "judge.jsonl"
SHARED_JOURNAL = "evaluation-judge.jsonl"
"""Beside the numbered folders of runs that name none, so that a second run asks nothing again."""
TRIALS = 2
"""How often to ask again when the trial fails: a server that isn't there is to be known soon."""
PLAIN = JudgedQuery(id="trial", query="In which town does Ada live?", references=("in Ulm",))


@dataclass(frozen=True)
class Judge:
    """Whom to ask, how, and where the replies are kept."""

    server: Server
    max_new_tokens: int
    concurrency: int
    journal: Path

    @property
    def parameters(self) -> dict[str, float]:
        """How a reply is made: the likeliest words, whatever the evaluation's own seed."""
        return {"temperature": 0.0, "max_tokens": self.max_new_tokens, "seed": 0}

    def verdicts(self, cases: Sequence[Case]) -> list[Pair]:
        """Return the verdicts on each case; what was asked before is not asked again.

        Raises:
            UserError: the server is gone, or refuses everything; what it answered is kept.
        """
        if not cases:
            return []
        model = self.server.model
        requests = [request for case in cases for request in case.requests(model, self.parameters)]
        asker = Asker(self.server, self.concurrency, self.parameters)
        with Journal(self.journal) as journal:
            found = ask_once(requests, journal, asker.ask, model)
        said = {request.key: read_verdict(reply.text, request.kind) for request, reply in found}
        read = [said.get(request.key) for request in requests]
        kinds = (case.kind for case in cases)
        return [Pair(*each) for each in zip(kinds, read[::2], read[1::2], strict=True)]

    def attempt(self) -> None:
        """Put one request, on an answer that is plainly right, before anything is loaded.

        Raises:
            UserError: the server isn't there, doesn't know the model, or answers without verdict.
        """
        server = replace(self.server, max_retries=min(TRIALS, self.server.max_retries))
        [request, _] = correctness(PLAIN, "Ulm").requests(server.model, self.parameters)
        replies: list[Reply] = []
        reasons: list[str] = []
        Asker(server, 1, self.parameters).ask(
            [request],
            lambda _, reply: replies.append(reply),
            lambda _, reason: reasons.append(reason),
        )
        address, model = server.options.address, server.options.model
        if not replies:
            raise UserError(
                f"{address} {server.base_url} doesn't answer: {reasons[0]}; check {address} and "
                f"{model}"
            )
        verdict = read_verdict(replies[0].text, "correctness")
        if verdict is None:
            raise UserError(
                f"{model} {server.model} gives no verdict but {replies[0].text[:100]!r}; name an "
                "instruct model, or raise --judge-max-new-tokens for one that thinks aloud"
            )
        if verdict.word != "yes":
            logger.warning("judge      says %s to an answer that is plainly right", verdict.word)


def judge_of(settings: EvalRag, folder: Path) -> Judge | None:
    """Return the judge, once it has answered, or None if there is to be none.

    The first process alone asks.

    Raises:
        UserError: no model, no address, no server, or a journal that can't be written.
    """
    if settings.judge is None:
        return None
    named = settings.output_dir is not None and not settings.overwrite_output_dir
    options = Options(
        asks="--judge",
        address="--judge",
        model="--judge-model",
        key="--judge-api-key-env",
        timeout="--judge-timeout",
        again=f"the same command{' with --overwrite-output-dir' if named else ''}",
    )
    name = settings.judge_model
    url, key = server_of(settings.judge, name, settings.judge_api_key_env, options)
    assert name is not None
    server = Server(url, name, options, key, settings.judge_max_retries, settings.judge_timeout)
    journal = _journal(settings, folder)
    judge = Judge(server, settings.judge_max_new_tokens, settings.judge_concurrency, journal)
    if distributed.is_main():
        judge.attempt()
        with Journal(journal):  # can it be written? Later, all answers would wait for that
            pass
    return judge


def _journal(settings: EvalRag, folder: Path) -> Path:
    if settings.judge_journal is not None:
        return Path(settings.judge_journal)
    if settings.output_dir is None:
        return folder.with_name(SHARED_JOURNAL)
    return folder / JOURNAL


# FOLDED judging.py: The answers of a system, and of a baseline, in; both with a judge's verdicts out.


def judge_answers(
    judge: Judge,
    systems: Sequence[Results],
    baselines: Sequence[Results],
    watch: Stopwatch,
) -> tuple[list[Results], list[Results]]:
    """Return systems and baselines, the first of each with verdicts; a guard's answers get none.

    The first process alone asks, and it alone has the verdicts.
    """
    if not distributed.is_main():
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
