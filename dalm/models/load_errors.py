"""Explain why a model can't be loaded: its kind, or the file that is damaged, and what to do.

Libraries name the exception that ended the attempt; what a user needs is the kind of model or the
file. So the folder is looked at when loading has failed, and only then.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import is_offline_mode, try_to_load_from_cache

from dalm.errors import reason_of
from dalm.file_reading import user_path

LFS_POINTER = b"version https://git-lfs.github.com"
_WEIGHTS = (".safetensors", ".bin", ".pt")
REMOTE_CODE = (
    "it brings code of its own, which isn't run unless you ask for it: read it, then add "
    "--trust-remote-code"
)


NO_TOKENIZER = (
    "it has no tokenizer (no tokenizer.json or vocabulary); copy the tokenizer's files of the "
    "model that it was trained from"
)


class Failure(NamedTuple):
    """A library's failure to load a model, and what the model's files say."""

    error: Exception
    role: str
    folder: Path | None
    config: dict[str, Any]


def explain(error: Exception, name: str, role: str) -> str:
    """Return the reason and a remedy, in one line, for a model that a library failed to load."""
    folder = folder_of(name)
    config = _read(folder / "config.json") if folder is not None else {}
    failure = Failure(error, role, folder, config)
    for explanation in _EXPLANATIONS:
        if found := explanation(failure):
            return found
    if folder is None and is_offline_mode():
        return (
            "it is no folder here and isn't in the hub's cache, and HF_HUB_OFFLINE or "
            "TRANSFORMERS_OFFLINE forbids downloading it; unset that, or name a folder"
        )
    if folder is None:
        return f"{reason_of(error)}; is it a folder here, or is the hub out of reach?"
    return f"{reason_of(error)}; is a file missing or broken?"


def _remote_code(failure: Failure) -> str | None:
    return REMOTE_CODE if "trust_remote_code" in str(failure.error) else None


def _damaged(failure: Failure) -> str | None:
    return None if failure.folder is None else next(damaged_files(failure.folder), None)


def _encoder_decoder(failure: Failure) -> str | None:
    if failure.role.startswith("generator") and failure.config.get("is_encoder_decoder"):
        kind = failure.config.get("model_type", "it")
        return f"{kind} is an encoder–decoder; name a decoder-only (causal) language model"
    return None


def _out_of_memory(failure: Failure) -> str | None:
    if isinstance(failure.error, torch.OutOfMemoryError | MemoryError):
        return f"{reason_of(failure.error)}; it doesn't fit into memory: name a smaller model"
    return None


def _missing_base(failure: Failure) -> str | None:
    folder = failure.folder
    base = _read(folder / "adapter_config.json").get("base_model_name_or_path") if folder else None
    if base is None or Path(str(base)).expanduser().is_dir():
        return None
    return (
        f"it is a LoRA adapter on {base}, which is no folder here and can't be had from the hub "
        f"({reason_of(failure.error)}); start where its training did, or fold it into its base: "
        f"dalm merge {folder} --base BASE --output-dir MERGED"
    )


def _quantised(failure: Failure) -> str | None:
    found = failure.config.get("quantization_config")
    if not isinstance(found, dict):
        return None
    return (
        f"its weights are quantised ({found.get('quant_method', 'unknown')}): "
        f"{reason_of(failure.error)}; install what reads them, or name the model before "
        "quantisation"
    )


def _unknown_architecture(failure: Failure) -> str | None:
    if "does not recognize this architecture" not in str(failure.error):
        return None
    return (
        f"transformers {transformers.__version__} doesn't know the architecture "
        f"{failure.config.get('model_type', 'of this model')}; update transformers, or name "
        "another model"
    )


def _other_shapes(failure: Failure) -> str | None:
    # transformers puts the shapes themselves into a report that it logs.
    if "ignore_mismatched_sizes" not in str(failure.error):
        return None
    return (
        "its weights have other shapes than its config.json says; copy or download both again, "
        "from one version of the model"
    )


def _no_tokenizer(failure: Failure) -> str | None:
    folder = failure.folder
    if folder is None or "token" not in str(failure.error).lower():
        return None
    if any(
        each for kind in _VOCABULARIES for each in (*folder.glob(kind), *folder.glob(f"*/{kind}"))
    ):
        return None
    return NO_TOKENIZER


def _missing_package(failure: Failure) -> str | None:
    if isinstance(failure.error, ImportError):
        return f"{reason_of(failure.error)}; install what it needs, or name another model"
    return None


_OWN_FORMS = {
    *("config.json", "adapter_config.json", "generation_config.json", "tokenizer.json"),
    *("tokenizer_config.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    "modules.json",
}
"""Files of which it is known that they hold an object, or a list of modules."""
_VOCABULARIES = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "tekken.json", "spiece*")
_EXPLANATIONS = (
    _remote_code,
    _damaged,
    _encoder_decoder,
    _out_of_memory,
    _missing_base,
    _quantised,
    _unknown_architecture,
    _other_shapes,
    _missing_package,
    _no_tokenizer,
)
"""Tried in this order; each returns None where it doesn't apply."""


