"""Embeddings, rerank and search: the retriever's work."""

import base64

import httpx2 as httpx
import numpy as np
import openai
import pytest

from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.models.retriever import load_retriever
from tests.serving.conftest import build_index

TEXTS = ["Ada lives in Ulm.", "Where does Bela live?"]


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_vectors_are_the_retrievers(client, tiny_models):
    retriever = load_retriever(str(tiny_models.encoder), loading.place("cpu", "fp32"))
    found = client.embeddings.create(model="encoder:query", input=TEXTS)  # as base64, unasked
    vectors = np.array([each.embedding for each in found.data])
    assert vectors == pytest.approx(retriever.encode_queries(TEXTS).numpy(), abs=1e-5)
    floats = client.embeddings.create(model="encoder", input=TEXTS[0], encoding_format="float")
    assert floats.data[0].embedding == pytest.approx(vectors[0].tolist(), abs=1e-5)
    assert found.usage.prompt_tokens > 0


def test_base64_is_little_endian_fp32(http):
    body = {"model": "encoder", "input": TEXTS[0]}
    [coded] = http.post("/v1/embeddings", json=body | {"encoding_format": "base64"}).json()["data"]
    [plain] = http.post("/v1/embeddings", json=body).json()["data"]
    decoded = np.frombuffer(base64.b64decode(coded["embedding"]), "<f4")
    assert decoded.tolist() == plain["embedding"]


def test_fewer_dimensions_are_the_first_ones_at_length_one(client):
    whole = client.embeddings.create(model="encoder", input=TEXTS[0]).data[0].embedding
    short = client.embeddings.create(model="encoder", input=TEXTS[0], dimensions=4)
    first = np.array(whole[:4])
    assert short.data[0].embedding == pytest.approx(first / np.linalg.norm(first), abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({"input": [1, 2, 3]}, 400, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, 400, "check_embedding_ctx_length=False"),
        ({"input": []}, 400, "0 texts"),
        ({"input": ["a", ""]}, 400, "empty text"),
        ({"input": "a", "dimensions": 1000}, 400, "not a whole number from 1 to 16"),
        ({"input": "a", "model": "other"}, 404, "there is encoder"),
        ({"input": "a", "model": "encoder:query", "input_type": "passage"}, 400, "but the model"),
        ({"input": "a", "truncate": "END"}, 400, "truncate is unknown"),
    ],
)
def test_what_cannot_be_embedded_is_refused(http, fields, status, reason):
    refused = http.post("/v1/embeddings", json={"model": "encoder"} | fields)
    assert refused.status_code == status
    assert reason in refused.json()["error"]["message"]


def test_a_retriever_of_two_sides_is_asked_for_one(people, tiny_models, tmp_path, serving):
    folder = build_index(
        tmp_path / "index", people, tiny_models.encoder, "--query-prompt", "where "
    )
    with serving(folder) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        with pytest.raises(openai.BadRequestError, match="name the model encoder:query"):
            client.embeddings.create(model="encoder", input=TEXTS[0])
        query, passage = (
            client.embeddings.create(model="encoder", input="Ulm", extra_body={"input_type": side})
            for side in ("query", "document")
        )
        named = client.embeddings.create(model="encoder:query", input="Ulm")
        assert query.data[0].embedding == named.data[0].embedding
        assert query.data[0].embedding != passage.data[0].embedding


def test_texts_are_ordered_in_the_shapes_of_other_servers(http):
    documents = ["Bela keeps two cats.", {"text": "Ada lives in Ulm."}]
    body = {"model": "encoder", "query": "Ada lives in Ulm.", "documents": documents, "top_n": 1}
    [best] = http.post("/v1/rerank", json=body | {"return_documents": True}).json()["results"]
    assert best["document"] == {"text": "Ada lives in Ulm."}
    assert best["relevance_score"] == pytest.approx(1.0, abs=1e-5)
    texts = {"query": "Ada lives in Ulm.", "texts": ["Bela keeps two cats.", "Ada lives in Ulm."]}
    ranked = http.post("/rerank", json=texts).json()
    assert [each["index"] for each in ranked] == [1, 0]


def test_a_reranker_orders_searches_and_texts(serving, tiny_models):
    reranker = load_reranker(str(tiny_models.reranker), loading.place("cpu", "fp32"))
    query, texts = "Where does Ada live?", ["Ada lives in Ulm.", "Bela keeps two cats."]
    scores = reranker.score(query, texts)
    with (
        serving(reranker=str(tiny_models.reranker)) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        ranked = http.post("/v1/rerank", json={"query": query, "documents": texts}).json()
        assert ranked["model"] == "reranker"
        found = {each["index"]: each["relevance_score"] for each in ranked["results"]}
        assert [found[0], found[1]] == pytest.approx(scores, abs=1e-6)
        assert [each["index"] for each in ranked["results"]] == sorted(
            found, key=lambda i: -found[i]
        )
        hits = http.post("/search", json={"query": query, "top_k": 3}).json()["hits"]
        assert [hit["score"] for hit in hits] == sorted((h["score"] for h in hits), reverse=True)
        assert all(
            {"dense", "text", "fused", "reranked"} == hit["scores"].keys() == hit["ranks"].keys()
            for hit in hits
            if "Ada" in hit["text"]
        )
        assert [hit["ranks"]["reranked"] for hit in hits] == [1, 2, 3]
        assert {hit["ranks"]["fused"] for hit in hits} == {1, 2, 3}
        by_text = {hit["text"]: hit["scores"]["reranked"] for hit in hits}
        assert [by_text[text] for text in texts] == pytest.approx(scores, abs=1e-6)
        assert "reranker" in [model["id"] for model in http.get("/v1/models").json()["data"]]
        asked = http.post("/v1/rerank", json={"model": "encoder", "query": "x", "documents": ["y"]})
        assert asked.status_code == 404


def test_a_search_gives_hits_with_their_source(http):
    found = http.post("/search", json={"query": "Ada", "search": "text", "top_k": 2}).json()
    assert found["hits"][0]["text"] == "Ada lives in Ulm."
    assert (found["hits"][0]["source"], found["hits"][0]["page"]) == ("people.pdf", 1)
    where = http.post("/search", json={"query": "lives", "where": "page > 5"}).json()
    assert [hit["page"] for hit in where["hits"]] == [9]


def test_models_are_listed(client):
    names = [model.id for model in client.models.list()]
    assert names == ["generator", "encoder", "encoder:query", "encoder:passage"]
    assert client.models.retrieve("encoder:query").id == "encoder:query"
