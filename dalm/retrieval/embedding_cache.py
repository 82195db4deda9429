"""Vectors of passages on disk: texts in, vectors out, each text encoded once for each encoder."""

import hashlib
import json
import logging
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dalm.errors import UserError
from dalm.models.retriever import Retriever

logger = logging.getLogger(__name__)

FORMAT = 1
SHARD = 8_192  # texts encoded between two writes: what a stopped run loses at most
KEY_BYTES = 16
# Facts about a configuration that leave the vectors alone.
_VOLATILE = {"_name_or_path", "transformers_version", "architectures", "gradient_checkpointing"}


def default_folder() -> Path:
    """Return the folder for vectors in the user's cache, where the platform keeps such things."""
    from platformdirs import user_cache_path

    return user_cache_path("dalm", appauthor=False) / "vectors"


def folder_of(cache: bool, folder: str | None) -> Path | None:
    """Return where vectors are kept by `--cache` and `--cache-dir`; None: nowhere.

    Raises:
        UserError: the folder is a file.
    """
    if not cache:
        return None
    if folder and Path(folder).is_file():
        raise UserError(f"--cache-dir {folder}: a file; name a folder")
    return Path(folder).expanduser() if folder else default_folder()


def encode_passages_cached(
    retriever: Retriever, texts: Sequence[str], folder: Path | None
) -> Float[Tensor, "texts dim"]:
    """Return the unit vectors of passages, fp32, from `folder` as far as they are there.

    `folder/<fingerprint of the encoder>/` holds shards of vectors beside the hashes of their texts,
    not the texts. What is missing is encoded and written a shard at a time, so that a knowledge
    base that grew costs its new passages alone and a stopped run goes on. The order of the texts
    plays no part. A broken shard is encoded anew; a folder that can't be written to is a warning.
    None: nothing is read or written.
    """
    if folder is None:
        return retriever.encode_passages(texts)
    folder = folder / fingerprint(retriever)
    keys = [_key(text) for text in texts]
    places: dict[bytes, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    vectors = torch.empty(len(texts), retriever.dim)
    for found, shard in _shards(folder, places.keys(), retriever.dim):
        for key, vector in zip(found, shard, strict=True):
            vectors[places.pop(key)] = vector
    missing = list(places)
    for start in range(0, len(missing), SHARD):
        part = missing[start : start + SHARD]
        encoded = retriever.encode_passages([texts[places[key][0]] for key in part])
        for key, vector in zip(part, encoded, strict=True):
            vectors[places[key]] = vector
        _write(folder, part, encoded)
    logger.info(
        "vectors    %d passages: %d from the cache, %d encoded (%s)",
        *(len(set(keys)), len(set(keys)) - len(missing), len(missing), folder),
    )
    return vectors


class CachedEncoder:
    """A retriever whose passages' vectors are kept in a folder; None: nowhere."""

    def __init__(self, retriever: Retriever, folder: Path | None) -> None:
        self.retriever = retriever
        self.folder = folder
        self.encode_queries = retriever.encode_queries

    def encode_passages(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the unit vectors of passages, as `encode_passages_cached` does."""
        return encode_passages_cached(self.retriever, texts, self.folder)


def fingerprint(retriever: Retriever) -> str:
    """Return a hash of everything that a passage's vector depends on but its text.

    Weights bit by bit, architecture, adapters with their scaling, pooling, tokenizer, prompt,
    length and precision. For a retriever whose adapters are for queries alone it is that of its
    base: passages are embedded without them.
    """
    hashed = hashlib.blake2b(digest_size=KEY_BYTES)
    for fact in _facts(retriever):
        hashed.update(json.dumps(fact, sort_keys=True, default=str).encode())
    for name, weight in _weights(retriever):
        hashed.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        plain = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hashed.update(plain.numpy().data)
    return hashed.hexdigest()


def _facts(retriever: Retriever) -> Iterator[Any]:
    side = retriever.sides["passage"]
    placement = retriever.placement
    yield [FORMAT, side.prompt, side.max_len, placement.precision, placement.four_bit]
    for module in retriever.model:
        yield [type(module).__name__, getattr(module, "get_config_dict", dict)()]
    backbone = retriever.model.transformers_model
    if backbone is not None:
        config = backbone.config.to_dict()
        yield {name: value for name, value in config.items() if name not in _VOLATILE}
    yield _tokenizer(retriever.model.tokenizer)
    if not retriever.adapts_queries_alone:
        for name, module in retriever.model.named_modules():
            if isinstance(module, BaseTunerLayer):
                yield [name, getattr(module, "scaling", None)]


def _tokenizer(tokenizer: Any) -> Any:
    """Return what a tokenizer does with a text; the last call's padding is no part of it."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return [tokenizer.get_vocab(), tokenizer.special_tokens_map]
    known = json.loads(fast.to_str())
    return {name: value for name, value in known.items() if name not in ("truncation", "padding")}


def _weights(retriever: Retriever) -> Iterator[tuple[str, Tensor]]:
    for name, weight in retriever.model.state_dict().items():
        if not retriever.adapts_queries_alone:
            yield name, weight
        elif ".lora_" not in name:
            yield name.replace(".base_layer.", "."), weight


def _key(text: str) -> bytes:
    """Hash a text as it stands: a passage's id forgets capitals, and an encoder may not."""
    return hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest()


def _shards(
    folder: Path, wanted: Collection[bytes], dim: int
) -> Iterator[tuple[list[bytes], Float[Tensor, "found dim"]]]:
    """Yield the wanted texts of each shard with their vectors; `wanted` may shrink meanwhile."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as shard:
                keys = [row.tobytes() for row in shard.get_tensor("keys").numpy()]
                rows = [row for row, key in enumerate(keys) if key in wanted]
                vectors = shard.get_tensor("vectors")[rows] if rows else torch.empty(0, dim)
        except (SafetensorError, OSError, IndexError) as error:
            logger.warning("%s is broken (%s): its passages are encoded again", file, error)
            continue
        yield [keys[row] for row in rows], vectors


def _write(folder: Path, keys: Sequence[bytes], vectors: Tensor) -> None:
    """Write a shard, whole or not at all; its name follows from its texts."""
    name = hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES).hexdigest()
    file = folder / f"{name}.safetensors"
    growing = file.with_suffix(f".{os.getpid()}.part")
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
    tensors = {"keys": torch.from_numpy(rows.copy()), "vectors": vectors.float().cpu().contiguous()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        growing.write_bytes(save(tensors))  # `save_file` would keep other users out
        growing.replace(file)
    except OSError as error:
        with suppress(OSError):
            growing.unlink()
        logger.warning(
            "vectors couldn't be kept in %s (%s); name another --cache-dir", folder, error
        )
