"""Load what is served, and listen until a signal ends the server."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from dalm.config import Serve
from dalm.models.loading import check_model_is_there
from dalm.rag.readers import load_reader, rewriter_of, served_reader
from dalm.serve.generators import Generating, LocalGenerating, ServedGenerating
from dalm.serve.open_index import ServedIndex
from dalm.serve.service import Service

logger = logging.getLogger(__name__)


def open_service(index_dir: str, settings: Serve) -> Service:
    """Open an index and load its models.

    Raises:
        UserError: no index, no generator, or a model that can't be loaded.
    """
    if settings.generator_name_or_path is not None:
        check_model_is_there(settings.generator_name_or_path, "generator")
    index = ServedIndex(index_dir, settings)
    return Service(index, _generating(settings), settings)


def _generating(settings: Serve) -> Generating:
    name = settings.generator_name_or_path
    if name is None:
        return ServedGenerating(served_reader(settings))
    adapter = settings.generator_peft_model_path
    reader = load_reader(settings, name, adapter, settings.generator_max_len)
    return LocalGenerating(reader, rewriter_of(reader, name), name)


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals."""
        yield


def server_config(app: ASGIApp, service: Service) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    settings = service.settings
    return uvicorn.Config(
        app,
        settings.host,
        settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def run(app: ASGIApp, service: Service) -> None:
    """Listen until a signal comes."""
    settings = service.settings
    logger.info("serving    http://%s:%d", settings.host, settings.port)
    asyncio.run(QuietServer(server_config(app, service)).serve())
