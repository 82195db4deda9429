"""Generate question-answer pairs from passages, by patterns or by a language model."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from dalm.config import QaGen
from dalm.config.data import KINDS, SINGLE_KINDS, Kind
from dalm.llm.language_model import LanguageModel
from dalm.llm.response_cache import Journal, cached_replies
from dalm.llm.served_model import ServedModel, ServerOptions
from dalm.progress import track
from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.filters import ASKED_FOR, READABLE, rejected
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import (
    VERSION,
    QuestionPrompt,
    QuestionRequest,
    evenly_spaced,
    requests_of,
)
from dalm.synth.question_replies import Draft, is_empty_list, parse

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
    name = settings.generator_name_or_path
    if settings.backend == "http":
        endpoint = SERVER.endpoint(
            settings.base_url,
            name,
            settings.api_key_env,
            max_retries=settings.max_retries,
            timeout=settings.timeout,
        )
        parameters = {
            "temperature": settings.temperature,
            "max_tokens": settings.max_new_tokens,
            "seed": settings.seed,
        }
        return ServedModel(endpoint, SERVER, parameters, settings.concurrency)
    from dalm.llm.local_model import load_local_model
    from dalm.models.loading import place

    assert name is not None
    placement = replace(place(settings.device, settings.precision), frozen=True)
    return load_local_model(name, placement, settings.max_new_tokens)


def generate_pairs(
    folder: Path,
    model: LanguageModel | None,
    passages: Sequence[Passage],
    settings: QaGen,
    rejections: list[Rejection],
) -> list[Pair]:
    """Return the pairs that patterns, or a model's replies, give; not filtered yet.

    Replies are kept in the folder's journal. With `--limit` only some passages are used.
    """
    chosen = evenly_spaced(passages, settings.limit) if settings.limit else passages
    logger.info("passages   %d%s", len(chosen), f" of {len(passages)}" if settings.limit else "")
    if model is None:
        tracked = track(chosen, len(chosen), "generating questions", "passage")
        number = settings.questions_per_passage
        return list(chain.from_iterable(extract(passage, number) for passage in tracked))
    with Journal(folder / JOURNAL) as journal:
        requests = question_requests(model, chosen, settings)
        replies = cached_replies(model, requests, journal, RESUME)
    return [
        pair
        for request, reply in replies
        for pair in read_reply(reply.text, request, model.name, rejections)
    ]


def question_requests(
    model: LanguageModel, passages: Sequence[Passage], settings: QaGen
) -> list[QuestionRequest]:
    """Return the requests to the model for questions about the passages."""
    kinds = tuple(settings.kinds or SINGLE_KINDS)
    prompt = QuestionPrompt(settings.questions_per_passage, kinds)
    return requests_of(passages, prompt, model.identity, model.parameters)


def read_reply(
    text: str, request: QuestionRequest, model: str, rejections: list[Rejection]
) -> list[Pair]:
    """Return the pairs in a model's reply, as many as were asked for at most."""
    drafts = parse(text)
    if not drafts and not is_empty_list(text):
        reason = "an empty answer" if not text.strip() else "no question can be read in it"
        rejections.append(Rejection(READABLE, reason, request.passage, answer=text[:500]))
    pairs = [_pair(draft, request, model) for draft in drafts]
    number = request.prompt.number
    rejections += [rejected(ASKED_FOR, f"one more than {number}", each) for each in pairs[number:]]
    return pairs[:number]


def _pair(draft: Draft, request: QuestionRequest, model: str) -> Pair:
    return Pair(
        request.passage,
        query=draft.question,
        answer=draft.answer,
        quote=draft.quote,
        kind="multi-passage" if request.other else _kind(draft.kind),
        generator=model,
        prompt_version=VERSION,
        other=request.other,
        other_quote=draft.other_quote,
    )


def _kind(name: str) -> Kind:
    known = {kind: kind for kind in KINDS if kind != "multi-passage"}
    return known.get(name.lower(), "fact")  # type: ignore[call-overload, no-any-return]
