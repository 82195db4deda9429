"""Exports: plain folders with the outputs and the prompt of what was trained, or nothing."""

import json
import logging
import shutil

import pytest
import torch
import yaml
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from dalm.artifacts import claim, verify
from dalm.cli import app, run
from dalm.models import plain_messages
from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.retriever import load_retriever
from dalm.prompts import DEFAULT

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

CPU = place("cpu", "fp32")
LENGTHS = {"query": 20, "passage": 40}
PROMPTS = {"query": "q: ", "passage": "p: "}
CARD = """---
license: mit
lineage:
- {model: BASE, by: dalm train-rag-e2e, data: pumps.csv}
---
# Generator tuned with DALM

## Lineage

1. of old

## Data

`pumps.csv`: 20 rows.
"""


def stirred(model, **options):
    """Add adapters that change what the model gives: they begin at zero."""
    model.add_lora(lora(rank=2, alpha=4, dropout=0.1, targets=None, **options))
    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=seeded)
    return model


@pytest.fixture(scope="module")
def tuned(tiny_models, tmp_path_factory):
    """Return a folder as joint training writes it."""
    folder = tmp_path_factory.mktemp("run") / "tuned"
    base = shutil.copytree(tiny_models.generator, folder.parent / "base")
    (base / "LICENSE").write_text("free")
    retriever = load_retriever(str(tiny_models.encoder), CPU, lengths=LENGTHS, prompts=PROMPTS)
    stirred(retriever, task="FEATURE_EXTRACTION").export(folder / "retriever")
    generator = load_generator(str(base), CPU, max_length=100)
    stirred(generator, task="CAUSAL_LM").export(folder / "generator")
    (folder / "generator" / "README.md").write_text(CARD)
    return folder


@pytest.fixture(scope="module")
def served(tuned):
    """Return what is exported of it."""
    assert export(tuned, "--output-dir", tuned.parent / "served") == 0
    return tuned.parent / "served"


def export(*arguments):
    return run(app, ["export", *map(str, arguments)])


