"""Every generator architecture of docs/models.md, tiny: load, pack, train, answer, adapt, export.

The row of the table is what the test finds; a new row is printed where it fails.
"""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dalm.models import loading, model_merging
from dalm.models.generator import Generator, load_generator
from dalm.models.lora_targets import lora_targets
from dalm.models.packed_attention import find_way, packed_log_probs
from dalm.prompts import Prompt
from dalm.training import losses
from dalm.training.scoring import mean_log_probs, score_candidates

CPU = loading.place("cpu", "fp32")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
COMMON: dict[str, Any] = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128},
    # Large for so small a model, so that every part of it is heard in the scores.
    "initializer_range": 0.2,
    **{"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0},
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS |= {"moe_intermediate_size": 32, "shared_expert_intermediate_size": 32}
DEEPSEEK = {
    **{"q_lora_rank": None, "kv_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8},
    **{"v_head_dim": 8, "num_key_value_heads": 4, "n_routed_experts": 4, "n_shared_experts": 1},
    **{"num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 1, "topk_group": 1},
    "first_k_dense_replace": 1,
}
SSM = {"mamba_d_head": 8, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 8}
ROTARY = {"rotary_dim": 4, "n_inner": 64}
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "apertus": {},
    "arcee": {},
    "bamba": {**SSM, "mamba_n_heads": 8, "attn_layer_indices": [1]},
    "bart": {
        **{"d_model": 32, "decoder_layers": 2, "encoder_layers": 1, "decoder_ffn_dim": 64},
        **{"decoder_attention_heads": 4, "init_std": 0.2},
    },
    "biogpt": {},
    "bloom": {"n_layer": 2, "n_head": 4},
    "codegen": ROTARY,
    "cohere": {},
    "cohere2": {},
    "deepseek_v2": DEEPSEEK,
    "deepseek_v3": DEEPSEEK,
    "ernie4_5": {},
    "exaone4": {},
    "falcon": {},
    "falcon_h1": {**SSM, "mamba_d_ssm": 32, "mamba_n_heads": 4},
    "falcon_mamba": {"state_size": 4},
    "gemma": {},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"query_pre_attn_scalar": 8},
    "glm": {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_neo": {
        **{"attention_types": [[["global", "local"], 1]], "num_layers": 2, "num_heads": 4},
        "window_size": 8,
    },
    "gpt_neox": {},
    "gpt_oss": EXPERTS,
    "gptj": ROTARY,
    "granite": {},
    "granitemoe": EXPERTS,
    "helium": {},
    "jamba": {
        **{"num_experts": 2, "mamba_d_state": 4, "mamba_dt_rank": 4, "attn_layer_period": 2},
        **{"attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
        "use_mamba_kernels": False,
    },
    "llama": {},
    "llama4_text": {
        **{"num_local_experts": 4, "intermediate_size_mlp": 64, "attention_chunk_size": 16},
        **{"layer_types": ["chunked_attention", "full_attention"], "no_rope_layers": [1, 0]},
    },
    "mamba": {"state_size": 4},
    "mamba2": {"state_size": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 8},
    "minimax": {**EXPERTS, **MIXED, "block_size": 8},
    "mistral": {},
    "mixtral": EXPERTS,
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 128},
    "nemotron": {},
    "olmo": {},
    "olmo2": {},
    "olmoe": EXPERTS,
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "init_std": 0.2},
    "persimmon": {},
    "phi": {},
    "phi3": {},
    "phimoe": EXPERTS,
    "qwen2": {},
    "qwen2_moe": EXPERTS,
    "qwen3": {},
    "qwen3_moe": EXPERTS,
    "qwen3_next": {
        **{**EXPERTS, **MIXED, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
    },
    "recurrent_gemma": {
        **{"lru_width": 32, "block_types": ["recurrent", "attention"]},
        "attention_window_size": 16,
    },
    "rwkv": {"attention_hidden_size": 32},
    "smollm3": {},
    "stablelm": {},
    "starcoder2": {},
    "xglm": {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4, "init_std": 0.2},
}
WAYS = {"positions": "positions", "mask": "mask", "apart": "rows of their own"}
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def build(name: str, tokenizer: Any, folder: Path) -> str:
    """Save an untrained model of this architecture with a tokenizer."""
    known = AutoConfig.for_model(name)
    options = {option: value for option, value in COMMON.items() if hasattr(known, option)}
    if name == "falcon":
        del options["head_dim"]  # computed, and not to be set
    options |= {"vocab_size": len(tokenizer), **ARCHITECTURES[name]}
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **options)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def prompts(generator: Generator) -> list[Prompt]:
    """Return two candidate prompts for each of two questions."""
    asked = generator.tokenise_queries(["Where does Ada live?", "What does Bela keep?"])
    answers = generator.tokenise_answers(["in Ulm", "a dog"])
    passages = generator.tokenise_passages(["Ada lives in Ulm.", "Bela keeps a dog. A dog."])
    return [
        generator.frame.join([passage.tolist()], query.tolist(), answer.tolist(), 100)
        for query, answer in zip(asked, answers, strict=True)
        for passage in passages
    ]


