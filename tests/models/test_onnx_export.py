"""A retriever in ONNX: the same vectors for any number of texts and tokens, in fp32 and int8."""

import json
import shutil

import pytest
import torch

from dalm.cli import app, run
from dalm.errors import UserError
from dalm.models import onnx_export
from dalm.models.embedding_model import input_module
from dalm.models.loading import place
from dalm.models.retriever import load_retriever

CPU = place("cpu", "fp32")
TEXTS = ["Ada", "Where does Bela live, and what does she keep at home in Bern?", "two cats"] * 3


@pytest.fixture(scope="module")
def exported(tiny_models, tmp_path_factory):
    """A retriever, and the folder that `dalm export --onnx` writes of it."""
    folder = tmp_path_factory.mktemp("onnx") / "served"
    line = ["export", str(tiny_models.encoder), "--output-dir", str(folder), "--onnx"]
    assert run(app, line) == 0
    return load_retriever(str(tiny_models.encoder), CPU), folder / "retriever"


def test_files_give_the_vectors_of_the_model(exported):
    retriever, folder = exported
    module = input_module(retriever.model, "query")
    own, expected = module.model, retriever.encode_passages(TEXTS)
    for file, least in ((onnx_export.FP32, 0.99999), (onnx_export.INT8, 0.9)):
        module.model = onnx_export.OnnxModel(folder / file, own.config, threads=1)
        found = retriever.encode_passages(TEXTS)
        assert float((found * expected).sum(1).min()) > least
        assert torch.allclose(found[:1], retriever.encode_passages(TEXTS[:1]), atol=1e-2)
    module.model = own


def test_int8_is_smaller_and_both_are_in_the_manifest(exported):
    _, folder = exported
    files = [(folder / name).stat().st_size for name in (onnx_export.FP32, onnx_export.INT8)]
    assert files[1] < files[0]
    assert len(list((folder / "onnx").iterdir())) == 2, "nothing else stays"
    listed = json.loads((folder / "manifest.json").read_text())["files"]
    assert {onnx_export.FP32, onnx_export.INT8} <= set(listed)


def test_what_has_no_single_transformer_is_refused(tmp_path, tiny_models):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_models.encoder)
    static = StaticEmbedding(tokenizer, embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path / "static"))
    retriever = load_retriever(str(tmp_path / "static"), CPU)
    with pytest.raises(UserError, match="begins with StaticEmbedding"):
        onnx_export.export(retriever, tmp_path)


def test_a_graph_of_other_weights_is_refused(exported, tiny_models, tmp_path, monkeypatch):
    _, folder = exported
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    with torch.no_grad():
        next(retriever.parameters()).mul_(-2)
    monkeypatch.setattr(
        onnx_export,
        "_export",
        lambda module, file: shutil.copy(folder / onnx_export.FP32, file),
    )
    with pytest.raises(UserError, match="gives other vectors in ONNX"):
        onnx_export.export(retriever, tmp_path)
