"""What is packed scores as it does alone, in whatever way the architecture allows."""

from itertools import pairwise

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
)

from dalm.models.generator import Generator
from dalm.models.loading import place
from dalm.models.packed_attention import block_diagonal, find_way, packed_log_probs

IDS = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "vocab_size": 320}
SIZE = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    **{"num_key_value_heads": 1, "intermediate_size": 32, "max_position_embeddings": 64},
    **{"initializer_range": 0.4},
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZE, **IDS),
    "gpt2": lambda: GPT2Config(
        **{"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "initializer_range": 0.4},
        **{"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **IDS},
    ),
    "gemma3": lambda: Gemma3TextConfig(
        **SIZE, **IDS, head_dim=8, query_pre_attn_scalar=8, sliding_window=6
    ),
    # Positions that start again don't hide what stands before in these.
    "opt": lambda: OPTConfig(
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32},
        **{"max_position_embeddings": 64, "word_embed_proj_dim": 16, "init_std": 0.4, **IDS},
        dropout=0.0,
    ),
    "bloom": lambda: BloomConfig(
        **{"hidden_size": 16, "n_layer": 2, "n_head": 2, "initializer_range": 0.4, **IDS},
        **{"hidden_dropout": 0.0, "attention_dropout": 0.0},
    ),
    "mamba": lambda: MambaConfig(hidden_size=16, num_hidden_layers=2, state_size=4, **IDS),
}
WAYS = {"llama": "positions", "gpt2": "positions", "gemma3": "positions"}
WAYS |= {"opt": "mask", "bloom": "apart", "mamba": "apart"}
IN_FP32 = ("gemma3", "mamba")
"""Whatever the weights are, these compute parts of it in fp32; so does eager attention."""

TOKENS = torch.randint(2, 320, (2, 20), generator=torch.Generator().manual_seed(1))
POSITIONS = torch.tensor([[*range(9), *range(8), *range(3)], [*range(4), *range(12), *range(4)]])
SCORED = POSITIONS > 0
SCORED[1, 16:] = False  # padding


@pytest.fixture(scope="module")
def build(tiny_models):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)

    def build(family, **options) -> Generator:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[family](), **options)
        return Generator(model.double().eval(), tokenizer, place("cpu", "fp32"), 64)

    return build


def alone(generator: Generator) -> torch.Tensor:
    """Return log-probabilities by the whole model, document by document."""
    found = []
    for row, positions, scored in zip(TOKENS, POSITIONS, SCORED, strict=True):
        starts = [*(positions == 0).nonzero().flatten().tolist(), len(row)]
        for start, end in pairwise(starts):
            if scored[end - 1]:
                ids = row[None, start:end]
                scores = generator.model(input_ids=ids).logits.log_softmax(-1)
                found.append(scores[0, :-1].gather(-1, ids[0, 1:, None]).squeeze(-1))
    return torch.cat(found)


def gradients(generator: Generator, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    generator.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in generator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", CONFIGS)
def test_packed_documents_score_as_they_do_alone(build, family):
    generator = build(family)
    way = find_way(generator)
    assert way == WAYS[family]
    packed = packed_log_probs(generator, TOKENS, POSITIONS, SCORED, way)
    apart = alone(generator)
    close = 1e-5 if family in IN_FP32 else 1e-9
    torch.testing.assert_close(packed, apart.double(), rtol=close, atol=close)
    ours, theirs = gradients(generator, packed.sum()), gradients(generator, apart.sum())
    assert set(ours) == set(theirs)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=100 * close, atol=close)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("way", ["positions", "mask", "apart"])
def test_all_ways_agree_where_all_are_possible(build, attention, way):
    generator = build("llama", attn_implementation=attention)
    packed = packed_log_probs(generator, TOKENS, POSITIONS, SCORED, way)
    close = 1e-5 if attention == "eager" else 1e-9
    torch.testing.assert_close(packed, alone(generator), rtol=close, atol=close)


def test_a_mask_of_ones_lets_documents_see_each_other(build):
    """The trap: positions isolate only where no mask is given."""
    generator = build("llama")
    leaking = generator.token_log_probs(TOKENS, torch.ones_like(TOKENS), SCORED, POSITIONS)
    assert (leaking - alone(generator)).abs().max() > 0.1


@torch.no_grad()
def test_a_change_in_one_document_moves_no_other(build):
    generator = build("llama").float()
    changed = TOKENS.clone()
    changed[0, :9] = TOKENS[0, :9].flip(0)
    rows = [
        packed_log_probs(generator, tokens, POSITIONS, SCORED, "positions")
        for tokens in (TOKENS, changed)
    ]
    assert not torch.equal(rows[0][:8], rows[1][:8])
    assert torch.equal(rows[0][8:], rows[1][8:])


def test_the_block_diagonal_mask_is_causal_within_a_document(build):
    mask = block_diagonal(build("llama"), torch.tensor([[0, 1, 0, 1, 2]]))
    rows = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]
    assert mask[0, 0].int().tolist() == rows
