"""Offer search and answers to language models by the Model Context Protocol: /mcp, and stdio."""

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, fields
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from starlette.requests import Request
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from dalm.config import Serve
from dalm.config.options import spelled
from dalm.config.serving import Serving
from dalm.errors import UserError
from dalm.records import Hit
from dalm.serving.answer_records import Keeping
from dalm.serving.api_errors import ApiError
from dalm.serving.service import Question, Service

if TYPE_CHECKING:
    from mcp.server import MCPServer

WITH_STDIO = ("mcp_stdio", "max_concurrent", "max_waiting", "request_timeout")
"""Options of serving that have an effect on MCP over stdio."""
INSTALL = 'pip install "indomain[mcp]"'
INSTRUCTIONS = (
    "Search a collection of documents, or have a question answered from them. Passages say their "
    "source and page: cite them."
)


@dataclass(frozen=True)
class Found:
    """A passage of the documents."""

    number: int
    """Its number in citations such as [1]."""
    id: str
    text: str
    title: str
    source: str
    page: int | None
    headings: list[str]
    score: float


@dataclass(frozen=True)
class SearchResult:
    """The passages found for a query, best first."""

    passages: list[Found]
    query_cut_at: int | None
    """Tokens of the query that the search by meaning read, if it is longer."""


@dataclass(frozen=True)
class AnswerResult:
    """An answer, and the passages that were read for it."""

    answer: str
    finish_reason: str
    """stop: it is whole; length: it is cut off at the greatest length."""
    not_found: bool
    """Nothing found answers the question; the passages are those that came nearest."""
    searched: str
    query_cut_at: int | None
    """Tokens of what was searched that the search by meaning read, if it is longer."""
    cited: list[int]
    passages: list[Found]


def _found(hits: "list[Hit] | tuple[Hit, ...]") -> list[Found]:
    return [
        Found(
            number=number,
            id=hit.passage.id,
            text=hit.passage.text,
            title=hit.passage.title,
            source=hit.passage.source,
            page=hit.passage.page,
            headings=list(hit.passage.headings),
            score=hit.score,
        )
        for number, hit in enumerate(hits, 1)
    ]


def check_stdio(settings: Serve) -> None:
    """Refuse options of HTTP with --mcp-stdio, and a missing package.

    Raises:
        UserError: names the option, or what to install.
    """
    for option in fields(Serving):
        if option.name not in WITH_STDIO and getattr(settings, option.name) != option.default:
            raise UserError(
                f"{spelled(option.name)} has no effect with --mcp-stdio, which doesn't listen on a "
                "port; leave it out"
            )
    if find_spec("mcp") is None:
        raise UserError(f"--mcp-stdio needs the package mcp: {INSTALL}")


def build_server(service: Service) -> "MCPServer[Any]":
    """Return the tools of a service, without a transport."""
    from mcp.server import MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp_types import ToolAnnotations
    from pydantic import Field

    server: MCPServer[Any] = MCPServer("dalm", instructions=INSTRUCTIONS, log_level="WARNING")
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    where_help = (
        "Condition on passages in SQL, such as: source = 'manual.pdf' and page > 10. Columns are "
        "id, text, title, document, source, page and those of the documents' metadata."
    )
    Text = Annotated[str, Field(min_length=1, max_length=20_000)]
    Where = Annotated[str | None, Field(max_length=10_000, description=where_help)]

    def refuse(error: ApiError) -> NoReturn:
        raise ToolError(error.message) from error

    def check(text: str) -> None:
        if not text.strip() or not _is_unicode(text):
            raise ToolError("the text is empty, or no Unicode")

    @server.tool(title="Search the documents", annotations=reads)
    async def search(
        query: Annotated[Text, Field(description="What to look for, in words or as a question.")],
        top_k: Annotated[int, Field(ge=1, le=100, description="Number of passages.")] = 5,
        mode: Annotated[
            Literal["hybrid", "dense", "text"] | None,
            Field(description="hybrid: meaning and words; dense: meaning; text: words."),
        ] = None,
        where: Where = None,
    ) -> SearchResult:
        """Find the passages of the documents for a query, best first, with source and page."""
        check(query)
        try:
            found = await service.search(query, top_k, mode, where)
        except ApiError as error:
            refuse(error)
        return SearchResult(passages=_found(found.hits), query_cut_at=found.query_cut_at)

    @server.tool(title="Ask the documents", annotations=reads)
    async def ask(
        question: Annotated[Text, Field(description="A question that stands alone.")],
        where: Where = None,
    ) -> AnswerResult:
        """Answer a question from the documents, with the passages that were read for it."""
        check(question)
        try:
            asked = Question(text=question, where=where)
            async with await service.ask(asked) as answer:
                with Keeping(service, f"mcp-{uuid.uuid4().hex}", asked, answer) as keeping:
                    async for piece in answer:
                        keeping.pieces.append(piece)
                    await keeping.whole()
        except ApiError as error:
            refuse(error)
        turn = answer.turn
        return AnswerResult(
            answer=turn.answer,
            finish_reason=turn.outcome.finish_reason,
            not_found=turn.not_found,
            searched=turn.searched,
            query_cut_at=answer.query_cut_at,
            cited=turn.cited,
            passages=_found(tuple(turn.hits)),
        )

    return server


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Over HTTP


class _Endpoint:
    """The endpoint of the protocol; its sessions run while the server does."""

    def __init__(self, service: Service) -> None:
        from mcp.server.transport_security import TransportSecuritySettings

        self.server = build_server(service)
        # The server's own guards check host, origin and key.
        unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
        self.app = self.server.streamable_http_app(
            stateless_http=True, transport_security=unchecked
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


_endpoints: dict[int, _Endpoint] = {}


def routes(service: Service) -> list[BaseRoute]:
    """Return the route of /mcp; without the package one that says what is missing."""
    if find_spec("mcp") is None:

        async def missing(_: Request) -> NoReturn:
            raise ApiError(501, f"MCP needs a package that the server lacks: {INSTALL}")

        return [Route("/mcp", missing, methods=["GET", "POST", "DELETE"])]
    endpoint = _endpoints.setdefault(id(service), _Endpoint(service))
    return [Route("/mcp", endpoint)]


@asynccontextmanager
async def sessions(service: Service) -> AsyncIterator[None]:
    """Hold what the endpoint of a service needs while the server runs."""
    endpoint = _endpoints.pop(id(service), None)
    if endpoint is None:
        yield
        return
    async with endpoint.server.session_manager.run():
        yield


LIFESPANS = [sessions]


# Over stdio


@contextmanager
def stdout_for_messages() -> Iterator[None]:
    """Send what is printed to stderr for the block: stdout is the protocol's alone."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


async def serve_stdio(service: Service) -> None:
    """Speak the protocol over stdin and stdout until stdin ends."""
    watching = asyncio.create_task(service.watch())
    try:
        await build_server(service).run_stdio_async()
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
