"""Models with code of their own: nothing runs unless it is asked for, and then everything works."""

import builtins
import json
import shutil
from pathlib import Path

import pytest
import torch

from dalm.errors import UserError
from dalm.ingest.length_limit import TokenLimit
from dalm.models import loading
from dalm.models.generator import load_generator
from dalm.models.reranker import load_reranker
from dalm.models.retriever import load_retriever
from dalm.synth.exercises import domain_vocabulary

CPU = loading.place("cpu", "fp32")
TRUSTED = loading.place("cpu", "fp32", trust_remote_code=True)
TEXTS = ["Ada lives in Ulm.", "Bern"]
CODE = {
    "retriever": """
from transformers import BertConfig, BertModel
class OwnConfig(BertConfig):
    model_type = "own_encoder"
class OwnModel(BertModel):
    config_class = OwnConfig
""",
    "generator": """
from transformers import LlamaConfig, LlamaForCausalLM
class OwnConfig(LlamaConfig):
    model_type = "own_decoder"
class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
""",
}
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
MODULE = """
from sentence_transformers.base.modules import Module
class Own(Module):
    def forward(self, features, **_):
        features["sentence_embedding"] = -features["sentence_embedding"]
        return features
    def save(self, path, **_): pass
    @classmethod
    def load(cls, *_, **__): return cls()
"""
RERANKER = """
from transformers import BertConfig, BertForSequenceClassification
class OwnConfig(BertConfig):
    model_type = "own_reranker"
class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""
LOAD = {"retriever": load_retriever, "generator": load_generator}


@pytest.fixture(autouse=True)
def nobody_is_asked(monkeypatch):
    """Let a question on the terminal fail the test."""

    def ask(*_):
        raise AssertionError("a question on the terminal")

    monkeypatch.setattr(builtins, "input", ask)


@pytest.fixture(params=["retriever", "generator"])
def own_model(request, tiny_models, tmp_path) -> tuple[str, Path]:
    """A role, and a model of that role whose architecture is in a file of its folder."""
    role = request.param
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    folder = tmp_path / "own"
    shutil.copytree(source, folder)
    auto = "AutoModel" if role == "retriever" else "AutoModelForCausalLM"
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own_encoder" if role == "retriever" else "own_decoder",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "modeling_own.OwnConfig", auto: "modeling_own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(CODE[role])
    return role, folder


def outputs(model: torch.nn.Module) -> torch.Tensor:
    if hasattr(model, "encode_queries"):
        return model.encode_queries(TEXTS)
    ids = torch.tensor([model.tokenise(TEXTS)[0].tolist()])
    with torch.no_grad():
        return model.eval().model(ids).logits


def test_code_is_refused_with_the_option_that_runs_it(own_model):
    role, folder = own_model
    (folder / "modeling_own.py").write_text("raise SystemExit('the code was run')")
    with pytest.raises(UserError) as refused:
        LOAD[role](str(folder), CPU)
    assert str(refused.value) == (
        f"{role} {folder} can't be loaded: it brings code of its own, which isn't run unless you "
        "ask for it: read it, then add --trust-remote-code"
    )


def test_a_rerankers_code_is_refused_and_its_export_loads_where_it_is_trusted(
    tiny_models, tmp_path
):
    folder = Path(shutil.copytree(tiny_models.reranker, tmp_path / "own"))
    config = json.loads((folder / "config.json").read_text())
    auto = {"AutoConfig": "OwnConfig", "AutoModelForSequenceClassification": "OwnModel"}
    config |= {
        "model_type": "own_reranker",
        "architectures": ["OwnModel"],
        "auto_map": {name: f"modeling_own.{kind}" for name, kind in auto.items()},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text(RERANKER)
    for to_train in (False, True):
        with pytest.raises(UserError, match=r"code of its own.*add --trust-remote-code"):
            load_reranker(str(folder), CPU, to_train=to_train)
    pairs = [("Where does Ada live?", text) for text in TEXTS]
    reranker = load_reranker(str(folder), TRUSTED)
    assert type(reranker.model[0].model).__name__ == "OwnModel"
    plain = load_reranker(str(tiny_models.reranker), CPU)
    assert reranker.score_pairs(pairs) == plain.score_pairs(pairs)
    reranker.export(tmp_path / "exported")
    shutil.rmtree(folder)
    again = load_reranker(str(tmp_path / "exported"), TRUSTED)
    assert again.score_pairs(pairs) == pytest.approx(plain.score_pairs(pairs))
    with pytest.raises(UserError, match="add --trust-remote-code"):
        load_reranker(str(tmp_path / "exported"), CPU)


@pytest.mark.parametrize("lora", [False, True])
def test_a_trusted_model_trains_and_its_export_loads(own_model, lora, tmp_path):
    role, folder = own_model
    model = LOAD[role](str(folder), TRUSTED)
    assert any(type(module).__name__ == "OwnModel" for module in model.modules())
    if lora:
        task = "FEATURE_EXTRACTION" if role == "retriever" else "CAUSAL_LM"
        model.add_lora(loading.lora(rank=2, alpha=4, dropout=0.0, targets=None, task=task))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.export(tmp_path / "out")
    again = LOAD[role](str(tmp_path / "out"), TRUSTED)
    torch.testing.assert_close(outputs(again), outputs(model), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="--trust-remote-code"):
        LOAD[role](str(tmp_path / "out"), CPU)


@pytest.mark.parametrize("role", ["retriever", "generator"])
def test_an_export_keeps_a_tokenizers_code(tiny_models, tmp_path, role):
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "own")
    file = tmp_path / "own" / "tokenizer_config.json"
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | own))
    (tmp_path / "own" / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    model = LOAD[role](str(tmp_path / "own"), TRUSTED)
    model.export(tmp_path / "out")
    again = LOAD[role](str(tmp_path / "out"), TRUSTED)
    tokenizer = again.tokenizer("query") if role == "retriever" else again.tokenizer
    assert type(tokenizer).__name__ == "Own"
    torch.testing.assert_close(outputs(again), outputs(model), rtol=0, atol=1e-5)


def test_a_module_of_its_own_is_refused_and_exported(tiny_models, tmp_path):
    shutil.copytree(tiny_models.encoder, tmp_path / "own")
    modules = json.loads((tmp_path / "own" / "modules.json").read_text())
    modules.append({"idx": 3, "name": "3", "path": "3_Own", "type": "own_module.Own"})
    (tmp_path / "own" / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "own" / "3_Own").mkdir()
    (tmp_path / "own" / "own_module.py").write_text(MODULE)
    with pytest.raises(UserError, match=r"code of its own, .*--trust-remote-code"):
        load_retriever(str(tmp_path / "own"), CPU)
    retriever = load_retriever(str(tmp_path / "own"), TRUSTED)
    retriever.export(tmp_path / "out")
    again = load_retriever(str(tmp_path / "out"), TRUSTED)
    plain = load_retriever(str(tiny_models.encoder), CPU)
    torch.testing.assert_close(outputs(again), -outputs(plain), rtol=0, atol=1e-5)


def test_a_tokenizers_code_is_refused_too(tiny_models, tmp_path):
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny_models.encoder, folder)
    (folder / "config.json").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("from transformers import BertTokenizerFast as Own\n")
    for load in (
        lambda: TokenLimit.from_pretrained(str(folder), 64),
        lambda: domain_vocabulary(str(folder), []),
    ):
        with pytest.raises(UserError, match=r"brings code of its own.*--trust-remote-code"):
            load()
    assert TokenLimit.from_pretrained(str(folder), 64, trust_remote_code=True).maximum == 62
    assert domain_vocabulary(str(folder), [], trust_remote_code=True) == frozenset()
