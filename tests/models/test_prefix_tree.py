"""Prompts that begin alike score in a tree as they do alone; models that can't are found out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoTokenizer,
    FalconConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen3Config,
)
from transformers.models.auto.modeling_auto import AutoModelForCausalLM

from dalm.models import prefix_tree
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import lora, place
from dalm.models.prefix_tree import Tree, prefix_trees, shares_prefixes, tree_log_probs
from dalm.prompts import Prompt

WIDE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
LARGE = {"initializer_range": 0.3}
"""Large for so small a model, so that what a token attends to is heard."""
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**WIDE, **LARGE, num_key_value_heads=1, intermediate_size=32),
    "qwen3": Qwen3Config(**WIDE, **LARGE, num_key_value_heads=1, intermediate_size=32, head_dim=8),
    "gpt2": GPT2Config(n_embd=16, n_layer=2, n_head=2, **LARGE),
    "gpt_neox": GPTNeoXConfig(**WIDE, **LARGE, intermediate_size=32),
    "falcon": FalconConfig(**WIDE, **LARGE),
    "wide_window": MistralConfig(
        **WIDE, **LARGE, num_key_value_heads=1, intermediate_size=32, sliding_window=512
    ),
    "narrow_window": MistralConfig(
        **WIDE, **LARGE, num_key_value_heads=1, intermediate_size=32, sliding_window=64
    ),
    "gpt_neo": GPTNeoConfig(
        **{"hidden_size": 16, "num_layers": 2, "num_heads": 2, "window_size": 64},
        **{"attention_types": [[["global", "local"], 1]], "max_position_embeddings": 1024},
        **LARGE,
    ),
    "falcon_alibi": FalconConfig(**WIDE, **LARGE, alibi=True),
    "mamba": MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **LARGE),
}
SHARE = ("llama", "qwen3", "gpt2", "gpt_neox", "falcon", "wide_window")
PAD, END = 0, 1
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(scope="module")
def folders(tiny_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)
    made: dict[str, Path] = {}

    def folder(name: str) -> str:
        if name not in made:
            config = CONFIGS[name]
            config.vocab_size = len(tokenizer)
            config.bos_token_id, config.eos_token_id, config.pad_token_id = None, END, PAD
            torch.manual_seed(0)
            made[name] = tmp_path_factory.mktemp(name)
            AutoModelForCausalLM.from_config(config).save_pretrained(made[name])
            tokenizer.save_pretrained(made[name])
        return str(made[name])

    return folder


@pytest.fixture
def build(folders: Any) -> Any:
    def load(name: str) -> Generator:
        return load_generator(folders(name), place("cpu", "fp32"), max_length=128).eval()

    return load


def random_prompts(count: int = 6, shared: int = 30) -> list[Prompt]:
    """Return prompts of two passages in turn, each with a tail of its own; two are the same."""
    drawn = np.random.default_rng(0)
    starts = [drawn.integers(2, 300, shared + 5 * n).tolist() for n in range(2)]
    tails = [drawn.integers(2, 300, 5 + n % 3).tolist() for n in range(count)]
    rows = [[*starts[n % 2], *tail] for n, tail in enumerate(tails)]
    made = [Prompt(row, len(row) - 3 - n % 2) for n, row in enumerate(rows)]
    return [*made, made[0]]


def alone(generator: Generator, prompts: list[Prompt]) -> torch.Tensor:
    """Return the scores by the whole model's logits, prompt by prompt."""
    found = []
    for prompt in prompts:
        ids = torch.tensor([prompt.tokens])
        logits = generator.model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        each = logits.gather(1, ids[0, 1:, None])[:, 0]
        found.append(each[prompt.answer_start - 1 :])
    return torch.cat(found)


# The rows


def trees_of(generator: Generator, prompts: list[Prompt], size: int = 100) -> list[list[int]]:
    return [sorted(tree.places) for tree in prefix_trees(generator, prompts, size)]


def test_prompts_of_one_passage_share_a_row_and_its_tokens_once(build: Any) -> None:
    generator, prompts = build("llama"), random_prompts()
    trees = prefix_trees(generator, prompts, 100)
    assert sorted(sorted(tree.places) for tree in trees) == [[0, 2, 4, 6], [1, 3, 5]]
    for tree in trees:
        starts = 30 + 5 * (tree.places[0] % 2)
        tails = {tuple(prompts[place].tokens[starts:]) for place in tree.places}
        assert tree.tokens == starts + sum(map(len, tails))