def test_a_retriever_is_a_plain_sentence_transformer(tuned, served, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trained = load_retriever(str(tuned / "retriever"), CPU)
    plain = SentenceTransformer(str(served / "retriever"), device="cpu")
    texts = ["Where does Ada live?", "Ada lives in Ulm."]
    queries, passages = (
        torch.tensor(encode(texts)) for encode in (plain.encode_query, plain.encode_document)
    )
    assert torch.allclose(queries, trained.encode_queries(texts), atol=1e-5)
    assert torch.allclose(passages, trained.encode_passages(texts), atol=1e-5)
    assert not torch.allclose(queries, passages, atol=1e-2), "the prompts say nothing"


def test_a_generator_is_a_plain_causal_lm(tuned, served, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    trained = load_generator(str(tuned / "generator"), CPU).eval()
    plain = AutoModelForCausalLM.from_pretrained(served / "generator")
    ids = torch.arange(20)[None] + 30
    with torch.no_grad():
        ours, theirs = (model(ids).logits for model in (trained.model, plain))
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert (served / "generator" / "model.safetensors").is_file()
    assert not any("lora" in key for key in load_file(served / "generator" / "model.safetensors"))
    assert (served / "generator" / "LICENSE").read_text() == "free"


def test_every_client_can_send_the_prompt_of_the_training(tuned, served):
    trained = load_generator(str(tuned / "generator"), CPU)
    tokenizer = AutoTokenizer.from_pretrained(served / "generator")
    passages, query = ["Ada lives in Ulm.", "Bela keeps two cats."], "Where does Ada live?"
    read = [row.tolist() for row in trained.tokenise_passages(passages)]
    (asked,) = trained.tokenise_queries([query])
    prompt = trained.frame.join(read, asked.tolist(), None, 1000).tokens
    for form in plain_messages.forms(DEFAULT, passages, query).values():
        assert plain_messages.tokens(tokenizer, form) == prompt


def test_an_export_is_used_like_the_trained_model(tuned, served):
    """Its chat template is taken out again, so that it can be trained further, too."""
    trained, again = (load_generator(str(folder / "generator"), CPU) for folder in (tuned, served))
    assert again.frame == trained.frame
    assert again.template == trained.template
    assert again.max_length == 100
    assert again.tokenizer.chat_template == trained.tokenizer.chat_template


def test_a_server_stops_where_an_answer_ends(served):
    ends = GenerationConfig.from_pretrained(served / "generator").eos_token_id
    assert load_generator(str(served / "generator"), CPU).frame.end in ends


def test_the_card_is_kept(tuned, served):
    text = (served / "generator" / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["lineage"][0]["data"] == "pumps.csv"
    assert front["lineage"][-1]["by"] == "dalm export"
    assert front["library_name"] == "transformers"
    assert "`pumps.csv`: 20 rows." in text
    assert "of old" not in text
    assert "[retriever](retriever/README.md)" in (served / "README.md").read_text()
    verify(served)
    verify(served / "generator")


def test_one_model_in_half_precision(tuned, tmp_path, caplog):
    line = [tuned / "retriever", "--output-dir", tmp_path / "out", "--dtype", "bf16"]
    with caplog.at_level(logging.INFO):
        assert export(*line) == 0
    weights = load_file(tmp_path / "out" / "retriever" / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    assert "loaded again, vectors differ by at most" in caplog.text
    assert not (tmp_path / "out" / "generator").exists()


def test_an_export_may_be_exported_again(served, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        assert export(served, "--output-dir", tmp_path / "out") == 0
    name = "generator/chat_template.jinja"
    assert (tmp_path / "out" / name).read_text() == (served / name).read_text()
    assert "in every form" in caplog.text


# Bad input


def refused(capsys, *arguments):
    capsys.readouterr()
    assert export(*arguments) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1
    return printed


def test_what_is_refused(tuned, tiny_models, tmp_path, capsys):
    queries = load_retriever(str(tiny_models.encoder), CPU)
    queries.add_lora(
        lora(rank=2, alpha=4, dropout=0, targets=None, task="FEATURE_EXTRACTION"),
        queries_alone=True,
    )
    queries.export(tmp_path / "queries")
    unnamed = shutil.copytree(tuned / "generator", tmp_path / "unnamed")
    (unnamed / "dalm.json").unlink()
    config = json.loads((unnamed / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = None
    (unnamed / "adapter_config.json").write_text(json.dumps(config))
    gone = shutil.copytree(unnamed, tmp_path / "gone")
    config["base_model_name_or_path"] = str(tmp_path / "nowhere")
    (gone / "adapter_config.json").write_text(json.dumps(config))
    swapped = tmp_path / "swapped"
    shutil.copytree(tuned / "generator", swapped / "retriever")
    for folder, said in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "no model in this folder"),
        (tmp_path / "queries", "embeds queries only"),
        (unnamed, "doesn't name its base; merge it first: dalm merge"),
        (gone, "nowhere, which isn't there"),
        (swapped, "holds a generator"),
    ):
        assert said in refused(capsys, folder, "--output-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_onnx_without_a_retriever_or_its_packages(tuned, tmp_path, capsys, monkeypatch):
    line = [tuned / "generator", "--output-dir", tmp_path / "out", "--onnx"]
    assert "--onnx is for retrievers" in refused(capsys, *line)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = refused(capsys, tuned / "retriever", *line[1:])
    assert 'needs onnx, onnxruntime, onnxscript: pip install "indomain[onnx]"' in said


def test_output_folders(tuned, tmp_path, capsys):
    run_folder = tmp_path / "run"
    own = shutil.copytree(tuned / "retriever", run_folder / "retriever")
    for folder in (run_folder, tmp_path):
        assert "holds what is to be exported" in refused(capsys, run_folder, "--output-dir", folder)
    out = tmp_path / "out"
    assert export(own, "--output-dir", out) == 0
    assert "add --overwrite-output-dir" in refused(capsys, own, "--output-dir", out)
    assert export(own, "--output-dir", out, "--overwrite-output-dir") == 0
    (out / "notes.txt").write_text("mine")
    line = [own, "--output-dir", out, "--overwrite-output-dir"]
    assert "holds files, and no export" in refused(capsys, *line)
    with claim(tmp_path / "other", "--output-dir"):
        line = [own, "--output-dir", tmp_path / "other"]
        assert "another process is writing there" in refused(capsys, *line)


def test_an_adapter_with_nan_is_not_exported(tuned, tmp_path, capsys):
    folder = shutil.copytree(tuned / "retriever", tmp_path / "a")
    from safetensors.torch import save_file

    weights = load_file(folder / "adapter_model.safetensors")
    next(w for name, w in weights.items() if "lora_B" in name)[0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "manifest.json").unlink(missing_ok=True)
    assert export(folder, "--output-dir", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
