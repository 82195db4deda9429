"""Let a retriever encode by ONNX Runtime in int8 instead of torch (`--encoder-backend`).

The file is exported from the loaded weights, and kept in the user's cache by their fingerprint.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch
from torch import nn

from dalm import artifacts, progress
from dalm.errors import UserError
from dalm.models import onnx_export
from dalm.models.embedding_model import input_module
from dalm.models.retriever import Retriever
from dalm.retrieval.embedding_cache import default_folder, fingerprint

logger = logging.getLogger(__name__)

TORCH: Final = "torch"
ONNX_INT8: Final = "onnx-int8"
OPTION = f"--encoder-backend {ONNX_INT8}"


def check_backend(backend: str | None, named_by: str = OPTION) -> None:
    """Refuse a backend that isn't there.

    Raises:
        UserError: names the extra that is missing, or a backend that this version doesn't know.
    """
    if backend == ONNX_INT8:
        onnx_export.check_installed(named_by)
    elif backend not in (None, TORCH):
        raise UserError(
            f"{named_by} is encoded by {backend}, which this version doesn't know; install a newer "
            "version of indomain"
        )


def use_backend(retriever: Retriever, backend: str | None, named_by: str = OPTION) -> None:
    """Let a retriever encode by a backend; `named_by` is the option or the index that wants it.

    Raises:
        UserError: a package is missing, or the retriever doesn't run in ONNX, or not here.
    """
    check_backend(backend, named_by)
    if backend != ONNX_INT8:
        return
    named_by = named_by if named_by == OPTION else f"{named_by} is encoded by {ONNX_INT8}: it"
    if retriever.device.type != "cpu":
        raise UserError(f"{named_by} runs on a CPU; add --device cpu")
    if retriever.adapts_queries_alone:
        raise UserError(
            f"{OPTION}: retriever {retriever.name} has adapters for queries only, which ONNX would "
            "apply to passages, too; leave it out"
        )
    retriever.placement = replace(retriever.placement, precision="fp32")
    retriever.encode_by(ONNX_INT8, _model(retriever))


def _model(retriever: Retriever) -> nn.Module:
    """Return the model in int8: from the cache, or exported and kept there."""
    of_weights = fingerprint(retriever, with_precision=False)
    file = default_folder().parent / "onnx" / of_weights / Path(onnx_export.INT8).name
    if file.is_file():
        try:
            return _opened(retriever, file)
        except Exception as error:  # ONNX Runtime has a class for every reason
            logger.warning("%s is damaged (%s): exported again", file, str(error)[:200])
    with TemporaryDirectory() as folder, progress.waiting("exporting to ONNX"):
        written = onnx_export.export(retriever, Path(folder), OPTION)
        logger.info(
            "onnx       int8: cosine of at least %.3f with torch's vectors (%s)",
            *(written.least_cosine, file),
        )
        made = Path(folder) / onnx_export.INT8
        try:
            with artifacts.stage_file(file) as staging:
                shutil.copyfile(made, staging)
        except UserError as error:
            logger.warning("the exported retriever is not kept (%s)", error)
        return _opened(retriever, made)


def _opened(retriever: Retriever, file: Path) -> nn.Module:
    config = input_module(retriever.model, "passage").model.config
    return onnx_export.OnnxModel(file, config, torch.get_num_threads())
