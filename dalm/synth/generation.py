"""Passages in, drafts of questions out: by patterns, or by a model that is asked."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dalm.config import QaGen
from dalm.llm.chat_completions import Options, Server, server_of
from dalm.llm.language_model import Ask
from dalm.llm.openai_client import Asker
from dalm.llm.response_cache import Journal, Totals, ask_once
from dalm.progress import track
from dalm.records import Passage
from dalm.synth import estimate, qa_run
from dalm.synth.extractive import extract
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import requests_of, spread
from dalm.synth.selection import read_reply

logger = logging.getLogger(__name__)

OPTIONS = Options(
    asks="--backend http",
    address="--base-url",
    model="--model",
    key="--api-key-env",
    timeout="--timeout",
)


@dataclass(frozen=True)
class Model:
    """A model that can be asked."""

    name: str
    """As the records name it."""
    ask: Ask
    identity: str
    """What tells it from others: its name on a server, a hash of its weights here."""
    parameters: Mapping[str, Any]
    at_once: int
    """Requests under way at once, for estimates."""


def served(settings: QaGen) -> Model:
    """Return the model of a server.

    Raises:
        UserError: no address, or no model named.
    """
    name = settings.generator_name_or_path
    url, key = server_of(settings.base_url, name, settings.api_key_env, OPTIONS)
    assert name is not None
    parameters = {
        "temperature": settings.temperature,
        "max_tokens": settings.max_new_tokens,
        "seed": settings.seed,
    }
    server = Server(url, name, OPTIONS, key, settings.max_retries, settings.timeout)
    asker = Asker(server, settings.concurrency, parameters)
    return Model(name, asker.ask, name, parameters, settings.concurrency)


def local(settings: QaGen, identity: str, ask: Ask) -> Model:
    """Return the model of this machine."""
    assert settings.generator_name_or_path is not None
    parameters = {"max_tokens": settings.max_new_tokens}
    return Model(settings.generator_name_or_path, ask, identity, parameters, 1)


def make(
    folder: Path,
    model: Model | None,
    passages: Sequence[Passage],
    settings: QaGen,
    rejections: list[Rejection],
) -> list[Pair]:
    """Return what patterns, or a model's answers, make of the passages; no gate was passed yet."""
    asked = spread(passages, settings.limit) if settings.limit else passages
    logger.info("passages   %d%s", len(asked), f" of {len(passages)}" if settings.limit else "")
    number = settings.questions_per_passage
    if model is None:
        shown = track(asked, len(asked), "making questions", "passage")
        return list(chain.from_iterable(extract(passage, number) for passage in shown))
    requests = requests_of(asked, qa_run.wording(settings), model.identity, model.parameters)
    with Journal(folder / qa_run.JOURNAL) as journal:
        answers = ask_once(requests, journal, model.ask, model.name)
    return [
        pair
        for request, reply in answers
        for pair in read_reply(reply.text, request, model.name, rejections)
    ]


def show_estimate(
    folder: Path, model: Model | None, passages: Sequence[Passage], settings: QaGen
) -> None:
    """Print what making the questions would take."""
    print(f"passages    {len(passages)}")
    if model is None:
        lines = estimate.estimate_extraction(passages, settings.questions_per_passage)
    else:
        requests = requests_of(passages, qa_run.wording(settings), model.identity, model.parameters)
        known, answered = Totals(), 0
        if (folder / qa_run.JOURNAL).exists():
            with Journal(folder / qa_run.JOURNAL) as journal:
                known, answered = journal.replies, sum(r.key in journal for r in requests)
        lines = estimate.estimate(requests, answered, known, model.at_once)
    for line in lines:
        print(line)


def show_trial(pairs: Sequence[Pair], rejections: Sequence[Rejection]) -> None:
    """Print the questions of a few passages, and what became of them."""
    for line in estimate.look(pairs, rejections):
        print(line)
