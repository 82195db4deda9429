"""An index, its models, and real servers on free ports."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from dalm.cli import app, run
from dalm.config import Serve
from dalm.serving.app import build_app
from dalm.serving.server import QuietServer, open_service, server_config
from dalm.serving.service import Service
from tests.eval.report.conftest import _driver, browser  # noqa: F401


def dalm(*line: object) -> int:
    return run(app, [str(part) for part in line])


def build_index(folder: Path, table: Path, retriever: Path, *more: object) -> Path:
    line = ["index", table, "--index-dir", folder, "--retriever-name-or-path", retriever]
    assert dalm(*line, *more) == 0
    return folder


@pytest.fixture(scope="session")
def people_index(people: Path, tiny_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of three passages; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("served") / "index"
    return build_index(folder, people, tiny_models.encoder)


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """Run a server of the service on a free port; give its address."""
    taken = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(server_config(build_app(service), service))
    thread = threading.Thread(target=server.run, args=([taken],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


Serving = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def serving(people_index: Path, tiny_models: Any) -> Serving:
    """Serve an index, by default that of people, with these options; gives the address."""

    def served(index: Path = people_index, **options: Any) -> AbstractContextManager[str]:
        return listening(open_service(str(index), serve_settings(tiny_models, **options)))

    return served


def serve_settings(models: Any, **options: Any) -> Serve:
    if "generator_url" not in options:
        options.setdefault("generator_name_or_path", str(models.generator))
    return Serve(**({"max_new_tokens": 6, "reader_passages": 2, "precision": "fp32"} | options))


@pytest.fixture(scope="session")
def url(serving: Serving) -> Iterator[str]:
    """The address of a server that many tests share."""
    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def http(url: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