def scores(generator: Generator) -> torch.Tensor:
    with torch.no_grad():
        return score_candidates(generator, prompts(generator), 2)


def check_scores(generator: Generator) -> None:
    """In a batch they are those of the whole model, prompt by prompt."""
    ours = scores(generator).flatten(0, 1)
    expected = []
    for prompt, found in zip(prompts(generator), ours, strict=True):
        ids = torch.tensor([prompt.tokens])
        with torch.no_grad():
            logits = generator.model(input_ids=ids).logits.float().log_softmax(-1)
        whole = logits[0, :-1].gather(-1, ids[0, 1:, None])[prompt.answer_start - 1 :, 0]
        torch.testing.assert_close(found[: len(whole)], whole, rtol=1e-3, atol=1e-3)
        expected.append(float(whole.mean()))
    for rows, means in mean_log_probs(generator, prompts(generator)):  # read once where they can
        assert means == pytest.approx([expected[row] for row in rows], rel=1e-3, abs=1e-3)


def check_packing(generator: Generator) -> str:
    """Packed documents score as they do alone, in the way that the model supports."""
    tokens = torch.randint(2, 300, (2, 20), generator=torch.Generator().manual_seed(1))
    positions = torch.tensor([[*range(9), *range(11)], [*range(4), *range(12), *range(4)]])
    way = find_way(generator)
    with torch.no_grad():
        packed = packed_log_probs(generator, tokens, positions, positions > 0, way)
        apart = packed_log_probs(generator, tokens, positions, positions > 0, "apart")
    torch.testing.assert_close(packed, apart, rtol=2e-3, atol=2e-3)
    return WAYS[way]


def train(generator: Generator) -> None:
    """Take a step of joint training; its loss has a gradient for passages' scores and weights."""
    before = scores(generator)
    similarity = torch.zeros(2, 2, requires_grad=True)
    optimizer = torch.optim.AdamW([p for p in generator.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # an adapter's first step moves one of its two factors
        generator.train()
        log_probs = score_candidates(generator, prompts(generator), 2)
        mask = log_probs[:, 0] != 0
        loss = losses.rag_token(similarity.log_softmax(1), log_probs, mask).sum()
        assert bool(loss.isfinite())
        loss.backward()
        gradients = [p.grad for p in generator.parameters() if p.grad is not None]
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        assert bool(similarity.grad.abs().max() > 0)
        optimizer.step()
        optimizer.zero_grad()
    generator.eval()
    assert bool(((scores(generator) - before).abs() > 1e-5).any())


def check_answers(generator: Generator) -> str:
    """An answer doesn't depend on the other prompts of its batch."""
    asked = [Prompt(prompt.tokens[: prompt.answer_start], 0) for prompt in prompts(generator)]
    together = generator.generate(asked, 4)
    assert together == [generator.generate([prompt], 4)[0] for prompt in asked]
    return "in batches" if generator.padding.when_answering else "one by one"


def reloaded(generator: Generator, folder: Path) -> Generator:
    generator.export(folder)
    again = load_generator(str(folder), CPU).eval()
    torch.testing.assert_close(scores(again), scores(generator), rtol=0, atol=1e-4)
    return again


def adapt(generator: Generator, folder: Path) -> tuple[str, str]:
    """Train adapters as the command does by default, and fold them in; return where they are."""
    chosen = lora_targets(generator.model, generator._run)
    config = loading.lora(rank=4, alpha=8, dropout=0.05, targets=None, task="CAUSAL_LM")
    generator.add_lora(config)
    adapters = [name for name, p in generator.named_parameters() if p.requires_grad]
    assert len(adapters) == 2 * len(chosen.names)
    train(generator)
    again = reloaded(generator, folder)
    expected = model_merging.outputs(again)
    merged = model_merging.outputs(model_merging.fold_adapters(again, "base"))
    assert float((merged - expected).abs().max()) < model_merging.TOLERANCE
    adapted = sorted({name.rpartition(".")[2] for name in chosen.names})
    return ", ".join(adapted), ", ".join(chosen.left_out) or "—"


@pytest.fixture(scope="module")
def tokenizer(tiny_models):
    return AutoTokenizer.from_pretrained(tiny_models.generator)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_scores_packs_trains_answers_and_takes_adapters(name, tokenizer, tmp_path):
    with warnings.catch_warnings(action="ignore"):
        folder = build(name, tokenizer, tmp_path / "model")
        generator = load_generator(folder, CPU, max_length=100).eval()
        check_scores(generator)
        packed = check_packing(generator)
        answers = check_answers(generator)
        train(generator)
        again = reloaded(generator, tmp_path / "out")
        adapted, left_out = adapt(again, tmp_path / "adapted")
    limit = "limited" if generator.longest else "any"
    row = f"| `{name}` | {limit} | {packed} | {answers} | {adapted} | {left_out} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), row


def test_the_table_has_no_other_architecture():
    section = PAGE.read_text(encoding="utf-8").split("## Generators")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE) == [*ARCHITECTURES]
