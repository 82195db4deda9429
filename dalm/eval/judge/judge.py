"""Judge answers with a language model, on a server or loaded here; each verdict is kept."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dalm import distributed
from dalm.config import EvalRag
from dalm.errors import UserError
from dalm.eval.answer_metrics import abstains
from dalm.eval.evaluation_output import EvaluationOutput
from dalm.eval.judge.judge_prompts import Case, correctness, faithfulness, preference
from dalm.eval.judge.verdicts import VerdictPair, read_verdict, with_preferences, with_verdicts
from dalm.eval.results import Results, uncited_answers
from dalm.llm.language_model import LanguageModel, Reply
from dalm.llm.load_model import ModelChoice
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.response_cache import Journal, cached_replies
from dalm.llm.server_options import ServerOptions
from dalm.progress import Stopwatch
from dalm.records import JudgedQuery

logger = logging.getLogger(__name__)

TRIAL_RETRIES = 2
"""Retries of the trial request at most: a server that is not there should be noticed soon."""
TRIAL = JudgedQuery(id="trial", query="In which town does Ada live?", references=("in Ulm",))
SERVER = ServerOptions(
    needed_by="--judge",
    url="--judge",
    model="--judge-model",
    api_key_env="--judge-api-key-env",
    timeout="--judge-timeout",
    max_tokens="--judge-max-new-tokens",
)


@dataclass(frozen=True)
class Judge:
    """A model that gives verdicts, and the journal of its replies."""

    model: LanguageModel
    journal: Path
    resume: str = "the same command"

    def verdicts(self, cases: Sequence[Case]) -> list[VerdictPair]:
        """Return the verdicts on each case; replies in the journal are not generated again.

        Raises:
            UserError: the server is gone, or refuses everything; the replies so far are kept.
        """
        if not cases:
            return []
        identity, parameters = self.model.identity, self.model.parameters
        requests = [request for case in cases for request in case.requests(identity, parameters)]
        with Journal(self.journal, shared=True) as journal:
            replies = cached_replies(self.model, requests, journal, self.resume, "verdicts")
        found = {request.key: read_verdict(reply.text, request.kind) for request, reply in replies}
        verdicts = [found.get(request.key) for request in requests]
        kinds = (case.kind for case in cases)
        pairs = zip(kinds, verdicts[::2], verdicts[1::2], strict=True)
        return [VerdictPair(*pair) for pair in pairs]


def load_judge(settings: EvalRag, output: EvaluationOutput) -> Judge | None:
    """Return the judge, after a trial request, or None without `--judge`.

    Only the main process sends requests. Replies are kept in `--judge-journal`, or where `output`
    says.

    Raises:
        UserError: no model, no address, no server, or a journal that can't be written.
    """
    if settings.judge is None:
        return None
    model = _choice(settings).load(settings, output.resume)
    journal = Path(settings.judge_journal or output.journal("judge.jsonl"))
    judge = Judge(model, journal, output.resume)
    if distributed.is_main():
        try_judge(model)
        with Journal(judge.journal, shared=True):
            pass  # can it be written? Later, all answers would wait for that
    return judge


def _choice(settings: EvalRag) -> ModelChoice:
    assert settings.judge is not None
    return ModelChoice(
        options=SERVER,
        name=settings.judge,
        model=settings.judge_model,
        api_key_env=settings.judge_api_key_env,
        concurrency=settings.judge_concurrency,
        max_retries=settings.judge_max_retries,
        timeout=settings.judge_timeout,
        max_new_tokens=settings.judge_max_new_tokens,
    )


def try_judge(model: LanguageModel) -> None:
    """Send one request, on an answer that is plainly right, before anything else is loaded.

    Raises:
        UserError: the server isn't there, doesn't know the model, or replies without a verdict.
    """
    name, place, remedy = f"--judge {model.name}", model.name, "name another model"
    if isinstance(model, OpenAIClient):
        name, place = f"--judge-model {model.name}", model.endpoint.url
        remedy = "check --judge and --judge-model"
        retries = min(TRIAL_RETRIES, model.endpoint.max_retries)
        model = OpenAIClient(replace(model.endpoint, max_retries=retries), model.parameters)
    [request, _] = correctness(TRIAL, "Ulm").requests(model.name, model.parameters)
    replies: list[Reply] = []
    reasons: list[str] = []
    model.generate(
        [request],
        lambda _, reply: replies.append(reply),
        lambda _, error: reasons.append(str(error)),
    )
    if not replies:
        raise UserError(f"--judge {place} doesn't answer: {reasons[0]}; {remedy}")
    verdict = read_verdict(replies[0].text, "correctness")
    if verdict is None:
        raise UserError(
            f"{name} gives no verdict but {replies[0].text[:100]!r}; name an instruct model, or "
            "raise --judge-max-new-tokens for one that reasons before it answers"
        )
    if verdict.word != "yes":
        logger.warning("judge      says %s to an answer that is plainly right", verdict.word)


def judge_answers(
    judge: Judge, systems: Sequence[Results], baselines: Sequence[Results], watch: Stopwatch
) -> tuple[list[Results], list[Results]]:
    """Return systems and baselines, the first of each with verdicts; a guard's answers get none.

    Only the main process sends requests, and only its results have the verdicts.
    """
    if not distributed.is_main():
        return list(systems), list(baselines)
    with watch.stage("judging"):
        first, *others = _judged(judge, [*systems[:1], *baselines[:1]])
    return [first, *systems[1:]], [*others, *baselines[1:]]


def _judged(judge: Judge, answered: Sequence[Results]) -> list[Results]:
    """Judge all answers in one go, and which of two systems' answers are better."""
    groups = [list(cases_of(results)) for results in answered]
    if len(answered) > 1:
        groups.append(list(preferences_of(*answered)))
    pairs = judge.verdicts([case for cases in groups for case in cases])
    if missing := sum(pair.words is None for pair in pairs):
        logger.warning(
            "judge      %d of %d cases have no verdict: a reply is missing, or can't be read",
            *(missing, len(pairs)),
        )
    verdicts = iter(pairs)
    found = [[(case, next(verdicts)) for case in cases] for cases in groups]
    done = [
        with_verdicts(results, judged, judge.model.name)
        for results, judged in zip(answered, found, strict=False)
    ]
    if len(answered) > 1:
        done[0] = with_preferences(done[0], done[1], found[-1])
    return done


def cases_of(results: Results) -> Iterator[Case]:
    """Yield the cases of each answer.

    An abstention claims nothing that could be supported; an empty answer means nothing.
    """
    rows = zip(results.queries, uncited_answers(results), passages_read(results), strict=True)
    for query, answer, passages in rows:
        if passages and not abstains(answer):
            yield faithfulness(query, answer, passages)
        if query.references and answer.strip():
            yield correctness(query, answer)


def preferences_of(results: Results, baseline: Results) -> Iterator[Case]:
    """Yield the pairs of answers that differ, to the same queries in the same order."""
    answers = zip(uncited_answers(results), uncited_answers(baseline), strict=True)
    read = zip(passages_read(results), passages_read(baseline), strict=True)
    for query, both, (ours, theirs) in zip(results.queries, answers, read, strict=True):
        answer, other = (text.strip() for text in both)
        passages = list(dict.fromkeys([*ours, *theirs]))
        if answer != other and (query.references or passages):
            yield preference(query, answer, other, passages)


def passages_read(results: Results) -> list[list[str]]:
    """Return the texts of the passages in each prompt, in full where the prompt truncated them."""
    count = int(results.facts["reader_passages"])
    found = results.reranked or results.hits
    return [[hit.passage.text for hit in hits[:count]] for hits in found]