def folder_of(name: str) -> Path | None:
    """Return the folder of a model's files, here or in the hub's cache; None: there is none."""
    path = user_path(name)
    if path.is_dir():
        return path
    try:
        found = try_to_load_from_cache(name, "config.json")
    except ValueError:  # no hub name
        return None
    return Path(found).parent if isinstance(found, str) else None


def damaged_files(folder: Path) -> Iterator[str]:
    """Yield what is wrong with each damaged file of a model, with a remedy.

    A Git LFS pointer in place of a file, an empty or truncated safetensors file, broken JSON, and a
    shard that the index names and the folder lacks.
    """
    for file in sorted([*folder.glob("*"), *folder.glob("*/*")]):
        if file.suffix == ".json" and file.is_dir():
            yield f"{file.relative_to(folder)} is a folder; copy or download the file again"
        if not file.is_file() or file.suffix not in (*_WEIGHTS, ".json", ".model"):
            continue
        name = file.relative_to(folder)
        try:
            with file.open("rb") as opened:
                start = opened.read(len(LFS_POINTER))
        except OSError as error:
            yield f"{name} can't be read ({error.strerror}); check its rights"
            continue
        if start == LFS_POINTER:
            yield f"{name} is a Git LFS pointer, not the file; fetch it with git lfs pull"
        elif file.suffix == ".json":
            if (problem := _broken_json(file)) is not None:
                yield f"{name} is broken ({problem}); copy or download it again"
            elif name.name.endswith(".index.json"):
                yield from _missing_shards(file)
        elif file.suffix == ".safetensors" and (problem := _broken_weights(file)) is not None:
            yield f"{name} is broken ({problem}); copy or download it again"


def _broken_json(file: Path) -> str | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        return f"no JSON: {reason_of(error)}"
    wanted = list if file.name == "modules.json" else dict
    if file.name in _OWN_FORMS and type(found) is not wanted:
        return f"a {type(found).__name__}, no {'list' if wanted is list else 'object'}"
    return None


def _broken_weights(file: Path) -> str | None:
    """Compare a safetensors file's size with what its header says."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = struct.unpack("<Q", opened.read(8).ljust(8, b"\0"))[0]
        if size < 8 or length > size - 8:
            return f"it has {size:,} bytes, less than its header"
        try:
            header = json.loads(opened.read(length))
            ends = [entry["data_offsets"][1] for key, entry in header.items() if key[:2] != "__"]
        except (ValueError, LookupError, TypeError, AttributeError):
            return "its header is no JSON"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"it has {size:,} of {expected:,} bytes"


def _missing_shards(index: Path) -> Iterator[str]:
    shards = _read(index).get("weight_map")
    if isinstance(shards, dict):
        for shard in sorted({str(each) for each in shards.values()}):
            if not (index.parent / shard).is_file():
                yield f"{shard} is missing, which {index.name} names; copy or download it again"


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
