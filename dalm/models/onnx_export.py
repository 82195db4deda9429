"""Export an embedding model's transformer to ONNX, in fp32 and int8, beside its weights.

The folder gets the files that sentence-transformers' own export writes, `onnx/model.onnx` and a
quantised one; pooling and normalisation stay modules of the folder. They are written by torch and
quantised by ONNX Runtime: sentence-transformers exports by way of optimum-onnx, whose newest
version (0.1.0) doesn't run with transformers 5.
"""

import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from dalm.errors import UserError
from dalm.models import model_merging
from dalm.models.embedding_model import input_module
from dalm.models.retriever import Retriever

FP32, INT8 = "onnx/model.onnx", "onnx/model_quint8.onnx"
"""Files in a retriever's folder, by the names that sentence-transformers gives them."""
OPTION = "--onnx"
OUTPUT = "last_hidden_state"
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_ONE_FILE = 1.8e9
"""Bytes of weights that fit into the file of the graph, which can't be over 2 GB."""
_EXAMPLES = ("Where does Ada live?", "Ada lives in Ulm, and keeps two cats at home.")


class Written(NamedTuple):
    """What the exported files give."""

    difference: float
    """Largest difference of the fp32 file's vectors from the model's, of unit length · √dim."""
    least_cosine: float
    """Least cosine between the int8 file's vectors and the model's."""


def check_installed(option: str = OPTION) -> None:
    """Refuse an option without the packages that it needs.

    Raises:
        UserError: names the extra.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f'{option} needs {", ".join(missing)}: pip install "indomain[onnx]"')


def export(retriever: Retriever, folder: Path, option: str = OPTION) -> Written:
    """Write a retriever's transformer to ONNX in fp32 and int8, and compare their vectors.

    Adapters are merged; `option` is what asked for it. Weights are quantised to 8 bits, activations
    at each run (dynamically). Both are unsigned: with signed weights a CPU without VNNI adds up in
    16 bits, and overflows.

    Raises:
        UserError: it has no single transformer, it can't be exported, or its vectors change.
    """
    module = _transformer_of(retriever, option)
    (folder / FP32).parent.mkdir(exist_ok=True)
    with _quiet():
        try:
            _export(module, folder / FP32)
            _quantise(folder / FP32, folder / INT8)
        except Exception as error:  # torch's exporter raises errors of every stage
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise UserError(
                f"{option}: retriever {retriever.name} can't be exported to ONNX "
                f"({lines[0][:200]}); leave out {option}"
            ) from error
    expected = model_merging.outputs(retriever)
    difference = float((running(retriever, folder / FP32) - expected).abs().max())
    if not difference <= model_merging.TOLERANCE:
        raise UserError(
            f"{option}: retriever {retriever.name} gives other vectors in ONNX (they differ by "
            f"{difference:.2g}); leave out {option}"
        )
    shape = (-1, retriever.dim)
    found = running(retriever, folder / INT8)
    cosine = nn.functional.cosine_similarity(found.view(shape), expected.view(shape))
    return Written(difference, float(cosine.min()))


def _transformer_of(retriever: Retriever, option: str) -> Transformer:
    module = input_module(retriever.model, "query")
    if (
        not isinstance(module, Transformer)
        or module is not input_module(retriever.model, "passage")
        or module.modality_config["text"]["method"] != "forward"
    ):
        raise UserError(
            f"{option}: retriever {retriever.name} begins with "
            f"{type(retriever.model[0]).__name__}, and only a single transformer is exported to "
            f"ONNX; leave out {option}"
        )
    transformer: Transformer = module
    return transformer


class _Plain(nn.Module):
    """A transformer that takes tensors in order and returns the vectors of the tokens."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        given = dict(zip(self.names, inputs, strict=True))
        vectors: Tensor = self.model(**given, return_dict=True)[OUTPUT]
        return vectors


def _export(module: Transformer, file: Path) -> None:
    """Write the graph for any number of texts and tokens."""
    tokenizer: Any = module.tokenizer
    encoded = tokenizer(list(_EXAMPLES), padding=True, return_tensors="pt")
    takes = module.model_forward_params
    names = [each for each in encoded if takes is None or each in takes]
    size = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    model = _merged(module.model).cpu().eval()
    torch.onnx.export(
        _Plain(model, names),
        tuple(encoded[each] for each in names),
        file,
        input_names=names,
        output_names=[OUTPUT],
        dynamic_shapes=(tuple(size for _ in names),),
        dynamo=True,
        external_data=_size(model) > _ONE_FILE,
        verbose=False,
    )


def _merged(model: nn.Module) -> nn.Module:
    """Return a model with its adapters merged: itself if it has none, else a copy."""
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return model
    model = copy.deepcopy(model)
    model_merging.fold_layers(model)
    return model


def _size(model: nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())


def _quantise(file: Path, to: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(file, to, weight_type=QuantType.QUInt8)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch and ONNX Runtime say of their own inner workings."""
    root = logging.getLogger()
    level = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


# Running an exported file


class OnnxModel(nn.Module):
    """An exported transformer that runs in ONNX Runtime in place of the one in torch."""

    device = torch.device("cpu")

    def __init__(self, file: Path, config: Any, threads: int = 0) -> None:
        import onnxruntime

        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: as many as there are cores
        self.config = config
        self.session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        self.names = [each.name for each in self.session.get_inputs()]

    def forward(self, **features: Any) -> BaseModelOutput:
        """Return the vectors of the tokens."""
        nothing = torch.zeros_like(features["input_ids"])  # of token types: one text
        given = {name: features.get(name, nothing).long().numpy() for name in self.names}
        (found,) = self.session.run([OUTPUT], given)
        return BaseModelOutput(last_hidden_state=torch.from_numpy(found))


def running(retriever: Retriever, file: Path) -> Tensor:
    """Return what an exported file gives for the probes, as `model_merging.outputs` does."""
    module = input_module(retriever.model, "query")
    model = module.model
    try:
        module.model = OnnxModel(file, model.config)
        return model_merging.outputs(retriever)
    finally:
        module.model = model
