"""`--encoder-backend onnx-int8`: an index and its questions are encoded alike, or are refused."""

import csv
import importlib.util
import json
import logging
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from dalm.cli import app, run
from dalm.errors import UserError
from dalm.models import onnx_export
from dalm.models.embedding_model import input_module
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.retrieval import encoder_backend
from dalm.retrieval.embedding_cache import fingerprint
from dalm.retrieval.encoder_backend import ONNX_INT8, OPTION, use_backend

CPU = place("cpu", "fp32")
TEXTS = ["Ada", "Where does Bela live, and what does she keep at home in Bern?", "two cats"]


def call(*arguments):
    return run(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def int8(tiny_models) -> Retriever:
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    use_backend(retriever, ONNX_INT8)
    return retriever


@pytest.fixture
def no_export(monkeypatch):
    """Let nothing be exported: what is used is in the cache."""
    monkeypatch.setattr(onnx_export, "export", None)


def test_vectors_are_near_torchs_and_the_same_in_any_batch(int8, tiny_models):
    own = load_retriever(str(tiny_models.encoder), CPU)
    for mine, theirs in (
        (int8.encode_queries, own.encode_queries),
        (int8.encode_passages, own.encode_passages),
    ):
        found, expected = mine(TEXTS), theirs(TEXTS)
        assert 0.9 < float((found * expected).sum(1).min()) < 0.999999
        assert torch.equal(found, torch.cat([mine([text]) for text in TEXTS]))
        assert torch.equal(found.flip(0), mine(TEXTS[::-1]))
    assert fingerprint(int8) != fingerprint(own), "their vectors are cached apart"
    assert fingerprint(int8, with_precision=False) == fingerprint(own, with_precision=False)


def test_the_exported_file_is_kept_and_a_damaged_one_made_again(
    int8, tiny_models, monkeypatch, caplog
):
    exports, export = [], onnx_export.export

    def counted(*arguments):
        exports.append(arguments)
        return export(*arguments)

    monkeypatch.setattr(onnx_export, "export", counted)
    for damage in (False, True):
        again = load_retriever(str(tiny_models.encoder), CPU)
        if damage:
            of_weights = fingerprint(again, with_precision=False)
            folder = encoder_backend.default_folder().parent / "onnx" / of_weights
            (file,) = folder.iterdir()
            file.write_bytes(file.read_bytes()[:1000])
        use_backend(again, ONNX_INT8)
        assert torch.equal(again.encode_queries(TEXTS), int8.encode_queries(TEXTS))
        assert len(exports) == damage
    assert "is damaged" in caplog.text


def test_adapters_are_merged(tiny_models, tmp_path):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    plain = retriever.encode_queries(TEXTS)
    torch.manual_seed(0)
    retriever.add_lora(
        LoraConfig(r=4, lora_alpha=32, init_lora_weights=False, target_modules="all-linear")
    )
    expected = retriever.encode_queries(TEXTS)
    assert float((expected * plain).sum(1).min()) < 0.9
    onnx_export.export(retriever, tmp_path)
    assert torch.allclose(retriever.encode_queries(TEXTS), expected), "the adapters are still there"
    module = input_module(retriever.model, "query")
    module.model = onnx_export.OnnxModel(tmp_path / onnx_export.FP32, module.model.config)
    assert torch.allclose(retriever.encode_queries(TEXTS), expected, atol=1e-4)


def test_what_cannot_work_is_refused_in_one_line(
    tiny_models, tiny_table, tmp_path, monkeypatch, capsys
):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    retriever.adapts_queries_alone = True
    with pytest.raises(UserError, match=f"{OPTION}: retriever .* has adapters for queries only"):
        use_backend(retriever, ONNX_INT8)
    with pytest.raises(UserError, match="newer version"):
        use_backend(retriever, "abacus", "the index in i")
    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else there(name)
    )
    line = ["--retriever-name-or-path", tiny_models.encoder, "--encoder-backend", "onnx-int8"]
    missing = f'{OPTION} needs onnxruntime: pip install "indomain[onnx]"'
    assert call("index", tiny_table, "--index-dir", tmp_path / "i", *line) == 2
    assert missing in capsys.readouterr().err
    assert not (tmp_path / "i").exists()
    assert call("mine-negatives", tiny_table, "--output", tmp_path / "m.csv", *line) == 2
    assert missing in capsys.readouterr().err


def test_an_index_keeps_its_backend(
    int8, tiny_models, tiny_table, tmp_path, monkeypatch, capsys, no_export
):
    folder, ran = tmp_path / "idx", []
    forward = onnx_export.OnnxModel.forward

    def spied(self, **features):
        ran.append(len(features["input_ids"]))
        return forward(self, **features)

    monkeypatch.setattr(onnx_export.OnnxModel, "forward", spied)
    line = [
        "index",
        tiny_table,
        "--index-dir",
        folder,
        "--retriever-name-or-path",
        tiny_models.encoder,
    ]
    assert call(*line, "--encoder-backend", "onnx-int8") == 0
    assert ran == [1] * 10
    made = json.loads((folder / "generations" / "1" / "index.json").read_text())
    assert made["encoder_backend"] == "onnx-int8"
    assert call("search", folder, "Where does Ada live?", "--search", "dense") == 0
    assert len(ran) == 11
    assert call(*line) == 0, "named again, without the option"
    capsys.readouterr()
    assert call(*line, "--encoder-backend", "torch") == 2
    assert "is encoded by onnx-int8; leave --encoder-backend torch out, or add --rebuild" in (
        capsys.readouterr().err
    )
    ran.clear()
    assert call(*line[:4], "--rebuild", "--encoder-backend", "torch") == 0
    assert call("search", folder, "Where does Ada live?", "--search", "dense") == 0
    assert not ran
    assert call(*line, "--encoder-backend", "onnx-int8") == 2
    there = importlib.util.find_spec
    assert call("index", "--index-dir", folder, "--rollback") == 0
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else there(name)
    )
    capsys.readouterr()
    assert call("search", folder, "Where does Ada live?") == 2
    assert f"the index in {folder}/generations/1 needs onnxruntime" in capsys.readouterr().err


def test_negatives_are_mined_by_it(int8, tiny_models, tiny_table, tmp_path, no_export, caplog):
    line = ["--retriever-name-or-path", tiny_models.encoder, "--encoder-backend", "onnx-int8"]
    line += ["--first-rank", 1, "--last-rank", 5, "--num-negatives", 1]
    for name in ("one.csv", "two.csv"):
        with caplog.at_level(logging.INFO):
            assert call("mine-negatives", tiny_table, "--output", tmp_path / name, *line) == 0
    assert "10 from the cache" in caplog.text
    texts = [Path(tmp_path / name).read_text() for name in ("one.csv", "two.csv")]
    assert texts[0] == texts[1]
    assert len(list(csv.DictReader(texts[0].splitlines()))) == 20
