"""Answer a question by two systems, side by side, without saying which is which: /v1/comparisons.

Nothing is sent before both have answered, so that no side shows by its pace; nor are scores, models
or generations. Which side is which is kept with the comparison, and told to who has voted.
"""

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dalm.serving import api_errors, request_log
from dalm.serving.answer_records import models_of
from dalm.serving.api_errors import ApiError
from dalm.serving.completions import EVENTS, event, numbered, unless_gone
from dalm.serving.request_fields import Fields
from dalm.serving.service import Question, RunningAnswer, Service
from dalm.user_feedback.judgments import ComparisonRecord

SHOWN = ("id", "text", "title", "source", "page", "headings")
"""What is told of a passage; further columns may be in one index alone, and scores would tell."""
QUIET = 10.0
"""Seconds after which a comment tells proxies that the connection lives."""


def routes(service: Service) -> list[BaseRoute]:
    """Return the route."""

    async def compare(request: Request) -> Response:
        other = service.compared
        if other is None:
            raise ApiError(404, "this server compares nothing: it was started without "
                           "--compare-index and --compare-generator-name-or-path",
                           code="no_comparison")  # fmt: skip
        fields = await Fields.of(request)
        question = Question(text=fields.required_text("question"))
        fields.finish()
        log = request_log.of(request)
        log.question(question.text)
        answers = await unless_gone(request, _ask_both(question, (service, other)))
        events = _events(service, question, answers, log)
        return StreamingResponse(events, media_type="text/event-stream", headers=EVENTS)

    return [Route("/v1/comparisons", compare, methods=["POST"])]


async def _ask_both(question: Question, systems: Sequence[Service]) -> Sequence[RunningAnswer]:
    """Return each system's answer; if one fails, or the client goes away, the other is stopped."""
    asked = [asyncio.ensure_future(system.ask(question)) for system in systems]
    try:
        return await asyncio.gather(*asked)
    except BaseException:
        for each in asked:
            each.cancel()
        for found in await asyncio.gather(*asked, return_exceptions=True):
            if isinstance(found, RunningAnswer):
                found.cancel()
        raise


async def _events(
    service: Service,
    question: Question,
    answers: Sequence[RunningAnswer],
    log: request_log.Entry,
) -> AsyncIterator[bytes]:
    whole = asyncio.ensure_future(_whole(answers))
    try:
        while not whole.done():
            await asyncio.wait({whole}, timeout=QUIET)
            if not whole.done():
                yield b": answering\n\n"
        whole.result()
        record = await asyncio.to_thread(_record, service, question, answers)
        await asyncio.to_thread(service.answers.keep, record)
        sides = {"a": record.a, "b": record.b}
        for name, side in sides.items():
            yield event({"side": name, "delta": side["answer"]})
        yield event({"id": record.id, **sides})
    except Exception as error:
        log.failed(error)
        yield event(api_errors.of_exception(error).body)
        return
    finally:
        whole.cancel()
        for answer in answers:
            answer.cancel()
            log.answer(answer)
    yield b"data: [DONE]\n\n"


async def _whole(answers: Sequence[RunningAnswer]) -> None:
    for answer in answers:
        async for _ in answer:
            pass


def _record(
    service: Service, question: Question, answers: Sequence[RunningAnswer]
) -> ComparisonRecord:
    """Draw the sides, and return what is kept."""
    own, other = answers
    tuned, compared = ("a", "b") if secrets.randbits(1) else ("b", "a")
    sides = {tuned: _side(own), compared: _side(other)}
    assert service.compared is not None
    return ComparisonRecord(
        id=f"cmp-{uuid.uuid4().hex}",
        question=question.text,
        tuned="a" if tuned == "a" else "b",
        generation=own.index.generation.number,
        a=sides["a"],
        b=sides["b"],
        models={"tuned": models_of(service, own), "compared": models_of(service.compared, other)},
    )


def _side(answer: RunningAnswer) -> Mapping[str, Any]:
    turn = answer.turn
    passages = [hit.passage.to_dict() for hit in turn.hits]
    shown = [{name: each[name] for name in SHOWN if name in each} for each in passages]
    return {
        "answer": turn.answer,
        "not_found": turn.not_found,
        "citations": numbered(shown, turn.answer),
    }
