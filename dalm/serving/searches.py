"""Search the index, and order given texts by a query: /search, /v1/rerank."""

import uuid
from collections.abc import Sequence
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dalm.retrieval.hybrid import MODES, Mode
from dalm.serving import request_log
from dalm.serving.api_errors import invalid
from dalm.serving.chat_requests import check_model
from dalm.serving.names import reranker_name
from dalm.serving.request_fields import Fields, text_of
from dalm.serving.service import Service

MOST_TEXTS = 1000
MOST_HITS = 1000


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""

    async def search(request: Request) -> Response:
        fields = await Fields.of(request)
        query = fields.required_text("query")
        top_k = fields.whole("top_k", 1, MOST_HITS) or 5
        mode = cast("Mode | None", fields.choice("search", *MODES))
        where = fields.text("where")
        fields.finish()
        log = request_log.of(request)
        log.question(query)
        with log.stage("search"):
            found = await service.search(query, top_k, mode, where)
        log.query_cut_at(found.query_cut_at)
        content = {"query": query} | found._asdict()
        return JSONResponse(content | {"hits": [hit.to_dict() for hit in found.hits]})

    async def rerank(request: Request) -> Response:
        fields = await Fields.of(request)
        index = service.index
        log = request_log.of(request)
        query = fields.required_text("query")
        log.question(query)
        if "texts" in fields.body:  # as text-embeddings-inference has it
            texts = _documents(fields.take("texts"), "texts")
            with_text = fields.flag("return_text")
            fields.only("raw_scores", True, False)
            fields.only("truncate", True)
            fields.finish()
            with log.stage("rerank"):
                ranked = await service.rerank(query, texts)
            found = [{"index": place, "score": score} for place, score in ranked]
            texted = [each | {"text": texts[int(each["index"])]} for each in found]
            return JSONResponse(texted if with_text else found)
        model = fields.text("model") or reranker_name(index)
        check_model(model, reranker_name(index))
        texts = _documents(fields.take("documents"), "documents")
        top_n = fields.whole("top_n", 1, MOST_TEXTS) or len(texts)
        with_text = fields.flag("return_documents")
        fields.finish()
        with log.stage("rerank"):
            ranked = await service.rerank(query, texts)
        results: list[dict[str, Any]] = [
            {"index": place, "relevance_score": score}
            | ({"document": {"text": texts[place]}} if with_text else {})
            for place, score in ranked[:top_n]
        ]
        name = f"rerank-{uuid.uuid4().hex}"
        return JSONResponse({"id": name, "model": model, "results": results})

    return [
        Route("/search", search, methods=["POST"]),
        *(
            Route(path, rerank, methods=["POST"])
            for path in ("/v1/rerank", "/v2/rerank", "/rerank")
        ),
    ]


def _documents(value: object, name: str) -> Sequence[str]:
    """Return the texts to order: texts, or objects with one."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_TEXTS:
        raise invalid(f"{name} is a list of 1 to {MOST_TEXTS} texts", name)
    return [
        text_of(each.get("text") if isinstance(each, dict) else each, f"{name}[{place}]")
        for place, each in enumerate(value)
    ]
