"""A server to ask."""

from collections.abc import Iterator

import pytest

from tests.llm.stub_server import Stub, serving


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as served:
        yield served
