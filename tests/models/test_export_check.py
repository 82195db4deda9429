"""An export is loaded from another working directory and compared with the model in memory."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dalm.errors import UserError
from dalm.models import export_check, loading
from dalm.models.generator import load_generator
from dalm.models.retriever import load_retriever

CPU = loading.place("cpu", "fp32")
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@pytest.fixture(params=["retriever", "generator", "retriever LoRA", "generator LoRA"])
def exported(request, tiny_models, tmp_path, monkeypatch):
    """A model whose base was named by a relative path, changed a little, and its export."""
    role = request.param.split()[0]
    source = tiny_models.encoder if role == "retriever" else tiny_models.generator
    shutil.copytree(source, tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    model = (load_retriever if role == "retriever" else load_generator)("base", CPU)
    if "LoRA" in request.param:
        task = "FEATURE_EXTRACTION" if role == "retriever" else "CAUSAL_LM"
        model.add_lora(loading.lora(rank=2, alpha=4, dropout=0.1, targets=None, task=task))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    model.export(Path("out"))
    return model, Path("out")


def change_a_weight(folder: Path) -> None:
    [file] = folder.glob("*.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if "layer" in name)
    weights[name] = weights[name] + 1
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize("limit", [export_check.WHOLE, 0])
def test_an_export_is_as_the_model_in_memory(exported, limit, monkeypatch):
    monkeypatch.setattr(export_check, "WHOLE", limit)
    model, folder = exported
    here = Path.cwd()
    said = export_check.check_export(model, folder)
    assert Path.cwd() == here
    if limit:
        assert said.startswith("loads from another folder, with the same ")
    else:
        assert said.startswith("configuration and tokenizer load from another folder, ")
        assert said.endswith(" tensors compared"), "every tensor in the files is known by its name"
    change_a_weight(folder)
    with pytest.raises(UserError, match=r"doesn't (give what the model in memory gives|hold what)"):
        export_check.check_export(model, folder)
    assert Path.cwd() == here


@pytest.mark.parametrize("wrapped", [False, True])
def test_where_memory_holds_one_copy_the_weights_are_compared(exported, wrapped, monkeypatch):
    def load(*_):
        if wrapped:  # as `loading.loaded` does
            raise UserError("it doesn't fit into memory") from torch.OutOfMemoryError("full")
        raise MemoryError

    monkeypatch.setattr(export_check.model_merging, "load", load)
    assert "tensors compared" in export_check.check_export(*exported)


@pytest.mark.parametrize("limit", [export_check.WHOLE, 0])
def test_an_export_without_its_tokenizer_is_refused(exported, limit, monkeypatch):
    monkeypatch.setattr(export_check, "WHOLE", limit)
    model, folder = exported
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"tokenizer.json is broken"):
        export_check.check_export(model, folder)


def test_a_base_is_named_absolutely_and_missed_by_name(exported):
    model, folder = exported
    config = folder / "adapter_config.json"
    if not config.is_file():
        return
    base = Path("base").resolve()
    assert json.loads(config.read_text())["base_model_name_or_path"] == str(base)
    base.rename("moved")
    load = load_retriever if hasattr(model, "encode_queries") else load_generator
    with pytest.raises(UserError) as refused:
        load(str(folder), CPU)
    assert f"out is a LoRA adapter on {base}, which isn't there; put the base back" in str(
        refused.value
    )
