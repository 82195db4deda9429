"""Say whether the server runs, what it serves and how: /health, /ready, /v1/models, /metrics."""

import time

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dalm.serving.api_errors import ApiError
from dalm.serving.names import reranker_name, retriever_name
from dalm.serving.service import Service

PUBLIC = {"/health", "/ready"}


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""
    started = int(time.time())

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> JSONResponse:
        if service.stopping:
            return JSONResponse({"status": "stopping"}, 503)
        number = service.index.generation.number
        content: dict[str, object] = {"status": "ready", "generation": number}
        if service.served.problem is not None:
            content["problem"] = "the newest state of the index can't be served; see the log"
        return JSONResponse(content)

    def models() -> list[dict[str, object]]:
        own = retriever_name(service.index)
        sides = [own, f"{own}:query", f"{own}:passage"]
        names = dict.fromkeys([service.generating.name, *sides, reranker_name(service.index)])
        return [
            {"id": name, "object": "model", "created": started, "owned_by": "dalm"}
            for name in names
        ]

    async def all_models(_: Request) -> JSONResponse:
        return JSONResponse({"object": "list", "data": models()})

    async def one_model(request: Request) -> JSONResponse:
        asked = request.path_params["name"]
        for model in models():
            if model["id"] == asked:
                return JSONResponse(model)
        raise ApiError(
            404, f"there is no model {asked[:60]!r} here", param="model", code="model_not_found"
        )

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/health", health),
        Route("/ready", ready),
        Route("/v1/models", all_models),
        Route("/v1/models/{name:path}", one_model),
        Route("/metrics", metrics),
    ]
