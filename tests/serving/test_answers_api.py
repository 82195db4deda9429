"""What is kept of an answer, and where its passages support it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2 as httpx
import pytest

from dalm.serving.kept_answers import IN_MEMORY, KeptAnswers
from dalm.user_feedback.judgments import AnswerRecord
from tests.llm.stub_server import serving as stub_serving

ANSWER = "Ada lives in Ulm. [1] Nobody else does."


@pytest.fixture(scope="module")
def generator() -> Iterator[Any]:
    with stub_serving() as stub:
        stub.write = lambda _: ANSWER
        yield stub


@pytest.fixture(scope="module")
def http(serving, generator) -> Iterator[httpx.Client]:
    options = {"generator_url": generator.url, "generator_model": "stub", "citations": True}
    with serving(**options) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def ask(http: httpx.Client, **more: Any) -> httpx.Response:
    messages = [{"role": "user", "content": "Where does Ada live?"}]
    return http.post("/v1/chat/completions", json={"model": "stub", "messages": messages, **more})


def supports(citations: list[dict[str, Any]]) -> dict[str, list[list[int]]]:
    return {each["text"]: each["support"] for each in citations if "support" in each}


def test_everything_kept_of_an_answer_is_told(http, generator):
    reply = ask(http, temperature=0.5, seed=3, where="source = 'people.pdf'").json()
    assert (reply["not_found"], reply["generation"]) == (False, 1)
    answer = http.get(f"/v1/answers/{reply['id']}")
    assert answer.headers["cache-control"] == "no-store"
    found = answer.json()
    assert found["prompt"] == generator.prompts()[-1]
    assert "Where does Ada live?" in found["prompt"]
    assert found["answer"] == ANSWER
    assert found["question"] == found["searched"] == "Where does Ada live?"
    assert (found["generation"], found["not_found"], found["stopped"]) == (1, False, False)
    assert found["settings"]["where"] == "source = 'people.pdf'"
    assert found["settings"]["sampling"]["seed"] == 3
    assert found["settings"]["reader_passages"] == 2
    assert (found["settings"]["max_new_tokens"], found["settings"]["dense_weight"]) == (6, 0.5)
    assert found["models"] == {"retriever": "encoder", "generator": "stub", "reranker": None}
    assert found["hits"] == reply["citations"]


def test_a_citation_tells_ranks_and_at_the_end_what_supports_the_answer(http):
    whole = ask(http).json()
    assert supports(whole["citations"]) == {"Ada lives in Ulm.": [[0, 16]]}
    first = whole["citations"][0]
    assert first["ranks"].keys() == first["scores"].keys()
    assert first["ranks"]["fused"] == 1
    lines = [line[6:] for line in ask(http, stream=True).text.splitlines() if line[:5] == "data:"]
    chunks = [json.loads(line) for line in lines[:-1]]
    assert all(not supports(each["citations"]) for each in chunks[:-1])
    assert supports(chunks[-1]["citations"]) == {"Ada lives in Ulm.": [[0, 16]]}
    assert all(each["generation"] == 1 for each in chunks)


def test_what_is_not_found_is_told_and_supported_by_nothing(http):
    reply = ask(http, where="source = 'nowhere'").json()
    assert reply["not_found"] is True
    found = http.get(f"/v1/answers/{reply['id']}").json()
    assert (found["not_found"], found["prompt"], found["hits"]) == (True, "", [])


@pytest.mark.parametrize("name", ["chatcmpl-0", "x" * 300, "%00", "%ff", "a'b"])
def test_an_answer_that_is_not_kept_is_not_found(http, name):
    missing = http.get(f"/v1/answers/{name}")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


def test_of_several_prompts_each_has_an_answer_of_its_own(http):
    reply = http.post("/v1/completions", json={"model": "stub", "prompt": ["Who?", "Why?"]}).json()
    assert (reply["not_found"], reply["generation"]) == ([False, False], [1, 1])
    kept = [http.get(f"/v1/answers/{reply['id']}-{place}").json() for place in range(2)]
    assert [each["question"] for each in kept] == ["Who?", "Why?"]


def test_without_a_store_only_the_newest_are_kept():
    kept = KeptAnswers()
    for place in range(IN_MEMORY + 1):
        kept.keep(AnswerRecord(id=f"{place}", question="q", searched="q", answer="", generation=1))
    assert kept.answer("0") is None
    assert kept.answer("1") is not None
    assert kept.answer(f"{IN_MEMORY}") is not None


def test_questions_are_in_no_log(http, caplog):
    caplog.set_level("INFO")
    name = ask(http).json()["id"]
    http.get(f"/v1/answers/{name}")
    lines = [r.getMessage() for r in caplog.records if r.name.endswith("request_log")]
    assert len(lines) == 2
    assert not any("Ada" in line or name in line for line in lines)
