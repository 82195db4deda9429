"""Show a passage with its neighbours, and the file it was taken from: /v1/passages."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dalm.records import Passage
from dalm.retrieval.base import VectorStore
from dalm.retrieval.documents import neighbours_of
from dalm.serving.api_errors import ApiError
from dalm.serving.originals import OriginalResponse, Originals
from dalm.serving.service import Service

NO_STORE = {"Cache-Control": "no-store"}
LONGEST_ID = 200
"""Characters."""


def routes(service: Service) -> list[BaseRoute]:
    """Return the routes."""
    folder = service.settings.documents
    originals = None if folder is None else Originals(folder)

    async def context(request: Request) -> JSONResponse:
        passage, store = await _passage(request, service)
        before, after = await service.run(neighbours_of, store, passage)
        content = {
            "before": before and before.to_dict(),
            "passage": passage.to_dict(),
            "after": after and after.to_dict(),
        }
        return JSONResponse(content, headers=NO_STORE)

    async def original(request: Request) -> Response:
        passage, _ = await _passage(request, service)
        found = None
        if originals is not None and passage.source:
            found = await service.run(originals.open, passage.source)
        if found is None:
            raise ApiError(404, "the passage's document can't be opened here", code="no_original")
        return OriginalResponse(found, passage.source)

    return [
        Route("/v1/passages/{id}/context", context),
        Route("/v1/passages/{id}/original", original),
    ]


async def _passage(request: Request, service: Service) -> tuple[Passage, VectorStore]:
    """Return the passage that a request names, and the store that has it. Raises ApiError, 404.

    A passage of the other system of a comparison is found, too: else its side would show.
    """
    name = request.path_params["id"]
    if len(name) <= LONGEST_ID and name.isprintable():
        for each in filter(None, (service, service.compared)):
            store = each.index.generation.store
            if name in (found := await service.run(store.passages_of, [name])):
                return found[name], store
    raise ApiError(404, f"there is no passage {name!r:.80}", code="not_found")
