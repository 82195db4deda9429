"""Generate question-answer pairs from passages, by patterns or by a language model.

Estimate before that what it will take.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dalm.config import QaGen
from dalm.display import show
from dalm.ingest.languages import log_other_languages
from dalm.llm.language_model import LanguageModel
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.response_cache import Journal, Totals, cached_replies
from dalm.llm.server_options import ServerOptions
from dalm.progress import track
from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.filters import ASKED_FOR, READABLE, rejected
from dalm.synth.keywords import KeywordPicker
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.query_checks import FORMS, UNANSWERABLE, answer_type_of
from dalm.synth.query_mix import QueryMix, Slot
from dalm.synth.question_judge import QuestionJudge
from dalm.synth.question_prompts import QuestionRequest, requests_of
from dalm.synth.question_replies import Draft, is_empty_list

if TYPE_CHECKING:
    from dalm.llm.local_model import LocalModel

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
RESUME = "the same command with --overwrite-output-dir"
SERVER = ServerOptions(
    needed_by="--backend http",
    url="--base-url",
    model="--model",
    api_key_env="--api-key-env",
    timeout="--timeout",
)

BYTES_PER_TOKEN = 4  # of UTF-8, roughly, for any language; used until a server has counted
TOKENS_PER_QUESTION = 90  # of JSON with question, answer and quote; likewise
TOKENS_PER_SECOND = 40  # of one answer; likewise
SAMPLE = 200  # passages that patterns are timed on


def load_model(settings: QaGen) -> LanguageModel | None:
    """Return the model of `--backend`, None for patterns.

    Raises:
        UserError: no address, or a model that can't be loaded.
    """
    if settings.backend == "extractive":
        return None
    return _load(settings, settings.generator_name_or_path, settings.temperature)


def load_judge(settings: QaGen, model: LanguageModel | None, folder: Path) -> QuestionJudge | None:
    """Return the judge of `--judge`, the same model if no other is named; None without it."""
    if not settings.judge or model is None:
        return None
    if settings.judge_model not in (None, settings.generator_name_or_path):
        model = _load(settings, settings.judge_model, 0.0)
    return QuestionJudge(model, folder, RESUME)


def _load(settings: QaGen, name: str | None, temperature: float) -> LanguageModel:
    if settings.backend == "http":
        endpoint = SERVER.endpoint(
            settings.base_url,
            name,
            settings.api_key_env,
            max_retries=settings.max_retries,
            timeout=settings.timeout,
        )
        return OpenAIClient(endpoint, _sampling(settings, temperature), settings.concurrency)
    assert name is not None
    if settings.backend == "vllm":
        from dalm.llm.vllm_model import VllmModel
        from dalm.scaling.ray_pool import RayPool

        return VllmModel(name, _sampling(settings, temperature), RayPool.of(settings))
    if settings.ray is None:
        return _load_local(settings, name)
    from dalm.llm.pooled_model import PooledModel
    from dalm.models.loading import pinned
    from dalm.scaling.pool import pool_of

    load = partial(_load_local, pinned(settings), name)
    return PooledModel(load(), pool_of(settings), load)


def _sampling(settings: QaGen, temperature: float) -> dict[str, float]:
    most = settings.max_new_tokens
    return {"temperature": temperature, "max_tokens": most, "seed": settings.seed}


def _load_local(settings: QaGen, name: str) -> "LocalModel":
    from dalm.llm.local_model import load_local_model
    from dalm.models.loading import placement_of

    return load_local_model(name, placement_of(settings), settings.max_new_tokens)


def generate_pairs(
    folder: Path,
    model: LanguageModel | None,
    passages: Sequence[Passage],
    settings: QaGen,
    rejections: list[Rejection],
) -> list[Pair]:
    """Return the pairs that patterns, or a model's replies, give; not filtered yet.

    Replies are kept in the folder's journal. With `--limit` only so many passages are used,
    at equal distances over the table.
    """
    number = min(settings.limit or len(passages), len(passages))
    chosen = [passages[place * len(passages) // number] for place in range(number)]
    logger.info("passages   %d%s", len(chosen), f" of {len(passages)}" if settings.limit else "")
    if model is None:
        log_other_languages(chosen, "rules make only gap questions, keywords and titles of them")
        return list(extract_all(chosen, passages, settings))
    with Journal(folder / JOURNAL) as journal:
        requests = question_requests(model, chosen, settings)
        replies = cached_replies(model, requests, journal, RESUME, "passages")
    return [
        pair
        for request, reply in replies
        for pair in read_reply(reply.text, request, model.name, rejections)
    ]


def extract_all(
    chosen: Sequence[Passage], passages: Sequence[Passage], settings: QaGen
) -> Iterator[Pair]:
    """Yield what rules make of some of a table's passages."""
    mix, picker = QueryMix.of(settings), KeywordPicker(passages)
    for passage in track(chosen, len(chosen), "generating queries", "passages"):
        yield from extract(passage, mix.slots(passage.id), picker)


def question_requests(
    model: LanguageModel, passages: Sequence[Passage], settings: QaGen
) -> list[QuestionRequest]:
    """Return the requests to the model for questions about the passages."""
    return requests_of(passages, QueryMix.of(settings), model.identity, model.parameters)


