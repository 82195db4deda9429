"""Assemble the application from modules of routes.

A module of routes has a function `routes(service: Service) -> list[BaseRoute]`; to add one, write
it and put the module into `MODULES`. Its endpoints are plain Starlette: they read what they need
from the request and call the service (`await service.search(...)`, `async with await
service.ask(...)`, `await service.run(blocking, ...)`). Errors are raised as `ApiError`
(`invalid(...)` for a 400), and answered in the shape of OpenAI's API. Three constants of the module
are optional:

    PUBLIC = {"/"}                      paths that need no API key
    BODY_LIMITS = {"/documents": 2**26} bytes of a body, of paths that begin so; else BODY_LIMIT
    LIFESPANS = [function(service)]     async context managers to hold while the server runs
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import ModuleType
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from dalm.serving import (
    answer_routes,
    api_errors,
    comparisons,
    completions,
    document_routes,
    embeddings,
    feedback_routes,
    mcp_tools,
    operations,
    page_facts,
    page_routes,
    passage_routes,
    searches,
)
from dalm.serving.guards import Guards
from dalm.serving.request_log import RequestLog
from dalm.serving.service import Service

MODULES: tuple[ModuleType, ...] = (
    operations,
    completions,
    answer_routes,
    comparisons,
    embeddings,
    searches,
    document_routes,
    feedback_routes,
    passage_routes,
    mcp_tools,
    page_facts,
    page_routes,
)
"""Modules of routes, in the order in which paths are looked for."""
BODY_LIMIT = 4 * 2**20
"""Bytes of a request's body."""


def build_app(service: Service) -> ASGIApp:
    """Return the application of a service: its routes, within the guards, within the log."""
    handlers: dict[Any, Any] = {
        api_errors.ApiError: api_errors.respond,
        HTTPException: api_errors.respond,
        ClientDisconnect: api_errors.respond,
        Exception: api_errors.respond,
    }

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for module in MODULES:
                for each in getattr(module, "LIFESPANS", ()):
                    await stack.enter_async_context(each(service))
            watching = asyncio.create_task(service.watch())
            try:
                yield
            finally:
                watching.cancel()
                with suppress(asyncio.CancelledError):
                    await watching

    routes = [route for module in MODULES for route in module.routes(service)]
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    guarded = Guards(
        app,
        service,
        public={path for module in MODULES for path in getattr(module, "PUBLIC", ())},
        body_limit=BODY_LIMIT,
        body_limits={
            path: limit
            for module in MODULES
            for path, limit in getattr(module, "BODY_LIMITS", {}).items()
        },
    )
    return RequestLog(guarded, service, routes)
