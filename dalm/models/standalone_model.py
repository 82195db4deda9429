"""Write a trained model as a folder that other libraries and servers read without DALM.

LoRA adapters are merged into their base; the folder is loaded again from an empty working directory
and has to give the outputs of the trained model.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoTokenizer

from dalm import artifacts
from dalm.errors import UserError
from dalm.models import adapter_base, loading, model_merging, ollama_modelfile, plain_messages
from dalm.models.generator import Generator
from dalm.models.model_merging import Merged, Role
from dalm.models.retriever import Retriever
from dalm.models.retriever_sides import saved_sides

_LICENCES = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
ROLES: tuple[Role, ...] = ("retriever", "generator")
_PASSAGES = ("Ada lives in Ulm.", "Bela keeps two cats (both are grey)")
_QUESTION = "Where does Ada live?"
"""Passages and a question with which chat template and training are compared."""


class Standalone(NamedTuple):
    """What was written."""

    model: Retriever | Generator
    base: str | None
    """What LoRA adapters were merged into; None: the folder held full weights."""
    dtype: torch.dtype
    difference: float
    """Largest difference of outputs from the trained model's, both in fp32."""
    rounding: float
    """Largest difference of outputs that rounding to `dtype` makes."""


def models_in(folder: Path) -> dict[Role, Path]:
    """Return the models of a run's folder, or the one that the folder itself is.

    Raises:
        UserError: no folder, or no model in it.
    """
    found = {role: folder / role for role in ROLES if (folder / role).is_dir()}
    if not found:
        return {model_merging.role_of(folder): folder}
    for role, place in found.items():
        if (holds := model_merging.role_of(place)) != role:
            raise UserError(f"{place} holds a {holds}; name the folder of one model")
    return found


def check_exportable(folder: Path, role: Role) -> None:
    """Refuse a model that one folder can't hold, before anything is loaded.

    Raises:
        UserError: it embeds queries only, or its base is unknown or gone.
    """
    sides = saved_sides(str(folder)) if role == "retriever" else {}
    if sides.get("adapts_queries_alone") or sides.get("passages_by"):
        raise UserError(
            f"retriever {folder} embeds queries only and its base embeds the passages: no single "
            "embedding model gives both; `dalm merge` writes the encoder of the queries"
        )
    if not loading.has_adapter(folder):
        return
    adapter_base.check_base(str(folder), role)
    if adapter_base.base_of(folder) is None:
        raise UserError(
            f"adapter {folder} doesn't name its base; merge it first: "
            f"dalm merge {folder} --base BASE --output-dir MERGED"
        )


def write(
    role: Role, tuned: Path, folder: Path, dtype: str, placement: loading.Placement
) -> Standalone:
    """Write a trained model, and compare what was written with it.

    `dtype` is one of `loading.DTYPES`, or `auto` for that of the base's files.

    Raises:
        UserError: it can't be loaded or merged, or outputs differ by more than rounding explains.
    """
    base = model_merging.base_of(tuned, None, 1.0) if loading.has_adapter(tuned) else None
    if base is None:
        model = model_merging.load(role, str(tuned), placement)
        merged = Merged(model, model_merging.outputs(model), queries_only=False)
    else:
        merged = model_merging.merge_weights(role, tuned, base, 1.0, placement)
    written_in = model_merging.dtype_of(
        base or str(tuned), dtype, trust_remote_code=placement.trust_remote_code
    )
    model = merged.model
    if isinstance(model, Generator):
        # A server stops at these tokens; the base's files may lack the end of a turn.
        model.causal.generation_config.eos_token_id = model.end_tokens
    figures = model_merging.write_model(merged, role, base or str(tuned), folder, written_in)
    if isinstance(model, Generator):
        model.export_tokenizer(folder, from_messages=True)
        if (modelfile := ollama_modelfile.modelfile_of(model)) is not None:
            artifacts.write_text(folder / "Modelfile", modelfile)
    return Standalone(model, base, written_in, *figures)


def copy_licences(tuned: Path, base: str | None, folder: Path) -> None:
    """Copy the licence files of a model's own folder and of its base's, where they are folders."""
    for source in (tuned if base is None else Path(base), tuned):
        for file in (file for name in _LICENCES for file in source.glob(name)):
            if file.is_file():
                shutil.copy(file, folder / file.name)


def forms_that_differ(generator: Generator, folder: Path) -> list[str]:
    """Return the forms of a request whose tokens differ from the prompt of the training.

    The tokenizer is loaded from the folder, in an empty working directory.
    """
    place = folder.resolve()
    trusted = generator.placement.trust_remote_code
    with loading.elsewhere():
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusted)
    passages = [row.tolist() for row in generator.tokenise_passages(_PASSAGES)]
    (query,) = (row.tolist() for row in generator.tokenise_queries([_QUESTION]))
    expected = generator.frame.join(passages, query, None, 2**31).tokens
    found = plain_messages.forms(generator.template, _PASSAGES, _QUESTION)
    return [
        name for name, form in found.items() if plain_messages.tokens(tokenizer, form) != expected
    ]
