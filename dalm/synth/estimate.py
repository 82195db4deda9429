"""Estimate what a run will take, and preview the questions on a few passages."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dalm.config import QaGen
from dalm.llm.language_model import LanguageModel
from dalm.llm.response_cache import Journal, Totals
from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.generation import JOURNAL, question_requests
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import QuestionRequest

BYTES_PER_TOKEN = 4  # of UTF-8, roughly, for any language; used until a server has counted
TOKENS_PER_QUESTION = 90  # of JSON with question, answer and quote; likewise
TOKENS_PER_SECOND = 40  # of one answer; likewise
SAMPLE = 200  # passages that patterns are timed on


def print_estimate(
    folder: Path, model: LanguageModel | None, passages: Sequence[Passage], settings: QaGen
) -> None:
    """Print what generating the questions would take."""
    print(f"passages    {len(passages)}")
    if model is None:
        lines = _extraction(passages, settings.questions_per_passage)
    else:
        requests = question_requests(model, passages, settings)
        known, answered = Totals(), 0
        if (folder / JOURNAL).exists():
            with Journal(folder / JOURNAL) as journal:
                known, answered = journal.replies, sum(r.key in journal for r in requests)
        lines = _generation(requests, answered, known, model.concurrency)
    for line in lines:
        print(line)


def _generation(
    requests: Sequence[QuestionRequest], answered: int, known: Totals, concurrency: int
) -> Iterator[str]:
    """Yield requests, tokens and time, from the mean of the journal's replies if it has any."""
    number = len(requests) - answered
    yield f"requests    {len(requests)}, of which {answered} are answered"
    if not number:
        return
    if known.number and known.tokens_out:
        tokens_in, tokens_out = known.tokens_in / known.number, known.tokens_out / known.number
        seconds, source = known.seconds / known.number, f"by {known.number} answers in the journal"
    else:
        sample = requests[:: max(1, len(requests) // SAMPLE)]
        size = sum(len(m["content"].encode()) for each in sample for m in each.messages)
        tokens_in = size / len(sample) / BYTES_PER_TOKEN
        tokens_out = float(TOKENS_PER_QUESTION * requests[0].prompt.number)
        seconds = tokens_out / TOKENS_PER_SECOND
        source = (
            f"a guess: {BYTES_PER_TOKEN} bytes a token, {TOKENS_PER_QUESTION} tokens a question, "
            f"{TOKENS_PER_SECOND} tokens/s an answer; after --limit 10 it is an estimate"
        )
    yield f"tokens in   {tokens_in * number:,.0f}"
    yield f"tokens out  {tokens_out * number:,.0f}"
    yield f"time        {_duration(seconds * number / concurrency)} with {concurrency} at once"
    yield f"            ({source})"


def _extraction(passages: Sequence[Passage], number: int) -> Iterator[str]:
    """Yield the number of questions by patterns and the time, measured on a few passages."""
    sample = passages[:: max(1, len(passages) // SAMPLE)]
    start = time.perf_counter()
    count = sum(len(extract(passage, number)) for passage in sample)
    seconds = (time.perf_counter() - start) / len(sample)
    yield "requests    0: patterns ask no model"
    yield f"questions   {count / len(sample) * len(passages):,.0f} before the filters"
    yield f"time        {_duration(seconds * len(passages))}, without the filters"


def print_preview(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> None:
    """Print the questions on a few passages, and which of them pass the filters."""
    for line in _preview(pairs, rejections):
        print(line)


def _preview(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> Iterator[str]:
    passages = {each.passage.id: each.passage for each in pairs}
    passages |= {each.passage.id: each.passage for each in rejections}
    for key, passage in passages.items():
        yield ""
        yield f"passage   {passage.title + ': ' if passage.title else ''}{passage.text}"
        for pair in (each for each in pairs if each.passage.id == key):
            rank = "" if pair.rank is None else f", rank {pair.rank}"
            yield f"+ {pair.kind:8}{pair.query}"
            yield f"  answer  {pair.answer}"
            yield f"  quote   {pair.quote} ({pair.start} to {pair.end}{rank})"
        for rejection in (each for each in rejections if each.passage.id == key):
            yield f"- {rejection.filter}: {rejection.reason}"
            yield f"          {rejection.query or '(nothing readable)'}"
            yield f"  answer  {rejection.answer}"
    yield ""
    yield f"{len(pairs)} questions passed the filters, {len(rejections)} did not"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
