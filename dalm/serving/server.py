"""Load what is served, and listen until a signal ends the server."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import uvicorn
from starlette.types import ASGIApp

from dalm import stop_signals
from dalm.config import Serve
from dalm.errors import UserError, reason_of
from dalm.models.loading import check_model_is_there
from dalm.rag.readers import load_reader, rewriter_of, served_reader
from dalm.serving.compared_system import add_compared, check_compared
from dalm.serving.generators import Generating, LocalGenerating, ServedGenerating
from dalm.serving.guards import access_key
from dalm.serving.kept_answers import KeptAnswers
from dalm.serving.names import model_name
from dalm.serving.open_index import ServedIndex
from dalm.serving.originals import Originals
from dalm.serving.service import Service
from dalm.user_feedback.feedback_store import FeedbackStore

logger = logging.getLogger(__name__)


def open_service(index_dir: str, settings: Serve) -> Service:
    """Open an index and load its models.

    Raises:
        UserError: no index, no generator, or a model that can't be loaded.
    """
    if settings.generator_name_or_path is not None:
        check_model_is_there(settings.generator_name_or_path, "generator")
    if settings.documents is not None:
        Originals(settings.documents)  # refused before models are loaded
    check_compared(index_dir, settings)
    key = access_key(settings)
    index = ServedIndex(index_dir, settings)
    service = Service(index, _generating(settings), settings)
    service.key = key
    add_compared(service, _generating)
    if settings.feedback:
        service.answers = KeptAnswers(FeedbackStore.open(index.folder.path))
    return service


def _generating(settings: Serve) -> Generating:
    name = settings.generator_name_or_path
    if name is None:
        return ServedGenerating(served_reader(settings, in_use=True), settings.request_timeout)
    adapter = settings.generator_peft_model_path
    reader = load_reader(settings, name, adapter, settings.generator_max_len, in_use=True)
    return LocalGenerating(
        reader, rewriter_of(reader, name), model_name(adapter or name), settings.max_concurrent
    )


class QuietServer(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle no signals."""
        yield


def server_config(app: ASGIApp, service: Service) -> uvicorn.Config:
    """Return how uvicorn serves the application."""
    return uvicorn.Config(
        app,
        service.settings.host,
        service.settings.port,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )


def listen(settings: Serve) -> socket.socket:
    """Return a socket that listens on the address of the options.

    Raises:
        UserError: it is taken, or not this machine's.
    """
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"--host {host} --port {port}: {reason_of(error)}; choose another address"
        ) from error


def run(app: ASGIApp, service: Service, listening: socket.socket) -> NoReturn:
    """Serve until a signal comes; running requests have their time to end.

    Raises:
        Stopped: always; the exit code is that of the signal.
    """
    host, port = listening.getsockname()[:2]
    logger.info("serving    http://%s:%d", f"[{host}]" if ":" in host else host, port)
    with stop_signals.put_off():
        number = asyncio.run(_serve(QuietServer(server_config(app, service)), service, listening))
        raise stop_signals.Stopped(number)


async def _serve(server: QuietServer, service: Service, listening: socket.socket) -> int:
    serving = asyncio.create_task(server.serve([listening]))
    while stop_signals.pending() is None:
        done, _ = await asyncio.wait({serving}, timeout=0.1)
        if done:
            await serving
            raise RuntimeError("the server ended by itself")
    number = stop_signals.pending()
    assert number is not None
    stop_signals.settle()
    service.stopping = True
    logger.info("stopping   %d requests are running", service.running)
    limit = time.monotonic() + service.settings.shutdown_timeout
    while service.running and time.monotonic() < limit:
        await asyncio.sleep(0.05)
    if service.running:
        logger.warning("stopping   %d requests are broken off", service.running)
    server.should_exit = True
    await serving
    return number
