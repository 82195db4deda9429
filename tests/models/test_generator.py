import json
import logging
import shutil
from dataclasses import asdict
from itertools import chain

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
)

from dalm.errors import UserError
from dalm.models import generator as module
from dalm.models import loading
from dalm.models.batching import pad
from dalm.models.generator import Generator, load_generator
from dalm.prompts import CITE, DEFAULT, PromptTemplate

CPU = loading.place("cpu", "fp32")
PASSAGES = ["Ada lives in Ulm.", "Bela lives in Bern. At home Bela keeps two cats.", "Graz"]
QUERIES = ["Where does Ada live?", "What does Bela keep?", "Where?"]
ANSWERS = ["in Ulm", "two cats", "Graz"]
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

SIZE = {
    "vocab_size": 320,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "max_position_embeddings": 256,
    # Weights that are large for so small a model: logits far from 0, where a soft cap bites.
    "initializer_range": 0.4,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZE),
    "gpt2": lambda: GPT2Config(
        **{"vocab_size": 320, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 256},
        **{"initializer_range": 0.4, "bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
    ),
    "gemma2": lambda: Gemma2Config(
        **SIZE, head_dim=8, final_logit_softcapping=2.0, query_pre_attn_scalar=8
    ),
    "granite": lambda: GraniteConfig(**SIZE, logits_scaling=4.0, embedding_multiplier=3.0),
    "cohere": lambda: CohereConfig(**SIZE, logit_scale=0.25),
}
ROTARY = [name for name in CONFIGS if name != "gpt2"]


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    return AutoTokenizer.from_pretrained(tiny_models.generator)


@pytest.fixture(scope="module")
def build(tokenizer):
    """Return a function that makes a generator of a family, the same one each time."""

    def build(family: str, tokenizer=tokenizer, max_length: int = 200) -> Generator:
        config = CONFIGS[family]()
        config.vocab_size = max(config.vocab_size, len(tokenizer))
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
        return Generator(model.eval(), tokenizer, CPU, max_length)

    return build


