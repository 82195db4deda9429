"""A changed index is served without a restart; one that can't be leaves the old one."""

import json
import shutil
import time

import httpx2 as httpx
import pytest

from tests.serving.conftest import dalm


def served_generation(url):
    return httpx.get(f"{url}/ready").json()["generation"]


def until(url, holds):
    limit = time.monotonic() + 15
    while not holds(state := httpx.get(f"{url}/ready").json()):
        assert time.monotonic() < limit, state
        time.sleep(0.05)


@pytest.fixture
def index(people_index, tmp_path):
    return shutil.copytree(people_index, tmp_path / "index")


def found(url, query):
    hits = httpx.post(f"{url}/search", json={"query": query, "search": "text"}).json()["hits"]
    return [hit["text"] for hit in hits]


def test_updates_rebuilds_and_rollbacks_are_served(index, people, tiny_models, tmp_path, serving):
    table = tmp_path / "more.jsonl"
    row = {"Passage": "Dora lives in Linz."}
    table.write_text(people.read_text() + json.dumps(row) + "\n")
    with serving(index) as url:
        assert found(url, "Dora") == []
        assert dalm("index", table, "--index-dir", index) == 0
        assert found(url, "Dora") == ["Dora lives in Linz."]
        rebuilt = ["index", people, "--index-dir", index, "--rebuild"]
        line = [*rebuilt, "--retriever-name-or-path", tiny_models.encoder]
        assert dalm(*line, "--query-prompt", "where ") == 0
        until(url, lambda state: state["generation"] == 2)
        assert found(url, "Dora") == []
        body = {"model": "encoder", "input": "Ada"}
        assert httpx.post(f"{url}/v1/embeddings", json=body).status_code == 400  # it has two sides
        assert dalm("index", "--index-dir", index, "--rollback") == 0
        until(url, lambda state: state["generation"] == 1)
        assert found(url, "Dora") == ["Dora lives in Linz."]


def test_a_retriever_that_is_gone_leaves_the_old_generation(
    index, people, tiny_models, tmp_path, serving, caplog
):
    other = shutil.copytree(tiny_models.encoder, tmp_path / "other")
    with serving(index) as url:
        rebuilt = ["index", people, "--index-dir", index, "--rebuild", "--query-prompt", "where "]
        pointer = index / "index.json"
        before = pointer.read_text()
        assert dalm(*rebuilt, "--retriever-name-or-path", other) == 0
        new = pointer.read_text()
        pointer.write_text(before)
        shutil.rmtree(other)
        until(url, lambda state: state["generation"] == 1 and "problem" not in state)
        pointer.write_text(new)
        until(url, lambda state: "problem" in state)
        assert served_generation(url) == 1
        assert found(url, "Ada") == ["Ada lives in Ulm."]
        pointer.write_text(before)
        until(url, lambda state: "problem" not in state)
    assert "still served: 1" in caplog.text
