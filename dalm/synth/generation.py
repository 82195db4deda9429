"""Generate question-answer pairs from passages, by patterns or by a language model."""

import logging
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dalm.config import QaGen
from dalm.ingest.languages import log_other_languages
from dalm.llm.language_model import LanguageModel, Reply
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.response_cache import Journal, cached_replies
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
        for pair in read_reply(reply, request, model.name, rejections)
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
    reply: Reply, request: QuestionRequest, model: str, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs in a model's reply, as many as were asked for at most."""
    text, cut = reply.text, reply.finish_reason == "length"
    drafts = request.prompt.drafts(text, request.passage, cut=cut)
    if not drafts and not is_empty_list(text):
        reason = "it is cut off" if cut else "no question can be read in it"
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
