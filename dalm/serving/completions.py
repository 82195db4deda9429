"""Answer chat completions and completions, whole or as a stream of events, with citations."""

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from dalm.rag.citations import MARK
from dalm.rag.support import support_of
from dalm.records import Hit
from dalm.serving import api_errors, request_log
from dalm.serving.answer_records import Keeping
from dalm.serving.chat_requests import AnswerRequest, chat_request, completion_request
from dalm.serving.request_fields import Fields
from dalm.serving.service import RunningAnswer, Service

T = TypeVar("T")
EVENTS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""

    async def chat(request: Request) -> Response:
        asked = chat_request(await Fields.of(request), service)
        return await _answer(request, service, asked, Chat)

    async def completions(request: Request) -> Response:
        asked = completion_request(await Fields.of(request), service)
        return await _answer(request, service, asked, Completion)

    return [
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
    ]


class Completion:
    """The shape of a completion."""

    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    @staticmethod
    def choice(index: int, text: str, answer: RunningAnswer) -> dict[str, Any]:
        """Return a whole answer."""
        reason = answer.outcome.finish_reason
        return {"index": index, "text": text, "logprobs": None, "finish_reason": reason}

    @staticmethod
    def piece(text: str | None, reason: str | None, first: bool) -> dict[str, Any]:  # noqa: ARG004
        """Return a piece of a streamed answer."""
        return {"index": 0, "text": text or "", "logprobs": None, "finish_reason": reason}


class Chat:
    """The shape of a chat completion."""

    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    @staticmethod
    def choice(index: int, text: str, answer: RunningAnswer) -> dict[str, Any]:
        """Return a whole answer."""
        message = {
            "role": "assistant",
            "content": text,
            "refusal": None,
            "annotations": annotations(text, answer.turn.hits),
        }
        reason = answer.outcome.finish_reason
        return {"index": index, "message": message, "logprobs": None, "finish_reason": reason}

    @staticmethod
    def piece(text: str | None, reason: str | None, first: bool) -> dict[str, Any]:
        """Return a piece of a streamed answer."""
        delta = {"role": "assistant"} if first else {}
        if text is not None:
            delta["content"] = text
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


Shape = type[Chat] | type[Completion]


async def _answer(
    request: Request, service: Service, asked: AnswerRequest, shape: Shape
) -> Response:
    log = request_log.of(request)
    log.question(*(question.text for question in asked.questions))
    head: dict[str, Any] = {
        "id": f"{shape.prefix}-{uuid.uuid4().hex}",
        "object": shape.chunk if asked.stream else shape.whole,
        "created": int(time.time()),
        "model": asked.model,
    }
    if not asked.stream:
        return await unless_gone(request, _whole(service, asked, shape, head, log))
    question = asked.questions[0]
    answer = await unless_gone(request, service.ask(question))
    keeping = Keeping(service, head["id"], question, answer)
    events = _events(
        keeping, shape, head | citations_of(answer, whole=False), asked.include_usage, log
    )
    return StreamingResponse(events, media_type="text/event-stream", headers=EVENTS)


async def _whole(
    service: Service,
    asked: AnswerRequest,
    shape: Shape,
    head: dict[str, Any],
    log: request_log.Entry,
) -> Response:
    choices, answers = [], []
    for index, question in enumerate(asked.questions):
        name = head["id"] if len(asked.questions) == 1 else f"{head['id']}-{index}"
        async with await service.ask(question) as answer:
            with Keeping(service, name, question, answer) as keeping:
                async for piece in answer:
                    keeping.pieces.append(piece)
                await keeping.whole()
        log.answer(answer)
        answers.append(answer)
        choices.append(shape.choice(index, answer.turn.answer, answer))
    body = head | {"choices": choices, "usage": _usage(answers)}
    return JSONResponse(body | citations_of(*answers))


async def _events(
    keeping: Keeping,
    shape: Shape,
    head: dict[str, Any],
    include_usage: bool,
    log: request_log.Entry,
) -> AsyncIterator[bytes]:
    usage = {"usage": None} if include_usage else {}
    answer = keeping.answer
    first = True
    try:
        with keeping:
            async with answer:
                async for piece in answer:
                    keeping.pieces.append(piece)
                    yield event(head | {"choices": [shape.piece(piece, None, first)]} | usage)
                    first = False
            await keeping.whole()
        reason = answer.outcome.finish_reason
        head |= await asyncio.to_thread(citations_of, answer)
        yield event(head | {"choices": [shape.piece(None, reason, first)]} | usage)
        if include_usage:
            yield event(head | {"choices": [], "usage": _usage([answer])})
    except Exception as error:
        log.failed(error)
        yield event(api_errors.of_exception(error).body)
        return
    finally:
        answer.cancel()
        log.answer(answer)
    yield b"data: [DONE]\n\n"


def event(content: Mapping[str, Any]) -> bytes:
    """Return a server-sent event."""
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()


def _usage(answers: list[RunningAnswer]) -> dict[str, int] | None:
    """Return the tokens read and written; None where a generator's server doesn't count them."""
    counts = [(each.outcome.tokens_in, each.outcome.tokens_out) for each in answers]
    if any(None in pair for pair in counts):
        return None
    read, written = (sum(part or 0 for part in side) for side in zip(*counts, strict=True))
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def citations_of(*answers: RunningAnswer, whole: bool = True) -> dict[str, Any]:
    """Return the passages that answers read, numbered as they cite them, and what was searched.

    Those of a whole answer have the spans that it is certainly taken from, as `support`. Of several
    answers each value is a list.
    """
    lists = [
        numbered([hit.to_dict() for hit in answer.turn.hits], answer.turn.answer if whole else "")
        for answer in answers
    ]
    told: dict[str, list[Any]] = {
        "citations": lists,
        "searched": [answer.turn.searched for answer in answers],
        "query_cut_at": [answer.query_cut_at for answer in answers],
        "not_found": [answer.turn.not_found for answer in answers],
        "generation": [answer.index.generation.number for answer in answers],
    }
    return {name: each[0] if len(answers) == 1 else each for name, each in told.items()}


def numbered(hits: Sequence[Mapping[str, Any]], answer: str) -> list[dict[str, Any]]:
    """Return hits with their numbers, and where each certainly supports the answer."""
    found = []
    for number, hit in enumerate(hits, 1):
        spans = support_of(answer, hit["text"])
        support = {"support": [list(span) for span in spans]} if spans else {}
        known = {name: value for name, value in hit.items() if name not in ("number", "support")}
        found.append({"number": number, **known, **support})
    return found


def annotations(text: str, hits: Any) -> list[dict[str, Any]]:
    """Return where a text cites which passage, as OpenAI's `url_citation`."""
    found = []
    for mark in MARK.finditer(text):
        start = mark.start() + len(mark[0]) - len(mark[0].lstrip())
        for number in map(int, re.findall(r"\d+", mark[1])):
            if 1 <= number <= len(hits):
                found.append(_annotation(hits[number - 1], start, mark.end()))
    return found


def _annotation(hit: Hit, start: int, end: int) -> dict[str, Any]:
    citation = {
        "start_index": start,
        "end_index": end,
        "title": hit.label,
        "url": f"dalm:passage/{hit.passage.id}",
    }
    return {"type": "url_citation", "url_citation": citation}


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; stop it if the client goes away first."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise api_errors.ApiError(499, "the client went away")
        return task.result()
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _disconnected(request: Request) -> None:
    receive: Callable[[], Any] = request.receive
    while (await receive())["type"] != "http.disconnect":
        pass