def test_a_row_grows_as_long_as_attention_costs_less_than_it_saves(build: Any) -> None:
    """Width 16: 96 tokens attended to are one read; 180² + 60² + 40 · 96 is less than 200²."""
    generator = build("llama")
    prompts = [Prompt([*range(2, 42), 100 + n, *[50 + n] * 19], 50) for n in range(12)]
    trees = prefix_trees(generator, prompts, 100)
    assert [(tree.tokens, len(tree.places)) for tree in trees] == [(180, 7), (140, 5)]
    assert max(tree.tokens for tree in prefix_trees(generator, prompts, 1)) == 60
    generator.longest = 100
    assert max(tree.tokens for tree in prefix_trees(generator, prompts, 100)) == 100


def test_little_in_common_is_read_twice(build: Any) -> None:
    prompts = [Prompt([*range(2, 7), *[50 + n] * 55], 55) for n in range(3)]
    assert trees_of(build("llama"), prompts) == [[0], [1], [2]]


# The scores


@pytest.mark.parametrize("name", SHARE)
def test_scores_and_gradients_in_a_tree_are_those_of_prompts_alone(build: Any, name: str) -> None:
    generator, prompts = build(name), random_prompts()
    assert shares_prefixes(generator)
    generator.double()
    trees = prefix_trees(generator, prompts, 100)
    assert len(trees) == 2
    weights = torch.linspace(1, 2, sum(p.length - p.answer_start for p in prompts)).double()
    found, expected = tree_log_probs(generator, prompts, trees), alone(generator, prompts)
    # A norm that rounds to fp32 within does so to other sums.
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=1e-6)
    gradients = []
    for scores in (found, expected):
        generator.zero_grad()
        (scores * weights).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in generator.parameters()]))
    assert (gradients[0] - gradients[1]).norm() < 1e-6 * gradients[1].norm()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_fp32_differs_by_less_than_a_ten_thousandth_of_a_nat(build: Any, attention: str) -> None:
    generator, prompts = build("llama"), random_prompts()
    generator.model.set_attn_implementation(attention)
    trees = prefix_trees(generator, prompts, 100)
    assert len(trees) == 2
    found = tree_log_probs(generator, prompts, trees)
    torch.testing.assert_close(found, alone(generator, prompts), rtol=0, atol=1e-4)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_and_checkpointed_activations(build: Any, checkpointing: bool) -> None:
    generator, prompts = build("llama"), random_prompts()
    generator.add_lora(lora(rank=2, alpha=4, dropout=0.0, targets=None, task="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    if checkpointing:
        generator.checkpoint_activations()
    generator.train()
    trees = prefix_trees(generator, prompts, 100)
    assert len(trees) == 2
    gradients = []
    for scores in (tree_log_probs(generator, prompts, trees), alone(generator, prompts)):
        generator.zero_grad()
        scores.sum().backward()
        adapted = [p for p in generator.parameters() if p.requires_grad]
        gradients.append(torch.cat([p.grad.flatten() for p in adapted]))
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


# Models that can't


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(SHARE)))
def test_a_model_that_does_not_keep_to_the_tree_reads_prompts_apart(build: Any, name: str) -> None:
    generator, prompts = build(name), random_prompts()
    assert not shares_prefixes(generator)
    assert len(prefix_trees(generator, prompts, 100)) == len(prompts)


def test_what_is_heard_of_other_prompts_is_found_out(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Leaking(prefix_tree._Row):
        def attends(self, width: int) -> Any:
            return np.tri(width, dtype=bool)

    monkeypatch.setattr(prefix_tree, "_Row", Leaking)
    assert not shares_prefixes(build("llama"))


def test_positions_that_go_on_over_the_row_are_found_out(
    build: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(prefix_tree._Row):
        def __init__(self, prompts: list[Prompt]) -> None:
            super().__init__(prompts)
            self.positions = list(range(len(self.tokens)))

    monkeypatch.setattr(prefix_tree, "_Row", Counting)
    assert not shares_prefixes(build("llama"))


def test_it_is_tried_once(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, tried = build("llama"), []
    trial = prefix_tree._tries_to_share

    def noting(generator: Generator) -> bool:
        tried.append(generator)
        return trial(generator)

    monkeypatch.setattr(prefix_tree, "_tries_to_share", noting)
    assert shares_prefixes(generator)
    assert shares_prefixes(generator)
    assert len(tried) == 1


def test_a_tree_of_one_prompt_is_that_prompt(build: Any) -> None:
    generator, prompt = build("llama"), random_prompts()[1]
    found = tree_log_probs(generator, [prompt], [Tree([0], prompt.length)])
    torch.testing.assert_close(found, alone(generator, [prompt]), rtol=0, atol=1e-5)
