"""Estimate what generating questions takes, before it is begun."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dalm.config import QaGen
from dalm.display import duration, show
from dalm.llm.language_model import LanguageModel
from dalm.llm.response_cache import Journal, Totals, limit_of
from dalm.records import Passage
from dalm.synth.generation import JOURNAL, extract_all, question_requests
from dalm.synth.question_prompts import QuestionRequest

BYTES_PER_TOKEN = 4  # of UTF-8, roughly, for any language; used until a server has counted
TOKENS_PER_QUESTION = 90  # of JSON with question, answer and quote; likewise
TOKENS_PER_SECOND = 40  # of one answer; likewise
SAMPLE = 200  # passages that patterns are timed on


@dataclass(frozen=True)
class Estimate:
    """What is left to ask of a model for so many passages; rules ask nothing.

    `seconds` are those without the filters, before which rules have `questions`; `source` says what
    the tokens and seconds are known by.
    """

    passages: int
    seconds: float
    source: str
    requests: int = 0
    answered: int = 0
    tokens_in: float = 0.0
    tokens_out: float = 0.0
    questions: float = 0.0


def estimate(
    folder: Path, model: LanguageModel | None, passages: Sequence[Passage], settings: QaGen
) -> Estimate:
    """Return what generating the questions would take; `model` None: rules."""
    if model is None:
        return _of_rules(passages, settings)
    requests = question_requests(model, passages, settings)
    known, answered = Totals(), 0
    if (folder / JOURNAL).exists():
        with Journal(folder / JOURNAL) as journal:
            known, limit = journal.replies, limit_of(model)
            answered = sum(journal.answers(request, limit) for request in requests)
    return _of_requests(requests, answered, known, model.concurrency, len(passages))


def _of_requests(
    requests: Sequence[QuestionRequest],
    answered: int,
    known: Totals,
    concurrency: int,
    passages: int,
) -> Estimate:
    """Return tokens and time from the mean of the journal's replies if it has any."""
    number = len(requests) - answered
    if known.number and known.tokens_out:
        tokens_in, tokens_out = known.tokens_in / known.number, known.tokens_out / known.number
        seconds, source = known.seconds / known.number, f"by {known.number} answers in the journal"
    else:
        sample = requests[:: max(1, len(requests) // SAMPLE)]
        size = sum(len(m["content"].encode()) for each in sample for m in each.messages)
        tokens_in = size / max(1, len(sample)) / BYTES_PER_TOKEN
        tokens_out = float(TOKENS_PER_QUESTION * len(requests[0].prompt.slots)) if requests else 0.0
        seconds = tokens_out / TOKENS_PER_SECOND
        source = (
            f"a guess: {BYTES_PER_TOKEN} bytes a token, {TOKENS_PER_QUESTION} tokens a question, "
            f"{TOKENS_PER_SECOND} tokens/s an answer; after --limit 10 it is an estimate"
        )
    return Estimate(
        passages=passages,
        requests=len(requests),
        answered=answered,
        tokens_in=tokens_in * number,
        tokens_out=tokens_out * number,
        seconds=seconds * number / concurrency,
        source=source,
    )


def _of_rules(passages: Sequence[Passage], settings: QaGen) -> Estimate:
    """Return the number of queries by rules and the time, measured on a few passages."""
    sample = passages[:: max(1, len(passages) // SAMPLE)]
    start = time.perf_counter()
    count = len(list(extract_all(sample, sample, settings)))
    seconds = (time.perf_counter() - start) / len(sample)
    return Estimate(
        passages=len(passages),
        seconds=seconds * len(passages),
        source=f"measured on {len(sample)}",
        questions=count / len(sample) * len(passages),
    )


def show_estimate(found: Estimate, model: LanguageModel | None, settings: QaGen) -> None:
    """Print an estimate, and with `--backend vllm` its configuration."""
    show(f"passages    {found.passages}")
    if model is None:
        show("requests    0: rules ask no model")
        show(f"queries     {found.questions:,.0f} before the filters")
        show(f"time        about {duration(max(found.seconds, 1))}, without the filters")
        return
    if settings.backend == "vllm":
        from dalm.llm.vllm_model import VllmModel

        assert isinstance(model, VllmModel)
        show("vLLM        ray.data.llm.vLLMEngineProcessorConfig:")
        show(yaml.safe_dump(model.configuration(), sort_keys=False).rstrip())
    show(f"requests    {found.requests}, of which {found.answered} are answered")
    if found.requests > found.answered:
        show(f"tokens in   {found.tokens_in:,.0f}")
        show(f"tokens out  {found.tokens_out:,.0f}")
        show(
            f"time        about {duration(max(found.seconds, 1))} with {model.concurrency} at once"
        )
        show(f"            ({found.source})")
    if settings.judge:
        show("judge       one more for each query that passes the filters, and 100 at most")
