"""Say whether the server runs, and what it serves: /health, /ready."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from dalm.serve.service import Service

PUBLIC = {"/health", "/ready"}


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""

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

    return [Route("/health", health), Route("/ready", ready)]
