"""Merging: the same outputs, whichever model, or nothing is written."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM

from dalm.artifacts import claim, verify
from dalm.cli import app, run
from dalm.errors import UserError
from dalm.file_reading import DamagedError
from dalm.models import model_merging
from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.retriever import load_retriever

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

CPU = place("cpu", "fp32")
LENGTHS = {"query": 20, "passage": 40}


def stir(model):
    """Adapters begin at zero: give them something to say."""
    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=seeded)


@pytest.fixture(scope="module")
def adapters(tiny_models, tmp_path_factory):
    """Return folders as training commands write them."""
    folder = tmp_path_factory.mktemp("adapters")
    retriever = {"rank": 2, "alpha": 4, "dropout": 0.1, "task": "FEATURE_EXTRACTION"}
    for name, alone in (("retriever", False), ("queries", True)):
        model = load_retriever(str(tiny_models.encoder), CPU, lengths=LENGTHS)
        model.add_lora(lora(**retriever, targets=None), queries_alone=alone)
        stir(model)
        model.export(folder / name)
    adapted_generator(tiny_models).export(folder / "generator")
    return folder


def adapted_generator(tiny_models, targets=None):
    model = load_generator(str(tiny_models.generator), CPU, max_length=100)
    model.reader_passages = 3
    model.add_lora(lora(rank=2, alpha=4, dropout=0.1, task="CAUSAL_LM", targets=targets))
    stir(model)
    return model


@pytest.fixture(scope="module")
def full(tiny_models, tmp_path_factory):
    """Return folders of whole weights that were tuned from the tiny models."""
    folder = tmp_path_factory.mktemp("full")
    for model, name in (
        (load_retriever(str(tiny_models.encoder), CPU, lengths=LENGTHS), "retriever"),
        (load_generator(str(tiny_models.generator), CPU), "generator"),
    ):
        seeded = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=seeded), alpha=0.1)
        model.export(folder / name)
    return folder


def merge(*arguments):
    return run(app, ["merge", *map(str, arguments)])


def load(folder):
    load_it = load_retriever if model_merging.role_of(folder) == "retriever" else load_generator
    return load_it(str(folder), CPU)


def weights(folder):
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("name", ["retriever", "generator"])
def test_a_merged_model_gives_the_adapters_outputs(adapters, tmp_path, name, caplog):
    out = tmp_path / "merged"
    with caplog.at_level(logging.INFO):
        assert merge(adapters / name, "--output-dir", out) == 0
    before, after = (model_merging.outputs(load(folder)) for folder in (adapters / name, out))
    assert torch.allclose(before, after, atol=1e-4)
    base = model_merging.outputs(load(Path(model_merging.base_of(adapters / name, None, 1.0))))
    assert not torch.allclose(base, after, atol=1e-2), "the adapter says nothing"
    assert not (out / "adapter_config.json").exists()
    assert not list(tmp_path.glob(".*")), "nothing half written stays"
    assert "outputs    differ by at most" in caplog.text
    assert "next       dalm eval-" in caplog.text


def test_a_merged_retriever_is_a_plain_sentence_transformer(adapters, tmp_path):
    out = tmp_path / "merged"
    merge(adapters / "retriever", "--output-dir", out)
    texts = ["Where does Ada live?", "Ada lives in Ulm."]
    ours = load_retriever(str(out), CPU)
    assert {k: side.max_len for k, side in ours.sides.items()} == LENGTHS
    theirs = torch.tensor(SentenceTransformer(str(out), device="cpu").encode(texts))
    assert torch.allclose(ours.encode_passages(texts), theirs, atol=1e-5)
    modules = json.loads((out / "modules.json").read_text())
    assert modules[0]["type"] == "sentence_transformers.models.Transformer"
    assert not any("lora" in key or "base_layer" in key for key in weights(out))


def test_a_merged_generator_is_a_plain_causal_lm(adapters, tmp_path):
    out = tmp_path / "merged"
    merge(adapters / "generator", "--output-dir", out)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert not any("lora" in name for name, _ in model.named_parameters())
    known = json.loads((out / "dalm.json").read_text())
    assert known == json.loads((adapters / "generator" / "dalm.json").read_text())
    assert (known["generator_max_len"], known["reader_passages"]) == (100, 3)


@pytest.mark.parametrize("name", ["retriever", "generator"])
def test_an_adapter_by_weight(adapters, tmp_path, name):
    """Merged at w a matrix is w of the way from the base to the adapter."""
    for weight in (1.0, 0.25):
        assert (
            merge(adapters / name, "--output-dir", tmp_path / f"{weight}", "--weight", weight) == 0
        )
    base = weights(Path(model_merging.base_of(adapters / name, None, 1.0)))
    tuned, part = (weights(tmp_path / each) for each in ("1.0", "0.25"))
    moved = 0
    for key, matrix in base.items():
        expected = torch.lerp(matrix, tuned[key], 0.25)
        assert torch.allclose(part[key], expected, atol=1e-5), key
        moved += not torch.equal(matrix, tuned[key])
    assert moved >= 8


@pytest.mark.parametrize("name", ["retriever", "generator"])
def test_whole_weights_are_interpolated(full, tiny_models, tmp_path, name):
    base = tiny_models.encoder if name == "retriever" else tiny_models.generator
    out = tmp_path / "out"
    assert merge(full / name, "--output-dir", out, "--base", base, "--weight", 0.7) == 0
    tuned, old, new = (weights(folder) for folder in (full / name, base, out))
    for key, matrix in new.items():
        assert torch.allclose(matrix, 0.7 * tuned[key] + 0.3 * old[key], atol=1e-6), key
    first = next(iter(new))
    assert not torch.equal(new[first], old[first])


def test_a_query_encoder_says_what_it_is(adapters, tiny_models, tmp_path, caplog):
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        assert merge(adapters / "queries", "--output-dir", out) == 0
    assert f"passages are embedded by {tiny_models.encoder}" in caplog.text
    caplog.clear()
    merged, tuned = load(out), load(adapters / "queries")
    assert (
        f"retriever {out} embeds queries only; its passages are embedded by {tiny_models.encoder}"
    ) in caplog.text
    texts = ["Where does Ada live?"]
    assert torch.allclose(merged.encode_queries(texts), tuned.encode_queries(texts), atol=1e-5)
    base = load_retriever(str(tiny_models.encoder), CPU, lengths=LENGTHS)
    assert torch.allclose(base.encode_passages(texts), tuned.encode_passages(texts), atol=1e-6)
    assert not torch.allclose(merged.encode_passages(texts), base.encode_passages(texts), atol=1e-2)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT warns of just this
def test_nothing_is_written_where_outputs_differ(tiny_models, tmp_path, capsys):
    """An adapter on a head that is tied to the embeddings: folded in, it moves those too."""
    adapted_generator(tiny_models, ["q_proj", "lm_head"]).export(tmp_path / "head")
    assert merge(tmp_path / "head", "--output-dir", tmp_path / "out") == 2
    assert "merging changed the outputs by" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["head"]


def test_half_precision(adapters, tmp_path):
    out = tmp_path / "out"
    assert merge(adapters / "generator", "--output-dir", out, "--dtype", "bf16") == 0
    assert {w.dtype for w in weights(out).values()} == {torch.bfloat16}
    assert model_merging.dtype_of(str(out), "auto") == torch.bfloat16
    assert model_merging.dtype_of(str(out), "fp32") == torch.float32


def test_the_card_names_adapter_base_and_weight(adapters, tiny_models, tmp_path):
    out = tmp_path / "out"
    merge(adapters / "generator", "--output-dir", out, "--weight", 0.5)
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "unknown"
    assert front["library_name"] == "transformers"
    assert front["lineage"][-1] == {
        "model": str(adapters / "generator"),
        "by": "dalm merge",
        "data": f"0.5 of it on {tiny_models.generator}",
    }


def test_roles_by_files(adapters, full, tiny_models, tmp_path):
    for folder in (adapters, full):
        for role in ("retriever", "generator"):
            assert model_merging.role_of(folder / role) == role
    assert model_merging.role_of(tiny_models.generator) == "generator"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "adapter_config.json").write_text('{"task_type": "FEATURE_EXTRACTION"}')
    assert model_merging.role_of(foreign) == "retriever"
    (foreign / "adapter_config.json").unlink()
    (foreign / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert model_merging.role_of(foreign) == "retriever"


# Bad input


def refused(capsys, *arguments):
    capsys.readouterr()
    assert merge(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def test_what_is_refused(adapters, full, tiny_models, tmp_path, capsys):
    out = ["--output-dir", tmp_path / "out"]
    for arguments, said in (
        ([adapters / "none"], "no such folder"),
        ([adapters], f"name {adapters / 'retriever'} or {adapters / 'generator'}"),
        ([tmp_path], "no model in this folder"),
        ([full / "generator"], "name the model that they were tuned from with --base"),
        ([full / "generator", "--base", tiny_models.generator], "use a weight under 1"),
        ([full / "generator", "--base", "./no", "--weight", 0.5], "./no: no such folder"),
        ([adapters / "generator", "--weight", 0], "--weight 0.0: must be a number over 0"),
        ([adapters / "generator", "--weight", 1.1], "--weight 1.1: must be at most 1"),
    ):
        assert said in refused(capsys, *arguments, *out)
    assert list(tmp_path.iterdir()) == []


def test_models_of_other_shapes_are_not_interpolated(full, adapters, tiny_models, tmp_path, capsys):
    from dalm.models.tiny import build_generator

    other = build_generator(["a b c"], tmp_path / "other", width=16, layers=1, heads=2)
    line = [full / "generator", "--base", other, "--weight", 0.5, "--output-dir", tmp_path / "out"]
    assert "can't be interpolated" in refused(capsys, *line)
    assert not (tmp_path / "out").exists()


def test_output_folders(adapters, tmp_path, capsys):
    own = shutil.copytree(adapters / "generator", tmp_path / "run" / "generator")
    for folder in (own, own.parent):
        assert "holds what is to be merged" in refused(capsys, own, "--output-dir", folder)
    out = tmp_path / "out"
    out.mkdir()
    assert merge(own, "--output-dir", out) == 0, "an empty folder will do"
    assert "add --overwrite-output-dir" in refused(capsys, own, "--output-dir", out)
    assert merge(own, "--output-dir", out, "--overwrite-output-dir", "--weight", 0.5) == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    line = [own, "--output-dir", other, "--overwrite-output-dir"]
    assert "no model of DALM's" in refused(capsys, *line)
    assert (other / "notes.txt").read_text() == "mine"


def test_a_folder_that_another_process_writes_is_refused(adapters, tmp_path, capsys):
    with claim(tmp_path / "out", "--output-dir"):
        line = [adapters / "generator", "--output-dir", tmp_path / "out"]
        assert "another process is writing there" in refused(capsys, *line)
    assert list(tmp_path.iterdir()) == []


def test_a_merged_folder_has_a_manifest_that_holds(adapters, tmp_path):
    out = tmp_path / "out"
    merge(adapters / "retriever", "--output-dir", out)
    verify(out)
    file = out / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DamagedError, match=r"model\.safetensors"):
        verify(out)


@pytest.mark.parametrize(
    ("change", "weight", "said"),
    [
        ({"peft_type": "IA3"}, 1.0, "IA3; only LoRA can be folded in"),
        ({"modules_to_save": ["norm"]}, 0.5, "holds more than LoRA (modules_to_save)"),
        ({"bias": "all"}, 0.5, "holds more than LoRA (bias)"),
        ({"base_model_name_or_path": None}, 1.0, "name it with --base"),
    ],
)
def test_foreign_adapters(adapters, tmp_path, change, weight, said):
    folder = shutil.copytree(adapters / "generator", tmp_path / "a")
    file = folder / "adapter_config.json"
    kept = json.loads(file.read_text())
    if "peft_type" in change:
        kept = {
            "base_model_name_or_path": kept["base_model_name_or_path"],
            "task_type": "CAUSAL_LM",
        }
    file.write_text(json.dumps(kept | change))
    with pytest.raises(UserError) as error:
        model_merging.base_of(folder, None, weight)
    assert said in str(error.value)


def test_a_nan_is_no_agreement(adapters, tmp_path, capsys):
    folder = shutil.copytree(adapters / "retriever", tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    broken = load_file(file)
    name = next(key for key in broken if "lora_B" in key)
    broken[name][0] = float("nan")
    save_file(broken, file)
    code = merge(folder, "--output-dir", tmp_path / "out")
    assert code == 2
    assert not (tmp_path / "out").exists()