def with_lora(generator: Generator, targets=None) -> Generator:
    """Add adapters whose weights are not those of the start."""
    generator.add_lora(
        loading.lora(rank=2, alpha=4, dropout=0.0, targets=targets, task="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return generator.eval()


def prompts(generator: Generator, answers=ANSWERS):
    """Put together a prompt for each question; without answers where `answers` is None."""
    passages = generator.tokenise_passages(PASSAGES)
    queries = generator.tokenise_queries(QUERIES)
    written = [None] * 3 if answers is None else generator.tokenise_answers(answers)
    return [
        generator.frame.join([passage.tolist()], query.tolist(), answer, generator.max_length)
        for passage, query, answer in zip(passages, queries, written, strict=True)
    ]


def padded(asked, *, left=False):
    """Return ids, mask, and where the answers' tokens are."""
    ids, mask = pad([prompt.tokens for prompt in asked], 0, left=left)
    own = [prompt.length - prompt.answer_start for prompt in asked]
    ends = [ids.shape[1] if left else prompt.length for prompt in asked]
    columns = torch.arange(ids.shape[1])
    scored = torch.stack(
        [(columns >= e - n) & (columns < e) for e, n in zip(ends, own, strict=True)]
    )
    return ids, mask, scored


def reference(generator: Generator, asked):
    """Return the answers' log-probabilities by the whole model, prompt by prompt."""
    found = []
    for prompt in asked:
        ids = torch.tensor([prompt.tokens])
        with torch.no_grad():
            scores = generator.model(input_ids=ids).logits.float().log_softmax(-1)
        chosen = scores[0, :-1].gather(-1, ids[0, 1:, None]).squeeze(-1)
        found.append(chosen[prompt.answer_start - 1 :])
    return torch.cat(found)


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("family", CONFIGS)
def test_log_probs_are_those_of_the_whole_model_whatever_the_padding(build, family, left):
    generator = build(family)
    asked = prompts(generator)
    with torch.no_grad():
        ours = generator.token_log_probs(*padded(asked, left=left))
    assert ours.dtype == torch.float32
    same(ours, reference(generator, asked))


@pytest.mark.parametrize("family", CONFIGS)
def test_chunks_give_the_same_values_and_gradients(build, family, monkeypatch):
    generator = build(family).double()
    batch = padded(prompts(generator))

    def values_and_gradients():
        generator.zero_grad()
        values = generator.token_log_probs(*batch)
        values.square().sum().backward()
        return values.detach(), [p.grad.clone() for p in generator.parameters()]

    whole, whole_gradients = values_and_gradients()
    monkeypatch.setattr(module, "LOGIT_BYTES", 1)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts, part_gradients = values_and_gradients()
    same(parts, whole)
    for part, gradient in zip(part_gradients, whole_gradients, strict=True):
        same(part, gradient)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("targets", [None, ["q_proj", "lm_head"]])
def test_log_probs_with_lora_also_on_the_head(build, targets, chunked, monkeypatch):
    if chunked:
        monkeypatch.setattr(module, "LOGIT_BYTES", 1)
        monkeypatch.setattr(module, "CHUNK", 2)
    plain = reference(build("llama"), prompts(build("llama")))
    generator = with_lora(build("llama"), targets)
    asked = prompts(generator)
    ours = generator.token_log_probs(*padded(asked))
    same(ours.detach(), reference(generator, asked))
    assert (ours.detach() - plain).abs().max() > 1e-2
    ours.sum().backward()
    adapted = {n: p for n, p in generator.named_parameters() if p.requires_grad}
    assert any("lm_head" in name for name in adapted) is (targets is not None)
    assert all(p.grad is not None for p in adapted.values())


@pytest.mark.parametrize("family", ["gemma2", "granite", "cohere"])
def test_these_families_change_their_logits(build, family):
    """Otherwise the comparisons above would not show that the change is followed."""
    generator = build(family)
    asked = prompts(generator)
    generator._logit_scale, generator._softcap = 1.0, None
    ours = generator.token_log_probs(*padded(asked))
    assert (ours - reference(generator, asked)).abs().max() > 0.05


@pytest.mark.parametrize("family", CONFIGS)
def test_generation_in_a_batch_is_generation_one_by_one(build, family):
    generator = build(family)
    asked = prompts(generator, answers=None)
    together = generator.generate(asked, max_new_tokens=8)
    assert together == [generator.generate([prompt], max_new_tokens=8)[0] for prompt in asked]
    assert len(set(together)) > 1


def test_generation_is_greedy(build):
    generator = build("llama")
    prompt = prompts(generator, answers=None)[1]
    tokens = list(prompt.tokens)
    for _ in range(6):
        with torch.no_grad():
            tokens.append(int(generator.model(torch.tensor([tokens])).logits[0, -1].argmax()))
    written = generator.tokenizer.decode(tokens[prompt.length :], skip_special_tokens=True).strip()
    assert generator.generate([prompt], max_new_tokens=6) == [written]


class Scripted(torch.nn.Module):
    """Write given tokens instead of what the model would, whatever the prompt."""

    def __init__(self, generator: Generator, script: list[int]) -> None:
        super().__init__()
        self.script, self.seen = script, 0
        self.head = generator.model.lm_head
        generator.model.lm_head = self

    def forward(self, hidden):
        logits = self.head(hidden) * 0
        logits[:, -1, self.script[self.seen]] = 1
        self.seen += 1
        return logits


def test_generation_stops_at_the_end_and_at_the_most_tokens(build, tokenizer):
    words = tokenizer("in Ulm two cats", add_special_tokens=False).input_ids
    for script, most, expected in (
        ([*words, 1, *words], 40, len(words) + 1),
        (words * 9, 5, 5),
    ):
        generator = build("llama")
        scripted = Scripted(generator, script)
        (answer,) = generator.generate(prompts(generator, answers=None)[:1], max_new_tokens=most)
        assert scripted.seen == expected
        assert answer == tokenizer.decode(script[: min(expected, most)], skip_special_tokens=True)
    assert generator.generate([], max_new_tokens=5) == []


def test_a_prompt_ends_where_its_answer_begins(build):
    generator = build("llama")
    open_ended, answered = prompts(generator, answers=None), prompts(generator)
    for question, whole, answer in zip(open_ended, answered, ANSWERS, strict=True):
        assert whole.tokens[: whole.answer_start] == question.tokens
        assert whole.tokens[-1] == generator.tokenizer.eos_token_id
        decoded = generator.tokenizer.decode(whole.tokens[whole.answer_start : -1])
        assert decoded.strip() == answer


# ChatML, as Qwen has it, and Llama 2's; with the text that they make of a prompt and its answer.
CHAT_ML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
FORGETFUL = "{% for m in messages %}{{ m.content | upper }}{% endfor %}"


def asked_text(passage: str, query: str) -> str:
    return DEFAULT.user_message(query, [passage])


@pytest.mark.parametrize("scheme", ["first", "always"])
@pytest.mark.parametrize(
    ("template", "text", "end"),
    [
        (None, "<s>{asked}\n\nAnswer:\n{answer}</s>", "</s>"),
        (
            CHAT_ML,
            "<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>",
            "<|im_end|>",
        ),
        (INST, "<s>[INST] {asked} [/INST] {answer}</s>", "</s>"),
    ],
)
def test_a_prompt_reads_as_its_template_says(build, sentencepiece, scheme, template, text, end):
    tokenizer = sentencepiece(scheme)
    tokenizer.chat_template = template
    generator = build("llama", tokenizer)
    assert generator.frame.end == tokenizer.convert_tokens_to_ids(end)
    for prompt, *said in zip(prompts(generator), PASSAGES, QUERIES, ANSWERS, strict=True):
        passage, query, answer = said
        expected = text.format(asked=asked_text(passage, query), answer=answer)
        assert prompt.tokens.count(tokenizer.bos_token_id) == expected.count("<s>")
        assert prompt.tokens.count(generator.frame.end) == expected.count(end)
        assert prompt.tokens[-1] == generator.frame.end
        # Put together from pieces, and yet the tokens of the whole text.
        whole = expected.removeprefix("<s>") if template is None else expected
        assert prompt.tokens == tokenizer(whole, add_special_tokens=template is None).input_ids
        assert tokenizer.decode(prompt.tokens[prompt.answer_start : -1]).strip() == answer


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_a_blank_before_an_answer_is_part_of_its_first_word(build, sentencepiece, scheme):
    """No model goes on from a blank: `[/INST] in Ulm` is read and written as `▁in ▁Ulm`."""
    tokenizer = sentencepiece(scheme)
    tokenizer.chat_template = INST
    generator = build("llama", tokenizer)
    prompt = prompts(generator)[0]
    tokens = tokenizer.convert_ids_to_tokens(prompt.tokens)
    assert not tokens[prompt.answer_start - 1].endswith("▁")
    assert tokens[prompt.answer_start : -1] == tokenizer.tokenize(" in Ulm")


def test_chat_generation_stops_at_the_turns_end(build, sentencepiece):
    tokenizer = sentencepiece("first")
    tokenizer.chat_template = CHAT_ML
    generator = build("llama", tokenizer)
    words = tokenizer("in Ulm", add_special_tokens=False).input_ids
    scripted = Scripted(generator, [*words, generator.frame.end, *words])
    asked = prompts(generator, answers=None)[:1]
    assert generator.generate(asked, max_new_tokens=20) == ["in Ulm"]
    assert scripted.seen == len(words) + 1


def test_a_template_that_changes_the_text_is_not_used(build, sentencepiece, caplog):
    tokenizer = sentencepiece("first")
    plain = build("llama", tokenizer).frame
    tokenizer.chat_template = FORGETFUL
    assert build("llama", tokenizer).frame == plain
    assert "changes its messages: using the plain prompt" in caplog.messages[0]


def test_pieces_are_tokenised_as_they_are_after_a_line_break(build, sentencepiece):
    for tokenizer in (None, sentencepiece("first"), sentencepiece("always")):
        generator = build("llama", **({} if tokenizer is None else {"tokenizer": tokenizer}))
        for text in (*PASSAGES, "", " a blank before", "\nline breaks\n\n", "ünïcödé 漢字"):
            (piece,) = generator.tokenise([text])
            after = generator.tokenizer("Answer:\n", add_special_tokens=False).input_ids
            joined = generator.tokenizer.decode([*after, *piece.tolist()])
            assert joined == f"Answer:\n{text}"
    assert generator.tokenise([]) == []


@pytest.mark.parametrize("lora", [False, True])
def test_an_export_loads_back_with_its_length_and_scores(tiny_models, lora, tmp_path):
    generator = load_generator(str(tiny_models.generator), CPU, max_length=123)
    if lora:
        with_lora(generator)
    asked = prompts(generator)
    generator.export(tmp_path)
    assert json.loads((tmp_path / "dalm.json").read_text()) == {
        "generator_max_len": 123,
        "reader_passages": 1,
        "prompt": asdict(DEFAULT),
    }
    again = [load_generator(str(tmp_path), CPU)]
    if lora:
        again.append(load_generator(str(tiny_models.generator), CPU, adapter=str(tmp_path)))
    for loaded in again:
        assert loaded.max_length == 123
        assert loaded.frame == generator.frame
        with torch.no_grad():
            same(loaded.token_log_probs(*padded(asked)), reference(generator, asked))


# The prompt belongs to the model

OWN = PromptTemplate(
    "Use the documents.\n", "<doc>{passage}</doc>\n", "Q: {question}\n", "A: ", "Cite [1]."
)


@pytest.fixture
def prompt_file(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("".join(f"{name}: {json.dumps(text)}\n" for name, text in asdict(OWN).items()))
    return str(file)


def transformers_prompt(folder):
    """Return the first prompt as plain transformers makes it from a folder."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.apply_chat_template(
        [{"role": "user", "content": QUERIES[0]}],
        documents=[{"title": "", "text": PASSAGES[0]}],
        add_generation_prompt=True,
    ).input_ids


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("chat", [False, True])
def test_a_prompt_goes_with_the_model(tiny_models, lora, chat, prompt_file, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    base, out, further = tmp_path / "base", tmp_path / "out", tmp_path / "further"
    shutil.copytree(tiny_models.generator, base)
    if chat:
        (base / "chat_template.jinja").write_text(
            "{% for m in messages %}{{ m.content }}{% endfor %}"
        )
    generator = load_generator(str(base), CPU, max_length=123, prompt=prompt_file)
    assert f"prompt     {prompt_file}" in caplog.messages
    if lora:
        with_lora(generator)
    expected = prompts(generator, answers=None)[0].tokens
    text = generator.tokenizer.decode(expected)
    end = "\n" if chat else "\nA:"
    asked = "Use the documents.\n<doc>Ada lives in Ulm.</doc>\nQ: Where does Ada live?"
    assert text.lstrip() == asked + end
    generator.export(out)
    caplog.clear()
    names = [(str(out), None)] + ([(str(base), str(out))] if lora else [])
    for name, adapter in names:
        loaded = load_generator(name, CPU, adapter=adapter)
        assert loaded.template == OWN
        assert loaded.frame == generator.frame
        assert prompts(loaded, answers=None)[0].tokens == expected
        assert bool(loaded.tokenizer.chat_template) is chat  # the base's, in memory
    assert transformers_prompt(out) == expected
    loaded.export(further)
    assert transformers_prompt(further) == expected
    assert (further / "dalm.json").read_text() == (out / "dalm.json").read_text()
    template = "chat_template.jinja"
    assert (further / template).read_text() == (out / template).read_text()
    assert not [line for line in caplog.messages if line.startswith("prompt")]


def test_another_prompt_than_the_models_own_takes_an_option_and_is_logged(
    tiny_models, prompt_file, tmp_path, caplog
):
    caplog.set_level(logging.INFO)
    load_generator(str(tiny_models.generator), CPU).export(tmp_path / "out")
    loaded = load_generator(str(tmp_path / "out"), CPU, prompt=prompt_file)
    assert loaded.template == OWN
    line = f"prompt     {prompt_file} instead of the model's own"
    assert line in caplog.messages
    loaded.export(tmp_path / "own")
    caplog.clear()
    load_generator(str(tmp_path / "own"), CPU, prompt=prompt_file)
    assert not [text for text in caplog.messages if text.startswith("prompt")]
    with pytest.raises(UserError, match=r"--prompt: .*no.yaml can't be read"):
        load_generator(str(tmp_path / "own"), CPU, prompt=str(tmp_path / "no.yaml"))


def test_a_model_of_an_earlier_version_has_the_default_prompt(tiny_models, tmp_path):
    load_generator(str(tiny_models.generator), CPU, max_length=99).export(tmp_path)
    (tmp_path / "dalm.json").write_text('{"generator_max_len": 99, "reader_passages": 3}\n')
    loaded = load_generator(str(tmp_path), CPU)
    assert loaded.template == DEFAULT
    assert (loaded.max_length, loaded.reader_passages) == (99, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is damaged"),
        (b"\xff{}", "can't be read"),
        (b"[]", "is damaged .a list"),
        (b'{"generator_max_len": "256"}', "is damaged .generator_max_len is '256'."),
        (b'{"reader_passages": 0}', "is damaged .reader_passages is 0."),
        (b'{"reader_passages": true}', "is damaged .reader_passages is True."),
        (b'{"prompt": "default"}', "is damaged .prompt is 'default'."),
        (b'{"prompt": {"kind": "chatty"}}', "prompt: unknown field 'kind'; a prompt has"),
        (b'{"prompt": {}}', "prompt: no field 'instruction'; a prompt has"),
    ],
)
def test_a_damaged_dalm_json_is_refused(tiny_models, content, message, tmp_path):
    folder = tmp_path / "generator"
    shutil.copytree(tiny_models.generator, folder)
    (folder / "dalm.json").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load_generator(str(folder), CPU)
    assert "\n" not in str(error.value)
    assert str(folder / "dalm.json") in str(error.value)


def test_citations_ask_with_the_templates_own_instruction(build, tokenizer):
    for template, instruction in ((DEFAULT, CITE), (OWN, "Cite [1].")):
        model = build("llama").model
        generator = Generator(model, tokenizer, CPU, 200, template)
        generator.ask_for_citations()
        assert generator.cites
        (prompt, *_) = prompts(generator, answers=None)
        assert tokenizer.decode(prompt.tokens).lstrip().startswith(instruction)
        assert generator.template == template  # what is exported


def test_lora_trains_adapters_alone(build):
    generator = with_lora(build("llama"))
    trained = [name for name, p in generator.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_checkpointed_activations_give_the_same_gradients(build):
    found = []
    for checkpointed in (False, True):
        generator = build("llama").train()
        if checkpointed:
            generator.checkpoint_activations()
        generator.token_log_probs(*padded(prompts(generator))).sum().backward()
        found.append([p.grad for p in generator.parameters()])
    for with_memory, without in zip(*found, strict=True):
        same(without, with_memory)


def test_a_length_beyond_the_model_is_refused(tiny_models):
    with pytest.raises(UserError, match=r"--generator-max-len 257: generator .* at most 256"):
        load_generator(str(tiny_models.generator), CPU, max_length=257)


def test_a_family_that_changes_its_logits_in_another_way_is_refused(
    tiny_models, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_after_head", lambda config: (0.5, None))
    with pytest.raises(UserError, match="changes its logits in a way"):
        load_generator(str(tiny_models.generator), CPU)


def test_frames_hold_no_answer(build):
    frame = build("llama").frame
    marks = chain(frame.opening, frame.passage, frame.query, frame.answer)
    assert frame.end not in set(marks)