def read_reply(
    text: str, request: QuestionRequest, model: str, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs in a model's reply, as many as were asked for at most."""
    drafts = request.prompt.drafts(text, request.passage)
    if not drafts and not is_empty_list(text):
        reason = "an empty answer" if not text.strip() else "no question can be read in it"
        rejections.append(Rejection(READABLE, reason, request.passage, answer=text[:500]))
    pairs = list(_pairs_of(drafts, request, model))
    number = len(request.prompt.slots)
    rejections += [rejected(ASKED_FOR, f"one more than {number}", each) for each in pairs[number:]]
    return pairs[:number]


def _pairs_of(drafts: Sequence[Draft], request: QuestionRequest, model: str) -> Iterator[Pair]:
    """Yield the pairs; a draft takes the slot of the type that it names, in whatever spelling.

    One that names none takes the first slot left that its form fits.
    """
    slots = request.prompt.slots
    left = list(slots)
    for draft in drafts:
        named = [slot for slot in slots if _bare(draft.kind).startswith(_bare(slot.query_type))]
        shaped = [slot for slot in left if FORMS[slot.query_type](draft.question) is None]
        slot = next((each for each in named if each in left), None)
        slot = slot or next(iter([*named, *shaped, *left, *slots]))
        if slot in left:
            left.remove(slot)
        yield _pair_of(draft, slot, request, model)


def _bare(name: str) -> str:
    """Return a type's name as it is compared: `How To`, `keyword` and `multi_passage` name one."""
    return re.sub(r"[^a-z]", "", name.lower()).rstrip("s")


def _pair_of(draft: Draft, slot: Slot, request: QuestionRequest, model: str) -> Pair:
    lacking = draft.answer.strip(" .").lower() == UNANSWERABLE
    wanted = any(each.answer_type == UNANSWERABLE for each in request.prompt.slots)
    return Pair(
        request.passage,
        query=draft.question,
        answer=draft.answer,
        quote=draft.quote,
        kind=None if lacking else slot.kind,
        generator=model,
        prompt_version=request.prompt.version,
        query_type=slot.query_type,
        answer_type=UNANSWERABLE if lacking and wanted else answer_type_of(draft.answer),
        other=request.other,
        other_quote=draft.other_quote,
    )


def print_estimate(
    folder: Path, model: LanguageModel | None, passages: Sequence[Passage], settings: QaGen
) -> None:
    """Print what generating the questions would take."""
    show(f"passages    {len(passages)}")
    if model is None:
        _print_extraction(passages, settings)
        return
    if settings.backend == "vllm":
        from dalm.llm.vllm_model import VllmModel

        assert isinstance(model, VllmModel)
        show("vLLM        ray.data.llm.vLLMEngineProcessorConfig:")
        show(yaml.safe_dump(model.configuration(), sort_keys=False).rstrip())
    requests = question_requests(model, passages, settings)
    known, answered = Totals(), 0
    if (folder / JOURNAL).exists():
        with Journal(folder / JOURNAL) as journal:
            known, answered = journal.replies, sum(journal.answers(r) for r in requests)
    _print_requests(requests, answered, known, model.concurrency)
    if settings.judge:
        show("judge       one more for each query that passes the filters, and 100 at most")


def _print_requests(
    requests: Sequence[QuestionRequest], answered: int, known: Totals, concurrency: int
) -> None:
    """Print requests, tokens and time, from the mean of the journal's replies if it has any."""
    number = len(requests) - answered
    show(f"requests    {len(requests)}, of which {answered} are answered")
    if not number:
        return
    if known.number and known.tokens_out:
        tokens_in, tokens_out = known.tokens_in / known.number, known.tokens_out / known.number
        seconds, source = known.seconds / known.number, f"by {known.number} answers in the journal"
    else:
        sample = requests[:: max(1, len(requests) // SAMPLE)]
        size = sum(len(m["content"].encode()) for each in sample for m in each.messages)
        tokens_in = size / len(sample) / BYTES_PER_TOKEN
        tokens_out = float(TOKENS_PER_QUESTION * len(requests[0].prompt.slots))
        seconds = tokens_out / TOKENS_PER_SECOND
        source = (
            f"a guess: {BYTES_PER_TOKEN} bytes a token, {TOKENS_PER_QUESTION} tokens a question, "
            f"{TOKENS_PER_SECOND} tokens/s an answer; after --limit 10 it is an estimate"
        )
    show(f"tokens in   {tokens_in * number:,.0f}")
    show(f"tokens out  {tokens_out * number:,.0f}")
    show(f"time        {_duration(seconds * number / concurrency)} with {concurrency} at once")
    show(f"            ({source})")


def _print_extraction(passages: Sequence[Passage], settings: QaGen) -> None:
    """Print the number of queries by rules and the time, measured on a few passages."""
    sample = passages[:: max(1, len(passages) // SAMPLE)]
    start = time.perf_counter()
    count = len(list(extract_all(sample, sample, settings)))
    seconds = (time.perf_counter() - start) / len(sample)
    show("requests    0: rules ask no model")
    show(f"queries     {count / len(sample) * len(passages):,.0f} before the filters")
    show(f"time        {_duration(seconds * len(passages))}, without the filters")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"about {max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
