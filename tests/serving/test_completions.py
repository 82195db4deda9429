"""Chat completions and completions, through the clients that people use."""

import json
import subprocess

import openai
import pytest

CHAT = "/v1/chat/completions"
ADA = [{"role": "user", "content": "Where does Ada live?"}]


@pytest.fixture(scope="module")
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def asked(http, **fields):
    return http.post(CHAT, json={"model": "generator", "messages": ADA} | fields)


def events_of(response):
    lines = [line for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_an_answer_comes_with_its_passages_and_tokens(client):
    answer = client.chat.completions.create(model="generator", messages=ADA)
    [choice] = answer.choices
    assert (choice.message.role, choice.finish_reason) == ("assistant", "length")
    assert answer.usage.completion_tokens == 6
    assert answer.usage.prompt_tokens > 10
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6
    cited = answer.model_extra["citations"]
    assert [each["number"] for each in cited] == [1, 2]
    assert {"source", "page", "text", "score"} <= set(cited[0])


def test_a_streamed_answer_is_the_whole_one(client):
    whole = client.chat.completions.create(model="generator", messages=ADA)
    chunks = list(
        client.chat.completions.create(
            model="generator", messages=ADA, stream=True, stream_options={"include_usage": True}
        )
    )
    *pieces, last, usage = chunks
    assert pieces[0].choices[0].delta.role == "assistant"
    text = "".join(each.choices[0].delta.content or "" for each in pieces)
    assert text.strip() == whole.choices[0].message.content
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert usage.choices == []
    assert usage.usage == whole.usage
    assert chunks[0].model_extra["citations"] == whole.model_extra["citations"]


def test_completions_answer_one_or_several_prompts(client):
    prompts = ["Where does Ada live?", "What does Bela keep?"]
    both = client.completions.create(model="generator", prompt=prompts)
    assert [each.index for each in both.choices] == [0, 1]
    alone = client.completions.create(model="generator", prompt=prompts[1])
    assert alone.choices[0].text == both.choices[1].text
    streamed = client.completions.create(model="generator", prompt=prompts[1], stream=True)
    assert "".join(each.choices[0].text for each in streamed).strip() == alone.choices[0].text


def test_curl_streams(url):
    body = json.dumps({"model": "generator", "messages": ADA, "stream": True})
    line = ["curl", "-sN", f"{url}{CHAT}", "-H", "Content-Type: application/json", "-d", body]
    shown = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    assert shown.endswith("data: [DONE]\n\n")


def test_length_and_stop_are_honoured(http):
    long = asked(http, max_tokens=12).json()
    assert long["usage"]["completion_tokens"] == 12
    text = long["choices"][0]["message"]["content"]
    assert asked(http, max_completion_tokens=12).json()["choices"] == long["choices"]
    stop = text[4:7]
    stopped = asked(http, max_tokens=12, stop=stop).json()["choices"][0]
    assert stopped["finish_reason"] == "stop"
    assert stopped["message"]["content"] == text[: text.index(stop)].strip()
    pieces = events_of(asked(http, max_tokens=12, stop=["nothing", stop], stream=True))
    streamed = "".join(each["choices"][0]["delta"].get("content", "") for each in pieces)
    assert streamed == text[: text.index(stop)]


def test_a_seed_repeats_what_is_drawn(http):
    def drawn(seed):
        answer = asked(http, temperature=1.5, seed=seed, max_tokens=12).json()
        return answer["choices"][0]["message"]["content"]

    assert drawn(1) == drawn(1)
    assert len({drawn(seed) for seed in range(5)}) > 1
    narrow = asked(http, temperature=1.5, top_p=0.0, seed=3).json()["choices"]
    assert narrow == asked(http).json()["choices"]  # the most likely token is left alone


def test_a_conversation_is_searched_with_what_it_refers_to(http):
    history = [
        {"role": "user", "content": "Where does Ada live?"},
        {"role": "assistant", "content": "in Ulm"},
        {"role": "user", "content": [{"type": "text", "text": "and Cyrus?"}]},
    ]
    answer = asked(http, messages=history).json()
    assert answer["searched"] == "Where does Ada live? and Cyrus?"


def test_a_system_message_is_read_before_the_prompt(http):
    system = {"role": "system", "content": "Ada lives in Ulm. Bela keeps two cats."}
    plain, told = asked(http).json(), asked(http, messages=[system, *ADA]).json()
    assert told["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


def test_a_condition_and_a_number_of_passages_are_honoured(http):
    answer = asked(http, where="page = 9", reader_passages=3).json()
    assert [each["page"] for each in answer["citations"]] == [9]
    refused = asked(http, where="nosuch = 1")
    assert refused.json()["error"]["param"] == "where"
    none = asked(http, where="page = 77").json()
    assert none["citations"] == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"5": 1}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"top_k": 5}, "top_k"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 2.5}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_tokens"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": "Ada?"}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages"),
        ({"messages": [*ADA, {"role": "assistant", "content": "in Ulm"}]}, "messages"),
        ({"max_tokens": 250}, "messages"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(http, fields, param):
    refused = asked(http, **fields)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_an_answer_that_leaves_a_question_no_room_is_refused_with_the_lengths(http):
    error = asked(http, max_tokens=9999).json()["error"]
    assert "no room for an answer of 9999 tokens within 256; shorten it" in error["message"]
    assert error["code"] == "context_length_exceeded"


def test_values_that_change_nothing_are_accepted(http):
    same = {
        "n": 1,
        "tools": [],
        "logit_bias": {},
        "user": "me",
        "presence_penalty": 0,
        "stop": None,
    }
    assert asked(http, **same).json()["choices"] == asked(http).json()["choices"]


def test_another_model_is_named_with_those_there_are(client):
    with pytest.raises(openai.NotFoundError, match="there is generator") as refused:
        client.chat.completions.create(model="gpt-9", messages=ADA)
    assert refused.value.code == "model_not_found"


def test_a_question_longer_than_the_retriever_reads_is_told(http):
    long = "Where does Ada live? " * 40
    messages = [{"role": "user", "content": "Where is Ada? " * 14}]
    assert asked(http).json()["query_cut_at"] is None
    assert asked(http, messages=messages).json()["query_cut_at"] == 50
    events = events_of(asked(http, messages=messages, stream=True))
    assert [each["query_cut_at"] for each in events] == [50] * len(events)
    assert asked(http, messages=messages, search="text").json()["query_cut_at"] is None
    both = {"model": "generator", "prompt": ["Where is Ada?", messages[0]["content"]]}
    assert http.post("/v1/completions", json=both).json()["query_cut_at"] == [None, 50]
    for mode, cut in (("hybrid", 50), ("dense", 50), ("text", None)):
        found = http.post("/search", json={"query": long, "search": mode}).json()
        assert found["query_cut_at"] == cut
        assert found["hits"]
