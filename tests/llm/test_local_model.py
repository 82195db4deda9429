import pytest
import torch
from transformers import AutoTokenizer

from dalm.errors import UserError
from dalm.llm.local_model import ChatModel, load_chat
from dalm.models.loading import place

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
def chat(tiny_models, tmp_path) -> ChatModel:
    return load_chat(folder_with(TEMPLATE, tiny_models, tmp_path), place("cpu", "fp32"))


def answers(chat, rows, tokens=6):
    found, too_long, order = {}, [], []

    def answered(row, text, tokens_in, tokens_out, seconds):
        assert tokens_in == len(rows[row])
        assert tokens_out <= tokens
        assert seconds >= 0
        found[row] = text
        order.append(row)

    chat.answer(rows, tokens, answered, too_long.append)
    return found, too_long, order


def test_the_models_own_template_is_used(chat):
    text = chat.tokenizer.decode(chat.tokenise(MESSAGES))
    assert text == "<system>Ada lives in Ulm.<user>Where does Ada live?<assistant>"


def test_a_template_without_system_messages_gets_one_message(tiny_models, tmp_path):
    template = "{% set strict = true %}" + TEMPLATE
    chat = load_chat(folder_with(template, tiny_models, tmp_path), place("cpu", "fp32"))
    text = chat.tokenizer.decode(chat.tokenise(MESSAGES))
    assert text == "<user>Ada lives in Ulm.\n\nWhere does Ada live?<assistant>"


def test_a_model_without_template_is_refused(tiny_models):
    with pytest.raises(UserError, match="has no chat template"):
        load_chat(str(tiny_models.generator), place("cpu", "fp32"))


def test_a_batch_answers_as_one_by_one_longest_first(chat):
    texts = ["Ada", "Bela keeps two cats at home in Bern", "Where does Ada live?", "What?"]
    rows = [chat.tokenise([{"role": "user", "content": text}]) for text in texts]
    found, too_long, order = answers(chat, rows)
    assert order == sorted(order, key=lambda row: -len(rows[row]))
    assert not too_long
    assert len(set(found.values())) > 1
    for place_, row in enumerate(rows):
        alone, _, _ = answers(chat, [row])
        assert alone[0] == found[place_]


def test_a_prompt_without_room_for_an_answer_is_left_out(chat):
    rows = [[5] * 251, [5] * 250, [5] * 10]
    found, too_long, _ = answers(chat, rows)
    assert too_long == [0]
    assert set(found) == {1, 2}
    assert answers(chat, []) == ({}, [], [])


def test_an_answer_ends_at_the_end_token(chat, monkeypatch):
    end = chat.generator.frame.end
    row = chat.tokenise(MESSAGES)
    out = torch.tensor([[*row, 7, 8, end, 9, end]])
    monkeypatch.setattr(chat.generator.model, "generate", lambda **_: out)
    seen = []
    chat.answer([row], 5, lambda *reply: seen.append(reply), seen.append)
    assert seen[0][1] == chat.tokenizer.decode([7, 8]).strip()
    assert seen[0][3] == 2


def test_the_fingerprint_is_that_of_weights_and_template(chat, tiny_models, tmp_path):
    before = chat.fingerprint()
    assert chat.fingerprint() == before
    with torch.no_grad():
        next(chat.generator.model.parameters()).view(-1)[0] += 1
    after = chat.fingerprint()
    assert after != before
    chat.tokenizer.chat_template += " "
    assert chat.fingerprint() not in (before, after)
