import threading
from functools import partial

import pytest
import torch
from transformers import AutoTokenizer

from dalm.errors import UserError
from dalm.llm.language_model import Conversation, ModelError
from dalm.llm.local_model import LocalModel, load_local_model
from dalm.llm.pooled_model import PooledModel
from dalm.models.loading import place
from tests.scaling.pickling import Pickling

TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' and strict %}"
    "{{ raise_exception('no system') }}{% endif %}"
    "<{{ message['role'] }}>{{ message['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MESSAGES = [
    {"role": "system", "content": "Ada lives in Ulm."},
    {"role": "user", "content": "Where does Ada live?"},
]


def folder_with(template, tiny_models, tmp_path):
    import shutil

    folder = shutil.copytree(tiny_models.generator, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def model(tiny_models, tmp_path) -> LocalModel:
    return load_local_model(folder_with(TEMPLATE, tiny_models, tmp_path), place("cpu", "fp32"), 6)


def conversation(text: str) -> Conversation:
    return Conversation([{"role": "user", "content": text}])


def replies(model, requests):
    found, failed, order = {}, {}, []

    def on_reply(request, reply):
        number = requests.index(request)
        assert reply.tokens_in == len(model.tokenise(request.messages))
        assert reply.tokens_out <= model.max_new_tokens
        assert reply.seconds >= 0
        found[number] = reply
        order.append(number)

    model.generate(requests, on_reply, lambda r, e: failed.update({requests.index(r): str(e)}))
    return found, failed, order


def test_the_models_own_template_is_used(model):
    text = model.tokenizer.decode(model.tokenise(MESSAGES))
    assert text == "<system>Ada lives in Ulm.<user>Where does Ada live?<assistant>"


def test_a_template_without_system_messages_gets_one_message(tiny_models, tmp_path):
    template = "{% set strict = true %}" + TEMPLATE
    folder = folder_with(template, tiny_models, tmp_path)
    model = load_local_model(folder, place("cpu", "fp32"), 6)
    text = model.tokenizer.decode(model.tokenise(MESSAGES))
    assert text == "<user>Ada lives in Ulm.\n\nWhere does Ada live?<assistant>"


def test_a_model_without_template_is_refused(tiny_models):
    with pytest.raises(UserError, match="has no chat template"):
        load_local_model(str(tiny_models.generator), place("cpu", "fp32"), 6)


TEXTS = ["Ada", "Bela keeps two cats at home in Bern", "Where does Ada live?", "What?"]


def test_a_batch_replies_as_one_by_one_longest_first(model):
    requests = [conversation(text) for text in TEXTS]
    found, failed, order = replies(model, requests)
    lengths = [len(model.tokenise(request.messages)) for request in requests]
    assert order == sorted(order, key=lambda number: -lengths[number])
    assert not failed
    assert len({reply.text for reply in found.values()}) > 1
    for number, request in enumerate(requests):
        single, _, _ = replies(model, [request])
        assert single[0].text == found[number].text


def test_a_prompt_without_room_for_a_reply_fails(model, monkeypatch):
    rows = {"a": [5] * 251, "b": [5] * 250, "c": [5] * 10}
    monkeypatch.setattr(model, "tokenise", lambda messages: rows[messages[0]["content"]])
    found, failed, _ = replies(model, [conversation(text) for text in rows])
    assert failed == {0: "the prompt leaves no room for an answer"}
    assert set(found) == {1, 2}
    assert replies(model, []) == ({}, {}, [])
    with pytest.raises(ModelError, match="no room"):
        list(model.stream(conversation("a").messages))


def test_a_reply_ends_at_the_end_token(model, monkeypatch):
    end = model.generator.frame.end
    row = model.tokenise(MESSAGES)
    out = torch.tensor([[*row, 7, 8, end, 9, end]])
    monkeypatch.setattr(model.generator.model, "generate", lambda **_: out)
    found, _, _ = replies(model, [Conversation(MESSAGES)])
    assert found[0].text == model.tokenizer.decode([7, 8]).strip()
    assert found[0].tokens_out == 2


# Streams


def test_a_stream_joined_is_the_reply(model):
    for text in TEXTS:
        request = conversation(text)
        [reply] = replies(model, [request])[0].values()
        assert "".join(model.stream(request.messages)).strip() == reply.text


def test_a_stream_that_nobody_reads_on_stops(model):
    model.max_new_tokens = 200
    before = threading.active_count()
    stream = model.stream(MESSAGES)
    assert next(stream)
    assert threading.active_count() == before + 1
    stream.close()
    assert threading.active_count() == before


def test_an_error_in_a_stream_is_raised_where_it_is_read(model, monkeypatch):
    def fail(**_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.generator.model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        list(model.stream(MESSAGES))


def test_the_identity_is_of_weights_and_template(model):
    def identity() -> str:
        return LocalModel(model.generator, model.name, 6).identity

    before = identity()
    assert identity() == before
    with torch.no_grad():
        next(model.generator.model.parameters()).view(-1)[0] += 1
    after = identity()
    assert after != before
    model.tokenizer.chat_template += " "
    assert identity() not in (before, after)


def test_in_a_pool_the_replies_are_the_same_and_the_model_is_compared(model, monkeypatch):
    monkeypatch.setattr("dalm.llm.local_model.MAX_BATCH", 2)
    load = partial(load_local_model, model.name, place("cpu", "fp32"), 6)
    names = ("Ada", "Bela", "Cyrus", "Dora", "Egon")
    requests = [conversation(f"Where does {name} live?") for name in names]
    requests.insert(1, conversation("Ada " * 400))
    pooled = PooledModel(model, Pickling(), load)
    found, failed, _ = replies(model, requests)
    again, failed_again = replies_of(pooled, requests)
    assert {n: (r.text, r.tokens_in, r.tokens_out) for n, r in found.items()} == again
    assert failed == failed_again
    assert failed[1] == "the prompt leaves no room for an answer"
    assert (pooled.identity, pooled.parameters) == (model.identity, model.parameters)
    model.identity = "another"
    with pytest.raises(UserError, match="another model is under the same name"):
        replies_of(PooledModel(model, Pickling(), load), requests)


def replies_of(model, requests):
    found, failed = {}, {}

    def on_reply(request, reply):
        found[requests.index(request)] = reply.text, reply.tokens_in, reply.tokens_out

    model.generate(requests, on_reply, lambda r, e: failed.update({requests.index(r): str(e)}))
    return found, failed
