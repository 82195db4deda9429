"""Every architecture of the table in docs/models.md, tiny: load, train, export, adapt."""

import re
import warnings
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, FunnelModel, T5EncoderModel

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.embedding_model import pooling_of
from dalm.models.retriever import Retriever, load_retriever

CPU = loading.place("cpu", "fp32")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
QUERIES = ["Where does Ada live?", "What does Bela keep?", "Ulm?"]
PASSAGES = ["Ada lives in Ulm.", "Bern", "Cyrus lives in Graz." + " Cyrus keeps one owl." * 4]
COMMON = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
SMALL_TABLE = {"embedding_size": 16}
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
DISENTANGLED = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
ENCODERS: dict[str, dict[str, object]] = {
    "albert": SMALL_TABLE,
    "bert": {},
    "big_bird": {"attention_type": "original_full"},
    "camembert": {},
    "convbert": {**SMALL_TABLE, "head_ratio": 1, "conv_kernel_size": 3},
    "data2vec-text": {},
    "deberta": {**DISENTANGLED, "position_biased_input": True},
    "deberta-v2": {**DISENTANGLED, "position_biased_input": False, "position_buckets": 32},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": SMALL_TABLE,
    "ernie": {},
    "eurobert": {},
    "fnet": {},
    "funnel": {"block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 32},
    "ibert": {},
    "jina_embeddings_v3": {},
    "longformer": {"attention_window": [8]},
    "megatron-bert": {},
    "mobilebert": {**SMALL_TABLE, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "modernbert": {"local_attention": 8},
    "mpnet": {},
    "mt5": T5,
    "nomic_bert": {},
    "rembert": {"input_embedding_size": 16},
    "roberta": {},
    "roberta-prelayernorm": {},
    "roformer": SMALL_TABLE,
    "squeezebert": SMALL_TABLE,
    "t5": T5,
    "xlm-roberta": {},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
}
DECODERS: dict[str, dict[str, object]] = {
    "bloom": {"n_layer": 1, "n_head": 2},
    "gemma": HEADS,
    "gemma2": HEADS,
    "gemma3_text": HEADS,
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128},
    "gpt_neox": {},
    "llama": HEADS,
    "mamba": {"state_size": 4},
    "mistral": HEADS,
    "mixtral": {**HEADS, "num_local_experts": 2},
    "olmo2": {"num_key_value_heads": 1},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},
    "phi3": {"num_key_value_heads": 1},
    "qwen2": HEADS,
    "qwen3": HEADS,
    "qwen3_moe": {**HEADS, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
    "smollm3": HEADS,
}
WITHOUT_ADAPTERS = {"IBertModel"}
pytestmark = [
    # PEFT asks for a property that transformers has renamed.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
    # PEFT says what it does with GPT-2's transposed weights, and can't do with SqueezeBERT's.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),
    pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups"),
]


def build(name: str, tiny_models, folder: Path) -> str:
    """Save an untrained model of this architecture with a tokenizer."""
    decoder = name in DECODERS
    tokenizer = AutoTokenizer.from_pretrained(
        tiny_models.generator if decoder else tiny_models.encoder
    )
    tokenizer.model_max_length = 10**9
    options = {**COMMON, **(DECODERS if decoder else ENCODERS)[name]}
    if name == "funnel":
        options = ENCODERS[name]
    config = AutoConfig.for_model(name, vocab_size=len(tokenizer), **options)
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(0)
    make = {"funnel": FunnelModel, "t5": T5EncoderModel}.get(name, AutoModel.from_config)
    with warnings.catch_warnings(action="ignore"):
        make(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def train(retriever: Retriever) -> None:
    """Take a step; every vector has to move."""
    before = retriever.encode_passages(PASSAGES)
    trained = [parameter for parameter in retriever.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    for _ in range(2):  # an adapter's first step moves one of its two factors
        queries, passages = (
            retriever.embed(retriever.batch(retriever.tokenise(texts, kind), kind), kind)
            for texts, kind in ((QUERIES, "query"), (PASSAGES, "passage"))
        )
        loss = torch.nn.functional.cross_entropy(20 * queries @ passages.T, torch.arange(3))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert ((retriever.encode_passages(PASSAGES) - before).abs().amax(1) > 1e-6).all()


def exported(retriever: Retriever, folder: Path) -> Retriever:
    """Export and load again, to the same vectors, of a batch and of single texts."""
    retriever.export(folder)
    again = load_retriever(str(folder), CPU)
    passages = retriever.encode_passages(PASSAGES)
    single = torch.cat([again.encode_passages([text]) for text in PASSAGES])
    for found in (again.encode_passages(PASSAGES), single):
        torch.testing.assert_close(found, passages, rtol=0, atol=1e-4)
    return again


def adapted(retriever: Retriever) -> str:
    """Add adapters as the command does by default; return the names of what they are on."""
    config = loading.lora(rank=16, alpha=32, dropout=0.05, targets=None, task="FEATURE_EXTRACTION")
    if type(retriever.model.transformers_model).__name__ in WITHOUT_ADAPTERS:
        with pytest.raises(UserError, match=r"no linear layers in .*, or leave out --use-peft"):
            retriever.add_lora(config)
        return "—"
    retriever.add_lora(config)
    keys = {key.split(".lora_")[0] for key, _ in retriever.named_parameters() if ".lora_" in key}
    return ", ".join(sorted({key.rpartition(".")[2] for key in keys}))


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_an_architecture_trains_exports_and_takes_adapters(name, tiny_models, tmp_path):
    retriever = load_retriever(build(name, tiny_models, tmp_path / "model"), CPU)
    pads = "yes" if retriever.pads else "encoded without padding"
    train(retriever)
    again = exported(retriever, tmp_path / "out")
    layers = adapted(again)
    if layers != "—":
        train(again)
        exported(again, tmp_path / "adapted")
    pooling = pooling_of(retriever.model, "query").removesuffix(" pooling")
    row = f"| `{name}` | {pooling} | {layers} | {pads} |"
    assert row in PAGE.read_text(encoding="utf-8").splitlines(), row


def test_the_table_has_no_other_architecture():
    section = PAGE.read_text(encoding="utf-8").split("## Retrievers")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE) == [*ENCODERS, *DECODERS]
