"""What a model that can't be loaded is told to be, and which of its files is named."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, T5Config, T5ForConditionalGeneration

from dalm import artifacts
from dalm.errors import UserError
from dalm.models import loading
from dalm.models.generator import load_generator
from dalm.models.retriever import load_retriever

# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
CPU = loading.place("cpu", "fp32")
SPOILED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "pointer": (
        "model.safetensors",
        lambda f: f.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "model.safetensors is a Git LFS pointer, not the file; fetch it with git lfs pull",
    ),
    "truncated": (
        "model.safetensors",
        lambda f: f.write_bytes(f.read_bytes()[:-100]),
        "model.safetensors is broken (it has ",
    ),
    "truncated in its header": (
        "model.safetensors",
        lambda f: f.write_bytes(f.read_bytes()[:20]),
        "model.safetensors is broken (it has 20 bytes, less than its header)",
    ),
    "empty": (
        "model.safetensors",
        lambda f: f.write_bytes(b""),
        "model.safetensors is broken (it has 0 bytes",
    ),
    "no JSON": (
        "tokenizer.json",
        lambda f: f.write_text('{"version": "1.0", '),
        "tokenizer.json is broken (no JSON: ",
    ),
    "config": ("config.json", lambda f: f.write_text("[1"), "config.json is broken (no JSON: "),
}


@pytest.mark.parametrize("kind", SPOILED)
@pytest.mark.parametrize("role", ["retriever", "generator"])
def test_a_damaged_file_is_named(tiny_models, tmp_path, role, kind):
    name, spoil, said = SPOILED[kind]
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "model")
    spoil(tmp_path / "model" / name)
    load = load_retriever if role == "retriever" else load_generator
    with pytest.raises(UserError) as refused:
        load(str(tmp_path / "model"), CPU)
    line = str(refused.value)
    assert line.startswith(f"{role} {tmp_path / 'model'} can't be loaded: {said}"), line
    assert "\n" not in line


def test_a_missing_shard_is_named(tiny_models, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_models.generator, folder)
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"model-00001-of-00002.safetensors is missing, which"):
        load_generator(str(folder), CPU)


def edited(source: Path, folder: Path, **changes: object) -> str:
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return str(folder)


def test_an_encoder_decoder_is_named(tiny_models, tmp_path):
    shutil.copytree(tiny_models.generator, tmp_path / "t5")
    config = T5Config(vocab_size=320, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(UserError, match="t5 is an encoder–decoder; name a decoder-only"):
        load_generator(str(tmp_path / "t5"), CPU)


def test_a_base_that_is_no_folder_is_named(tiny_models, tmp_path, monkeypatch):
    shutil.copytree(tiny_models.generator, tmp_path / "gen")
    monkeypatch.chdir(tmp_path)
    model = load_generator("gen", CPU)
    config = loading.lora(rank=2, alpha=4, dropout=0.0, targets=["q_proj"], task="CAUSAL_LM")
    model.add_lora(config)
    model.export(tmp_path / "out")
    file = tmp_path / "out" / "adapter_config.json"
    relative = json.loads(file.read_text()) | {"base_model_name_or_path": "gen"}
    file.write_text(json.dumps(relative))
    load_generator(str(tmp_path / "out"), CPU)
    monkeypatch.chdir("/")
    with pytest.raises(UserError, match=r"it is a LoRA adapter on gen, which is no folder here"):
        load_generator(str(tmp_path / "out"), CPU)


@pytest.mark.parametrize("method", ["gptq", "awq"])
def test_quantised_weights_are_named(tiny_models, tmp_path, method):
    quantised = {"quant_method": method, "bits": 4, "group_size": 128}
    name = edited(tiny_models.generator, tmp_path / "q", quantization_config=quantised)
    with pytest.raises(UserError, match=rf"its weights are quantised \({method}\): .*; install"):
        load_generator(name, CPU)


@pytest.mark.parametrize("role", ["retriever", "generator"])
def test_a_config_of_other_shapes_is_named(tiny_models, tmp_path, role):
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 24}))
    load = load_retriever if role == "retriever" else load_generator
    with pytest.raises(UserError, match="its weights have other shapes"):
        load(str(tmp_path / "model"), CPU)


@pytest.mark.parametrize("role", ["retriever", "generator"])
def test_a_missing_tokenizer_is_named(tiny_models, tmp_path, role):
    """Where it has no files, transformers makes a tokenizer without words for many models."""
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "model", ignore=shutil.ignore_patterns("tokenizer*"))
    load = load_retriever if role == "retriever" else load_generator
    with pytest.raises(UserError, match="it has no tokenizer"):
        load(str(tmp_path / "model"), CPU)


def test_a_generator_whose_tokenizer_would_have_no_words_is_refused(tmp_path):
    config = GPT2Config(n_embd=8, n_layer=1, n_head=1, n_positions=64, vocab_size=300)
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="it has no tokenizer"):
        load_generator(str(tmp_path), CPU)


@pytest.mark.parametrize("role", ["retriever", "generator"])
def test_weights_that_are_no_numbers_are_named(tiny_models, tmp_path, role):
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    next(weight for name, weight in weights.items() if "layer" in name).fill_(float("nan"))
    save_file(weights, file, {"format": "pt"})
    load = load_retriever if role == "retriever" else load_generator
    with pytest.raises(UserError, match=r"gives infinity or NaN .* its weights are broken"):
        load(str(tmp_path / "model"), CPU)


def test_an_unknown_architecture_is_named(tiny_models, tmp_path):
    name = edited(tiny_models.generator, tmp_path / "new", model_type="llama99")
    with pytest.raises(UserError, match=r"doesn't know the architecture llama99; update"):
        load_generator(name, CPU)


def test_an_export_that_was_changed_is_named(tmp_path: Path) -> None:
    """The manifest of another program is not read."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "dalm.json", "README.md"):
        (folder / name).write_text("{}")
    artifacts.seal(folder)
    loading.check_model_name(str(folder), "retriever")
    (folder / "README.md").write_text("my own words")
    loading.check_model_name(str(folder), "retriever")
    (folder / "config.json").write_text("[]")
    said = r"retriever .*config\.json has another content .* delete .*manifest\.json"
    with pytest.raises(UserError, match=said):
        loading.check_model_name(str(folder), "retriever")
    (folder / "manifest.json").write_text('{"name": "an app"}')
    (folder / "dalm.json").unlink()
    loading.check_model_name(str(folder), "retriever")
