"""What is tried when a generator is loaded: token ids, positions, its backbone, padding."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from dalm.errors import UserError
from dalm.models import generator_checks, loading
from dalm.models.generator import Generator, load_generator
from dalm.prompts import Prompt

CPU = loading.place("cpu", "fp32")
SIZE = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "intermediate_size": 64, "initializer_range": 0.4},
    **{"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
}


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    return AutoTokenizer.from_pretrained(tiny_models.generator)


@pytest.fixture
def saved(tokenizer, tmp_path):
    """Return a function that saves an untrained model of an architecture with a tokenizer."""

    def save(kind: str, tokenizer=tokenizer, **options) -> str:
        torch.manual_seed(0)
        rows = options.pop("vocab_size", len(tokenizer))
        config = AutoConfig.for_model(kind, **{**SIZE, "vocab_size": rows, **options})
        AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        return str(tmp_path / kind)

    return save


# What it is


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("bert", "bert is an encoder; name a decoder-only"),
        ("distilbert", "distilbert is an encoder; name a decoder-only"),
        ("t5", "t5 is an encoder–decoder; name a decoder-only"),
        ("bart", "bart is an encoder–decoder; name a decoder-only"),
        ("clip", "clip is no language model that writes text; name a decoder-only"),
    ],
)
def test_what_is_no_causal_language_model_is_named(kind, what, tokenizer, tmp_path):
    AutoConfig.for_model(kind).save_pretrained(tmp_path / "it")
    tokenizer.save_pretrained(tmp_path / "it")
    with pytest.raises(UserError, match=f"generator .*it can't be loaded: {what}"):
        load_generator(str(tmp_path / "it"), CPU)


# Positions

POSITIONS = {
    "llama": {"max_position_embeddings": 100},
    "gpt2": {"n_positions": 100},
    "gptj": {"n_positions": 100, "rotary_dim": 4},
    "codegen": {"n_positions": 100, "rotary_dim": 4},
    "gpt_neo": {
        "max_position_embeddings": 100,
        **{"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]},
    },
    "opt": {"max_position_embeddings": 100, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "mpt": {"max_seq_len": 100, "d_model": 32, "n_heads": 4, "n_layers": 2},
    "ctrl": {"n_positions": 100, "n_embd": 32, "dff": 64, "n_layer": 2, "n_head": 4},
}


@pytest.mark.parametrize("kind", POSITIONS)
def test_the_number_of_positions_whatever_it_is_called(saved, kind) -> None:
    folder = saved(kind, **POSITIONS[kind])
    generator = load_generator(folder, CPU, max_length=100)
    assert generator.longest == 100
    ids = torch.randint(2, 300, (1, 100))
    with torch.no_grad():
        generator.token_log_probs(ids, torch.ones_like(ids), torch.ones_like(ids).bool())
    with pytest.raises(UserError, match=r"--generator-max-len 101: .* takes at most 100"):
        load_generator(folder, CPU, max_length=101)


@pytest.mark.parametrize("kind", ["bloom", "mamba"])
def test_no_limit(saved, kind) -> None:
    generator = load_generator(saved(kind, n_layer=2, n_head=4), CPU, max_length=10_000)
    assert generator.longest is None
    assert generator_checks.description(generator) == [kind, "plain prompt", "10,000 tokens"]


def test_a_default_is_fitted_to_a_short_model(saved) -> None:
    generator = load_generator(saved("llama", max_position_embeddings=100), CPU)
    assert generator.max_length == 100
    assert generator_checks.description(generator)[-1] == "100 tokens of at most 100"
    long = saved("llama", max_position_embeddings=999)
    assert load_generator(long, CPU).max_length == 128 + 256
    assert load_generator(long, CPU, passages=3).max_length == 128 + 3 * 256
    assert load_generator(long, CPU, passages=4).max_length == 999


def test_a_saved_length_that_the_model_lacks_is_named(saved) -> None:
    folder = saved("llama", max_position_embeddings=100)
    Path(folder, "dalm.json").write_text('{"generator_max_len": 200}')
    with pytest.raises(UserError, match=r"dalm\.json says 200 tokens: .* takes at most 100"):
        load_generator(folder, CPU)
    assert load_generator(folder, CPU, max_length=99).max_length == 99


# Token ids


def fresh(tiny_models):
    return AutoTokenizer.from_pretrained(tiny_models.generator)


def test_padding_past_the_table_is_another_token(saved, tiny_models) -> None:
    tokenizer = fresh(tiny_models)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    generator = load_generator(saved("llama", tokenizer, vocab_size=rows), CPU, max_length=100)
    assert tokenizer.pad_token_id == rows
    assert generator.pad_token < rows
    asked = [Prompt(list(range(2, n)), n - 2) for n in (9, 30)]
    assert len(generator.generate(asked, 4)) == 2


def test_an_added_token_past_the_table_is_text(saved, tiny_models) -> None:
    tokenizer = fresh(tiny_models)
    rows = len(tokenizer)
    tokenizer.add_tokens([AddedToken("<image>")])
    generator = load_generator(saved("llama", tokenizer, vocab_size=rows), CPU, max_length=100)
    (ids,) = generator.tokenise(["an <image> here"])
    assert ids.max() < rows
    assert tokenizer.decode(ids).strip() == "an <image> here"


def test_words_past_the_table_are_named(saved, tokenizer) -> None:
    with pytest.raises(
        UserError, match=r"300 embeddings, and its tokenizer's tokens '.*' .3"
    ) as it:
        load_generator(saved("llama", vocab_size=300), CPU)
    assert f"and {len(tokenizer) - 303} more have ids past them" in str(it.value)
    assert "\n" not in str(it.value)


def test_a_prompts_control_token_past_the_table_is_named(saved, tiny_models) -> None:
    tokenizer = fresh(tiny_models)
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}"
    with pytest.raises(UserError, match=r"tokens '<\|end\|>' \(\d+\) have ids past them"):
        load_generator(saved("llama", tokenizer, vocab_size=rows), CPU)


# The backbone

LLAMA_4 = {
    **{"num_local_experts": 4, "intermediate_size_mlp": 64, "attention_chunk_size": 16},
    **{"layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0]},
}


def test_a_backbone_that_is_not_at_its_prefix(saved) -> None:
    generator = load_generator(saved("llama4_text", **LLAMA_4), CPU)
    assert type(generator_checks.backbone_of(generator.causal)).__name__ == "Llama4TextModel"


def test_a_model_without_a_backbone_is_named() -> None:
    class Flat(LlamaForCausalLM):
        base_model_prefix = "nowhere"

        def get_input_embeddings(self):
            return self.lm_head

    config = AutoConfig.for_model("llama", **SIZE, vocab_size=40)
    with pytest.raises(UserError, match="Flat has no part that gives its hidden states"):
        generator_checks.backbone_of(Flat(config))


# Padding

ONE_BY_ONE = {
    "rwkv": {"attention_hidden_size": 32},
    "bart": {
        **{"d_model": 32, "decoder_layers": 2, "encoder_layers": 1, "decoder_ffn_dim": 64},
        **{"decoder_attention_heads": 4, "init_std": 0.4},
    },
}
TOGETHER = {
    "llama": {},
    "gpt2": {},
    "bloom": {"n_layer": 2, "n_head": 4},
    "mamba": {"state_size": 4},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
}


@pytest.mark.parametrize("kind", [*ONE_BY_ONE, *TOGETHER])
def test_answers_do_not_depend_on_the_batch(saved, kind, caplog) -> None:
    generator = load_generator(saved(kind, **(ONE_BY_ONE | TOGETHER)[kind]), CPU, max_length=100)
    assert generator.padding.when_answering is (kind in TOGETHER)
    assert generator.padding.when_scoring
    random = np.random.default_rng(0)
    asked = [Prompt(random.integers(2, 300, n).tolist(), n) for n in (9, 40, 23, 9, 40)]
    alone = [generator.generate([one], 8)[0] for one in asked]
    assert generator.generate(asked, 8) == alone
    assert len(set(alone)) > 1
    caplog.set_level(logging.INFO)
    loading.tell("generator", "gen", generator_checks.description(generator))
    one_by_one = "answers one by one: padding changes its answers" in caplog.text
    assert one_by_one is (kind in ONE_BY_ONE)


class Crowded(LlamaForCausalLM):
    """Adds to each row what depends on how many rows and columns the batch has."""

    def __init__(self, config) -> None:
        super().__init__(config)
        self.model.embed_tokens.register_forward_hook(
            lambda _module, inputs, output: output + 0.01 * inputs[0].numel()
        )


def test_scores_that_depend_on_the_batch_are_computed_one_by_one(tokenizer) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model("llama", **SIZE, vocab_size=len(tokenizer))
    generator = Generator(Crowded(config).eval(), tokenizer, CPU, 100)
    generator.padding = generator_checks.padding_is_harmless(generator, None)
    assert generator.padding == generator_checks.Padding(False, False)
    rows = [torch.randint(2, 300, (n,)) for n in (20, 11)]
    with torch.no_grad():
        together = generator_checks._scores(generator, rows)
        alone = [generator_checks._scores(generator, [row])[0] for row in rows]
        generator.padding = generator_checks.Padding()
        padded = generator_checks._scores(generator, rows)
    for ours, own, other in zip(together, alone, padded, strict=True):
        assert torch.equal(ours, own)
        assert not torch.allclose(ours, other, atol=1e-3)
