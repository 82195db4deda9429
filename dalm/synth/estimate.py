"""Know before: requests in, an estimate out; a few questions in, a look at them out."""

import time
from collections.abc import Iterable, Sequence

from dalm.llm.response_cache import Totals
from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import Request

BYTES_PER_TOKEN = 4  # of UTF-8, roughly, for any language; used until a server has counted
TOKENS_PER_QUESTION = 90  # of JSON with question, answer and quote; likewise
TOKENS_PER_SECOND = 40  # of one answer; likewise
PROBE = 200  # passages that patterns are timed on


def estimate(
    requests: Sequence[Request], answered: int, known: Totals, at_once: int
) -> Iterable[str]:
    """Yield what asking for these requests would take, as lines.

    Tokens and time are those of the answers in the journal, per request, once there are some.
    """
    number = len(requests) - answered
    yield f"requests    {len(requests)}, of which {answered} are answered"
    if not number:
        return
    if known.number and known.tokens_out:
        tokens_in, tokens_out = known.tokens_in / known.number, known.tokens_out / known.number
        seconds, source = known.seconds / known.number, f"by {known.number} answers in the journal"
    else:
        sample = requests[:: max(1, len(requests) // PROBE)]
        size = sum(len(m["content"].encode()) for each in sample for m in each.messages)
        tokens_in = size / len(sample) / BYTES_PER_TOKEN
        tokens_out = float(TOKENS_PER_QUESTION * requests[0].wording.number)
        seconds = tokens_out / TOKENS_PER_SECOND
        source = (
            f"a guess: {BYTES_PER_TOKEN} bytes a token, {TOKENS_PER_QUESTION} tokens a question, "
            f"{TOKENS_PER_SECOND} tokens/s an answer; after --limit 10 it is an estimate"
        )
    yield f"tokens in   {tokens_in * number:,.0f}"
    yield f"tokens out  {tokens_out * number:,.0f}"
    yield f"time        {_spoken(seconds * number / at_once)} with {at_once} at once"
    yield f"            ({source})"


def estimate_extraction(passages: Sequence[Passage], number: int) -> Iterable[str]:
    """Yield what making questions by patterns would take, timed on a few passages, as lines."""
    sample = passages[:: max(1, len(passages) // PROBE)]
    start = time.perf_counter()
    made = sum(len(extract(passage, number)) for passage in sample)
    seconds = (time.perf_counter() - start) / len(sample)
    yield "requests    0: patterns ask no model"
    yield f"questions   {made / len(sample) * len(passages):,.0f} before the gates"
    yield f"time        {_spoken(seconds * len(passages))}, gates aside"


def look(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> Iterable[str]:
    """Yield the questions of a trial with what became of them, passage by passage, as lines."""
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
            yield f"- {rejection.gate}: {rejection.reason}"
            yield f"          {rejection.query or '(nothing readable)'}"
            yield f"  answer  {rejection.answer}"
    yield ""
    yield f"{len(pairs)} questions passed the gates, {len(rejections)} did not"


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
