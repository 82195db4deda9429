"""Take judgments of answers, passages and comparisons: /v1/feedback."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from dalm.errors import UserError
from dalm.serving.api_errors import ApiError, invalid
from dalm.serving.request_fields import Fields, is_one_line
from dalm.serving.service import Service
from dalm.user_feedback.feedback_store import FeedbackStore, UnknownAnswerError
from dalm.user_feedback.judgments import KINDS, Judgment, Kind

logger = logging.getLogger(__name__)

LONGEST_NAME = 200
"""Characters of a person's name, and of an id."""


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""

    async def feedback(request: Request) -> JSONResponse:
        store = service.answers.judged
        judgment = _judgment(await Fields.of(request))
        content = await anyio.to_thread.run_sync(_kept, service, store, judgment)
        return JSONResponse(content, 201)

    return [Route("/v1/feedback", feedback, methods=["POST"])]


def _judgment(fields: Fields) -> Judgment:
    answer_id, person = (_name(fields.required_text(n), n) for n in ("answer_id", "person"))
    kind = fields.choice("kind", *KINDS)
    if kind is None:
        raise invalid("kind is missing", "kind")
    passage_id = fields.text("passage_id")
    judgment = Judgment(
        answer_id=answer_id,
        person=person,
        kind=cast("Kind", kind),
        value=_value(fields.take("value")),
        passage_id=passage_id and _name(passage_id, "passage_id"),
        text=fields.text("text"),
    )
    fields.finish()
    if problem := judgment.problem():
        raise invalid(problem, problem.partition(" ")[0])
    return judgment


def _name(text: str, field: str) -> str:
    if len(text) > LONGEST_NAME or not is_one_line(text):
        raise invalid(f"{field} has to be one line of at most {LONGEST_NAME} characters", field)
    return text


def _value(value: object) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        raise invalid(f"value is {value!r:.60}, not a whole number or a text", "value")
    return value


def _kept(service: Service, store: FeedbackStore, judgment: Judgment) -> Mapping[str, Any]:
    """Keep a judgment; return what the client is told, once it is on the disk."""
    try:
        if judgment.kind != "comparison":
            _check_passage(service, store, judgment)
        content: dict[str, Any] = {"id": store.judge(judgment)}
        if judgment.kind == "comparison" and not judgment.taken_back:
            comparison = store.comparison(judgment.answer_id)
            assert comparison is not None
            content["tuned"] = comparison.tuned
    except UnknownAnswerError as error:
        raise ApiError(404, str(error), param="answer_id", code="not_found") from None
    except UserError as error:
        logger.error("feedback   a judgment isn't kept: %s", error)  # noqa: TRY400
        raise ApiError(503, "the judgment can't be kept now; the server's log says why") from None
    return content


def _check_passage(service: Service, store: FeedbackStore, judgment: Judgment) -> None:
    """Refuse a judgment of a passage that nobody was shown.

    A right passage may be any of the index: people find it beside those that were read.
    """
    answer = store.answer(judgment.answer_id)
    if not judgment.passage_id or answer is None or _holds(answer.hits, judgment.passage_id):
        return
    if judgment.kind == "right_passage":
        if service.index.generation.store.texts_of([judgment.passage_id]):
            return
        raise ApiError(404, "the index has no such passage", param="passage_id", code="not_found")
    raise invalid("the answer was not read from this passage", "passage_id")


def _holds(hits: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(hit["id"] == name for hit in hits)
