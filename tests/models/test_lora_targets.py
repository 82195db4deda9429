"""Which layers adapters are on by default, and what is said of layers that take none."""

import logging

import pytest
import torch
from peft import get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from dalm.models import loading
from dalm.models.generator import Generator
from dalm.models.lora_targets import lora_targets

CPU = loading.place("cpu", "fp32")
SIZE = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8},
    **{"num_key_value_heads": 2, "intermediate_size": 64, "eos_token_id": 1, "pad_token_id": 0},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys"),
]


@pytest.fixture
def build(tiny_models):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)

    def build(kind: str, **options) -> Generator:
        torch.manual_seed(0)
        config = AutoConfig.for_model(kind, **SIZE, **options, vocab_size=len(tokenizer))
        return Generator(AutoModelForCausalLM.from_config(config), tokenizer, CPU, 100)

    return build


def lora(targets=None, dropout=0.05):
    return loading.lora(rank=4, alpha=8, dropout=dropout, targets=targets, task="CAUSAL_LM")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "bloom"])
def test_it_is_every_linear_layer_where_all_take_adapters(build, kind, caplog) -> None:
    """The same adapters, to the weight, as those of PEFT's `all-linear`."""
    caplog.set_level(logging.INFO)
    ours, theirs = build(kind), build(kind)
    torch.manual_seed(1)
    ours.add_lora(lora())
    torch.manual_seed(1)
    theirs.model = get_peft_model(theirs.model, lora())
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weight, ours.state_dict()[name])
    assert not any("adapters" in message for message in caplog.messages)


def test_what_a_mixture_leaves_out_is_said(build, caplog) -> None:
    caplog.set_level(logging.INFO)
    build("qwen3_moe", **EXPERTS).add_lora(lora())
    assert caplog.messages == [
        "adapters   LoRA on k_proj, o_proj, q_proj, v_proj; "
        "not on experts.gate_up_proj, experts.down_proj"
    ]


def test_experts_that_no_token_of_the_probe_reaches_are_adapted() -> None:
    """A mixture of separate layers: which of them a token takes says nothing of the others."""

    class Mixture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = AutoConfig.for_model("llama", **SIZE)
            self.experts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(3))
            self.unused = torch.nn.Linear(4, 4)

        def get_output_embeddings(self) -> None:
            return None

    model = Mixture()
    found = lora_targets(model, lambda: model.experts[1](torch.ones(1, 4)))
    assert found.names == ["experts.0", "experts.1", "experts.2"]
    assert found.left_out == ["unused"]


def test_fused_experts_are_adapted_where_they_are_named(build) -> None:
    generator = build("qwen3_moe", **EXPERTS)
    generator.add_lora(lora(["gate_proj", "up_proj", "down_proj"], dropout=0.0))
    adapted = [name for name, p in generator.named_parameters() if p.requires_grad]
    assert all("experts" in name for name in adapted)
    assert len(adapted) == 2 * 2 * 2


@pytest.mark.parametrize(
    ("kind", "options", "targets", "reason"),
    [
        ("qwen3_moe", EXPERTS, ["gate_proj", "up_proj", "down_proj"], "lora_dropout"),
        ("mamba", {"state_size": 4}, ["dt_proj"], "no gradient reaches adapters on mixer.dt_proj"),
        ("mamba", {"state_size": 4}, ["out_proj"], "incompatible with Mamba"),
        ("llama", {}, ["nowhere"], "nowhere"),
        (
            "llama4_text",
            {
                **{"num_local_experts": 4, "intermediate_size_mlp": 64, "no_rope_layers": [1, 0]},
                "layer_types": ["chunked_attention", "full_attention"],
            },
            ["router"],
            "the adapted model doesn't run",
        ),
    ],
)
def test_layers_that_take_no_adapters_are_refused(build, kind, options, targets, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        build(kind, **options).add_lora(lora(targets))
