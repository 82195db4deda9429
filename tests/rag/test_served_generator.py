from collections.abc import Iterator

import pytest

from dalm.config.evaluation import ServedGeneratorOptions
from dalm.errors import UserError
from dalm.llm.chat_completions import Endpoint
from dalm.llm.openai_client import OpenAIClient
from dalm.llm.sampling import Outcome
from dalm.rag.pipeline import SERVER, ServedGenerator, served_model_of
from dalm.records import Answer, Hit, Passage
from tests.llm.stub_server import Stub, serving

ULM, BERN = (
    Hit(Passage.of(f"Ada lives in {town}."), score) for town, score in (("Ulm", 1), ("Bern", 0))
)
PARAMETERS = {"temperature": 0.0, "max_tokens": 12, "seed": 0}


@pytest.fixture
def stub() -> Iterator[Stub]:
    with serving() as served:
        served.write = lambda asked: f"<think>hm</think> {asked} "
        yield served


@pytest.fixture
def generator(stub, tmp_path):
    def made(**options) -> ServedGenerator:
        url = f"{stub.url}/chat/completions"
        endpoint = Endpoint(url, "m", max_retries=0, options=SERVER)
        model = OpenAIClient(endpoint, PARAMETERS, 2)
        return ServedGenerator(model, message, tmp_path / "generator.jsonl", **options)

    return made


def message(query, passages) -> str:
    return " | ".join([*passages, query])


def test_answers_come_in_order_from_the_prompt_that_a_local_generator_reads(generator, stub):
    answers = generator().answer(["Where?", "Who?", "Why?"], [[ULM, BERN], [BERN], []])
    assert answers == [
        Answer("Where?", "Ada lives in Ulm. | Where?", (ULM,)),
        Answer("Who?", "Ada lives in Bern. | Who?", (BERN,)),
        Answer("Why?", "Why?", ()),
    ]
    for body in stub.bodies:
        assert [each["role"] for each in body["messages"]] == ["user"]
        assert {name: body[name] for name in PARAMETERS} == PARAMETERS
        assert "response_format" not in body


def test_several_passages_are_numbered_for_citations(generator):
    [answer] = generator(reader_passages=2, cites=True).answer(["Where?"], [[ULM, BERN]])
    assert answer.text == "[1] Ada lives in Ulm. | [2] Ada lives in Bern. | Where?"
    assert answer.hits == (ULM, BERN)


def test_no_prompt_is_sent_twice(generator, stub):
    first = generator().answer(["Where?", "Where?"], [[ULM], [ULM]])
    assert len(stub.bodies) == 1
    assert generator().answer(["Where?", "Where?"], [[ULM], [ULM]]) == first
    assert len(stub.bodies) == 1
    assert generator().answer([], []) == []


def test_a_question_without_an_answer_ends_the_run_and_keeps_the_others(generator, stub):
    stub.plan.extend(["", "too_long", ""])
    queries, hits = ["Where?", "Who?", "When?"], [[ULM]] * 3
    with pytest.raises(UserError, match="1 of 3 questions have no answer"):
        generator().answer(queries, hits)
    assert [answer.query for answer in generator().answer(queries, hits)] == queries
    assert len(stub.bodies) == 4


def test_the_options_name_the_server(stub, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-1")
    options = ServedGeneratorOptions(
        generator_url=stub.url, generator_model="m", generator_api_key_env="MY_KEY"
    )
    model = served_model_of(options, 12)
    assert (model.name, model.parameters, model.endpoint.api_key) == ("m", PARAMETERS, "sk-1")
    with pytest.raises(UserError, match="--generator-url needs --generator-model"):
        served_model_of(ServedGeneratorOptions(generator_url=stub.url), 12)
    stub.plan.append("no_key")
    with pytest.raises(UserError, match="--generator-api-key-env names the variable"):
        list(model.stream([{"role": "user", "content": "hello"}]))


# Reasoning in a stream


def test_a_stream_leaves_reasoning_out(generator):
    pieces = generator().stream("Where?", [ULM], Outcome())
    assert "".join(pieces).strip() == "Ada lives in Ulm. | Where?"


def test_reasoning_without_an_opening_mark_is_left_out_once_it_is_known(generator, stub, caplog):
    stub.write = lambda asked: f"Let me see what they ask.\n</think>\n{asked}"
    reader = generator()
    assert "</think>" in "".join(reader.stream("Where?", [ULM], Outcome()))
    assert "reasons before it answers, without an opening mark" in caplog.text
    for _ in range(2):
        assert "".join(reader.stream("Where?", [ULM], Outcome())) == "Ada lives in Ulm. | Where?"
    stub.write = lambda asked: "In Ulm."
    assert "".join(reader.stream("Where?", [ULM], Outcome())) == "In Ulm."


def test_a_stream_of_reasoning_alone_names_the_limit(generator, stub):
    stub.write = lambda asked: "<think>Let me see what they ask"
    with pytest.raises(UserError, match=r"12 tokens, while .* reasoning; raise --max-new-tokens"):
        list(generator().stream("Where?", [ULM], Outcome()))
