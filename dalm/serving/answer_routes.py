"""Tell everything that is kept of an answer: /v1/answers."""

from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from dalm.serving.api_errors import ApiError
from dalm.serving.completions import numbered
from dalm.serving.passage_routes import LONGEST_ID, NO_STORE
from dalm.serving.service import Service


def routes(service: Service) -> list[BaseRoute]:
    """Return the route."""

    async def answer(request: Request) -> JSONResponse:
        name = request.path_params["id"]
        found = None
        if len(name) <= LONGEST_ID and name.isprintable():
            found = await service.run(service.answers.answer, name)
        if found is None:
            message = f"there is no answer {name!r:.80} any more, or there never was"
            raise ApiError(404, message, code="not_found")
        hits = await service.run(numbered, found.hits, found.answer)
        return JSONResponse(asdict(found) | {"hits": hits}, headers=NO_STORE)

    return [Route("/v1/answers/{id}", answer)]
