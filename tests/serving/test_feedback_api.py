"""Answers that a server keeps, and judgments of them over HTTP."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, ComparisonRecord
from tests.llm.stub_server import serving as stub_serving

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def index(people_index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(people_index, tmp_path_factory.mktemp("feedback") / "index"))


@pytest.fixture(scope="module")
def client(
    serving: Callable[..., AbstractContextManager[str]], index: Path
) -> Iterator[httpx.Client]:
    with serving(index, feedback=True) as url, httpx.Client(base_url=url, timeout=30) as client:
        yield client


def ask(client: httpx.Client, question: str = "Who wrote it?", **more: Any) -> dict[str, Any]:
    model = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": question}], **more}
    reply = client.post(CHAT, json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def judge(client: httpx.Client, **body: Any) -> httpx.Response:
    return client.post("/v1/feedback", json={"person": "ada", **body})


def kept(index: Path, name: str) -> AnswerRecord:
    with FeedbackStore.open(index, create=False) as store:
        record = store.answer(name)
    assert record is not None
    return record


def test_an_answer_is_kept_as_it_was_given(client: httpx.Client, index: Path) -> None:
    reply = ask(client, "Who is Ada?", search="text", reader_passages=1)
    record = kept(index, reply["id"])
    assert record.question == record.searched == "Who is Ada?"
    assert record.answer == reply["choices"][0]["message"]["content"]
    assert record.generation == 1
    assert not record.stopped
    assert [hit["id"] for hit in record.hits] == [each["id"] for each in reply["citations"]]
    assert record.hits[0]["text"] in record.prompt
    assert record.prompt.count("Who is Ada?") == 1
    assert record.settings["search"] == "text"
    assert record.settings["reader_passages"] == 1
    assert record.models["generator"] == reply["model"]


def test_a_stream_is_kept_before_its_end_is_told(client: httpx.Client, index: Path) -> None:
    model = client.get("/v1/models").json()["data"][0]["id"]
    body = {"model": model, "messages": [{"role": "user", "content": "Who?"}], "stream": True}
    with client.stream("POST", CHAT, json=body) as reply:
        for line in reply.iter_lines():
            if '"finish_reason": "' in line:
                name = line.partition('"id": "')[2].partition('"')[0]
                assert not kept(index, name).stopped
                break
        else:
            pytest.fail("the stream told no end")


def test_an_answer_that_breaks_off_is_kept_and_marked(serving: Any, index: Path) -> None:
    with stub_serving() as stub:
        stub.plan.append("break_off")
        stub.write = lambda _: "Ada wrote it, and"
        options = {"generator_url": stub.url, "generator_model": "m", "feedback": True}
        with serving(index, **options) as url:
            body = {"model": "m", "messages": [{"role": "user", "content": "Who?"}], "stream": True}
            told = httpx.post(url + CHAT, json=body, timeout=30).text
    assert '"error"' in told
    name = told.partition('"id": "')[2].partition('"')[0]
    record = kept(index, name)
    assert record.stopped
    assert record.answer == "Ada wrote it, and"


def test_several_prompts_are_several_answers(client: httpx.Client, index: Path) -> None:
    model = client.get("/v1/models").json()["data"][0]["id"]
    reply = client.post("/v1/completions", json={"model": model, "prompt": ["One?", "Two?"]}).json()
    assert [kept(index, f"{reply['id']}-{n}").question for n in (0, 1)] == ["One?", "Two?"]


def test_judgments_are_taken(client: httpx.Client, index: Path) -> None:
    reply = ask(client)
    passage = reply["citations"][0]["id"]
    given: list[dict[str, Any]] = [
        {"kind": "answer", "value": -1},
        {"kind": "passage", "passage_id": passage, "value": 1},
        {"kind": "right_passage", "passage_id": passage},
        {"kind": "correction", "text": "Ada wrote it."},
        {"kind": "answer", "value": 0},
    ]
    for body in given:
        answer = judge(client, answer_id=reply["id"], **body)
        assert answer.status_code == 201, answer.text
    with FeedbackStore.open(index) as store:
        found = store.judgments(reply["id"])
    assert [(each.kind, each.value or each.passage_id or each.text) for each in found] == [
        ("answer", -1),
        ("passage", 1),
        ("right_passage", passage),
        ("correction", "Ada wrote it."),
        ("answer", None),
    ]
    assert answer.json()["id"] == found[-1].id


def test_a_right_passage_may_be_one_that_was_not_read(client: httpx.Client) -> None:
    reply = ask(client, reader_passages=1)
    everything = client.post("/search", json={"query": "Ada", "top_k": 10}).json()["hits"]
    other = next(h["id"] for h in everything if h["id"] != reply["citations"][0]["id"])
    right = judge(client, answer_id=reply["id"], kind="right_passage", passage_id=other)
    assert right.status_code == 201
    rated = judge(client, answer_id=reply["id"], kind="passage", passage_id=other, value=1)
    assert rated.status_code == 400
    missing = judge(client, answer_id=reply["id"], kind="right_passage", passage_id="f" * 16)
    assert missing.status_code == 404


def test_a_vote_tells_which_side_was_tuned(client: httpx.Client, index: Path) -> None:
    with FeedbackStore.open(index) as store:
        store.keep_comparison(
            ComparisonRecord(id="compare-1", question="Who?", tuned="b", generation=1)
        )
    vote = judge(client, answer_id="compare-1", kind="comparison", value="a")
    assert vote.status_code == 201
    assert vote.json()["tuned"] == "b"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "kind"),
        ({"kind": "stars", "value": 5}, "kind"),
        ({"kind": "answer"}, "value"),
        ({"kind": "answer", "value": True}, "value"),
        ({"kind": "answer", "value": 3}, "value"),
        ({"kind": "answer", "value": [1]}, "value"),
        ({"kind": "passage", "value": 1}, "passage_id"),
        ({"kind": "correction"}, "text"),
        ({"kind": "answer", "value": 1, "person": " "}, "person"),
        ({"kind": "answer", "value": 1, "person": "two\nlines"}, "person"),
        ({"kind": "answer", "value": 1, "stars": 5}, "stars"),
    ],
)
def test_what_is_no_judgment_is_refused(
    client: httpx.Client, body: dict[str, Any], param: str
) -> None:
    reply = judge(client, answer_id="x", **body)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == param


def test_a_judgment_of_nothing_is_refused(client: httpx.Client) -> None:
    reply = judge(client, answer_id="chatcmpl-none", kind="answer", value=1)
    assert reply.status_code == 404


def test_without_the_option_nothing_is_kept(http: httpx.Client, people_index: Path) -> None:
    reply = ask(http)
    refused = judge(http, answer_id=reply["id"], kind="answer", value=1)
    assert refused.status_code == 403
    assert "--feedback" in refused.json()["error"]["message"]
    assert not list(people_index.glob("feedback*"))
