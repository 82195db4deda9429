"""Say what the page shows before anybody asks: /v1/page, /v1/sources."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from dalm.retrieval.documents import list_sources
from dalm.retrieval.hybrid import MODES
from dalm.serving.document_routes import MEGABYTES, MOST_LISTED, number_of
from dalm.serving.page_examples import PageExamples
from dalm.serving.passage_routes import NO_STORE
from dalm.serving.service import Service

_waiting: dict[int, PageExamples] = {}
"""Of services whose server doesn't run yet."""


@asynccontextmanager
async def choosing_examples(service: Service) -> AsyncIterator[None]:
    """Choose the examples as soon as the server runs."""
    examples = _waiting.pop(id(service))
    examples.start()
    try:
        yield
    finally:
        examples.stop()


LIFESPANS = [choosing_examples]


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""

    examples = _waiting[id(service)] = PageExamples(service)

    async def page(_: Request) -> JSONResponse:
        settings, index = service.settings, service.index
        content = {
            "model": service.generating.name,
            "generation": index.generation.number,
            "examples": await examples.questions(),
            "modes": sorted(MODES, key=lambda mode: mode != settings.search),
            "reranker": index.reranker is not None,
            "upload_megabytes": MEGABYTES,
            "can": {
                "upload": settings.allow_uploads,
                "feedback": settings.feedback,
                "compare": service.compared is not None,
                "originals": settings.documents is not None,
            },
        }
        return JSONResponse(content, headers=NO_STORE)

    async def sources(request: Request) -> JSONResponse:
        offset = number_of(request, "offset", 0, 0, 10**9)
        limit = number_of(request, "limit", 100, 1, MOST_LISTED)
        found = await service.run(list_sources, service.index.generation.store)
        data = [each.to_dict() for each in found[offset : offset + limit]]
        content = {"object": "list", "data": data, "total": len(found)}
        content["has_more"] = offset + limit < len(found)
        return JSONResponse(content, headers=NO_STORE)

    return [Route("/v1/page", page), Route("/v1/sources", sources)]
