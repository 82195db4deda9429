"""Serve an index over HTTP."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import Serve


def serve(
    index_dir: str,
    *,
    settings: Annotated[Serve, Parameter(name="*")] = Serve(),  # noqa: B008
) -> None:
    """Serve search and answers from an index over HTTP, in the protocol of OpenAI.

    A new state of the index, which `dalm index` has made, is served without a restart.

    Parameters
    ----------
    index_dir
        Folder of the index, as `dalm index` writes it.
    """
    import asyncio

    from dalm.config import check
    from dalm.rag.readers import check_generator
    from dalm.serving import mcp_tools
    from dalm.serving.app import build_app
    from dalm.serving.guards import access_key
    from dalm.serving.server import listen, open_service, run

    check(settings)
    check_generator(settings, "dalm serve")
    if settings.mcp_stdio:
        mcp_tools.check_stdio(settings)
        with mcp_tools.stdout_for_messages():
            service = open_service(index_dir, settings)
        asyncio.run(mcp_tools.serve_stdio(service))
        return
    access_key(settings)
    with listen(settings) as listening:  # a taken port is said before the models are loaded
        service = open_service(index_dir, settings)
        run(build_app(service), service, listening)
