"""Columns, numbers and names that are unusual spoil no search, no answer and no judgment."""

import json
import shutil
from pathlib import Path

import httpx2 as httpx
import pytest

from dalm.records import Hit, Passage
from tests.serving.conftest import build_index

NAMES = ("Report 10\u202f30.txt", "a\u00a0b.txt", "می\u200cخواهم.txt", "👩\u200d💻.txt")


@pytest.fixture(scope="module")
def client(serving, people_index, tmp_path_factory):
    index = Path(shutil.copytree(people_index, tmp_path_factory.mktemp("odd") / "index"))
    with (
        serving(index, feedback=True, allow_uploads=True) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield client


def add(client, **body):
    text = {"text": "Some words of a text about an otter.", "source": "odd.txt"}
    return client.post("/documents", json=text | body)


def search(client):
    reply = client.post("/search", json={"query": "a text about an otter", "search": "text"})
    assert reply.status_code == 200, reply.text
    return reply.json()["hits"][0]


def ask(client, **more):
    model = client.get("/v1/models").json()["data"][0]["id"]
    message = {"role": "user", "content": "a text about an otter"}
    body = {"model": model, "messages": [message], "search": "text", **more}
    return client.post("/v1/chat/completions", json=body).json()


def test_a_column_takes_the_place_of_no_field_of_a_hit(client):
    columns = {"number": 42, "score": "x", "scores": 3, "ranks": 5, "relevant": False}
    assert add(client, metadata=columns | {"support": "a", "Year": 2024}).status_code == 201
    hit = search(client)
    assert hit["ranks"] == {"text": 1}
    assert isinstance(hit["scores"]["text"], float)
    assert isinstance(hit["score"], float)
    assert hit["Year"] == 2024
    (citation, *_) = ask(client)["citations"]
    assert citation["number"] == 1
    assert "support" not in citation
    where = {"query": "otter", "search": "text", "where": "number = 42"}
    assert len(client.post("/search", json=where).json()["hits"]) == 1


def test_a_number_that_json_does_not_have_is_refused_or_left_out(client):
    body = '{"text": "Words.", "source": "odd.txt", "metadata": {"size": 1e999}}'
    json_type = {"Content-Type": "application/json"}
    reply = client.post("/documents", content=body, headers=json_type)
    assert reply.status_code == 400
    assert "1e999 is too large a number" in reply.json()["error"]["message"]
    hit = Hit(Passage("p", "text", extra={"size": float("inf"), "more": 1.5}), 1.0)
    assert json.dumps(hit.to_dict(), allow_nan=False)
    assert (hit.to_dict().get("size"), hit.to_dict()["more"]) == (None, 1.5)


def test_an_index_with_infinite_numbers_is_searched(serving, tiny_models, tmp_path):
    table = tmp_path / "rows.jsonl"
    table.write_text('{"Passage": "An otter.", "size": 1e999}\n{"Passage": "Owls.", "size": 2.5}\n')
    index = build_index(tmp_path / "index", table, tiny_models.encoder)
    with serving(index) as url, httpx.Client(base_url=url, timeout=60) as client:
        assert search(client)["text"] == "An otter."


@pytest.mark.parametrize("name", NAMES)
def test_names_have_blanks_and_joiners_of_every_kind(client, name):
    assert add(client, source=name, title=name).status_code in (200, 201)
    assert client.delete("/documents", params={"source": name}).status_code == 200
    judgment = {"answer_id": ask(client)["id"], "kind": "answer", "value": 1, "person": name}
    assert client.post("/v1/feedback", json=judgment).status_code == 201


@pytest.mark.parametrize("name", ["a\nb", "a\0b", "a\u2028b", "\u202egpj.exe", "\u2067a"])
def test_names_of_several_lines_or_that_turn_around_are_refused(client, name):
    reply = add(client, source=name)
    assert reply.status_code == 400
    assert "one line" in reply.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["correction", "right_passage"])
def test_a_value_beyond_what_is_stored_is_refused(client, kind):
    judgment = {"answer_id": ask(client)["id"], "person": "p", "kind": kind, "value": 10**30}
    more = {"text": "x"} if kind == "correction" else {"passage_id": ""}
    reply = client.post("/v1/feedback", json=judgment | more)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "value"


def test_how_an_answer_ended_is_kept(client):
    add(client)
    name = ask(client, max_tokens=1)["id"]
    assert client.get(f"/v1/answers/{name}").json()["settings"]["finish_reason"] == "length"
