"""Language models search and ask by MCP: the package's own client, over HTTP and over stdio."""

import asyncio
import importlib.util
import os
import sys

import httpx2 as httpx
import pytest

from dalm.cli import app, run

pytest.importorskip("mcp")
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client


async def used(target) -> None:
    """List the tools, search, ask, and be refused."""
    async with Client(target) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"search", "ask"}
        assert tools["search"].description
        assert tools["search"].input_schema["properties"]["top_k"]["maximum"] == 100
        assert "passages" in tools["ask"].output_schema["properties"]
        found = await client.call_tool("search", {"query": "Bela keeps cats", "mode": "text"})
        assert not found.is_error
        [passage] = found.structured_content["passages"]
        assert (passage["source"], passage["page"], passage["number"]) == ("people.pdf", 2, 1)
        condition = "source = 'men.pdf'"
        asked = await client.call_tool("ask", {"question": "Where is Graz?", "where": condition})
        assert [p["source"] for p in asked.structured_content["passages"]] == ["men.pdf"]
        assert isinstance(asked.structured_content["answer"], str)
        assert asked.structured_content["finish_reason"] == "length"
        assert not asked.structured_content["not_found"]
        for name, arguments in [
            ("search", {"query": "x", "where": "nosuch = 1"}),
            ("search", {"query": " "}),
            ("search", {"query": "x", "top_k": 0}),
            ("ask", {}),
            ("nosuch", {}),
        ]:
            refused = await client.call_tool(name, arguments)
            assert refused.is_error
            assert refused.content[0].text


def test_over_http(url):
    asyncio.run(used(f"{url}/mcp"))


def test_over_http_with_the_key_alone(serving, monkeypatch):
    monkeypatch.setenv("DALM_API_KEY", "secret-of-the-test")

    async def with_key(url: str) -> None:
        headers = {"Authorization": "Bearer secret-of-the-test"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as http:
            await used(streamable_http_client(f"{url}/mcp", http_client=http))

    with serving() as url:
        assert httpx.post(f"{url}/mcp", json={}).status_code == 401
        asyncio.run(with_key(url))


def test_over_stdio(people_index, tiny_models):
    line = ["-m", "dalm", "serve", people_index, "--mcp-stdio", "--max-new-tokens", 4]
    line += ["--generator-name-or-path", tiny_models.generator, "--reader-passages", 2]
    environment = dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arguments = list(map(str, line))
    asyncio.run(
        used(StdioServerParameters(command=sys.executable, args=arguments, env=environment))
    )


def test_what_cannot_be_is_refused_in_one_line(people_index, monkeypatch, capsys):
    line = ["serve", str(people_index), "--mcp-stdio", "--generator-name-or-path", "g"]
    assert run(app, [*line, "--port", "9000"]) == 2
    assert "--port has no effect with --mcp-stdio" in capsys.readouterr().err
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "dalm.serving.mcp_tools.find_spec", lambda name: None if name == "mcp" else find(name)
    )
    assert run(app, line) == 2
    assert 'pip install "indomain[mcp]"' in capsys.readouterr().err


def test_without_the_package_the_server_says_what_is_missing(serving, monkeypatch):
    monkeypatch.setattr("dalm.serving.mcp_tools.find_spec", lambda _: None)
    with serving() as url:
        answer = httpx.post(f"{url}/mcp", json={})
    assert answer.status_code == 501
    assert 'pip install "indomain[mcp]"' in answer.json()["error"]["message"]
