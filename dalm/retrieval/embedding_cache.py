"""Cache the vectors of passages on disk, so that an encoder encodes each text once."""

import hashlib
import json
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sentence_transformers.base.modules import Module
from torch import Tensor

from dalm import artifacts
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.models.counting_encoder import CountingEncoder
from dalm.models.fingerprint import (
    adapter_scalings,
    hash_of,
    plain_config,
    tokenizer_configuration,
)
from dalm.models.loading import hash_weights
from dalm.models.query_adapter import adapter_router
from dalm.models.retriever import Retriever
from dalm.progress import track

logger = logging.getLogger(__name__)

FORMAT = 2
SHARD = 8_192  # texts encoded between two writes: the most that a killed run loses
KEY_BYTES = 16


def default_folder() -> Path:
    """Return the folder for vectors in the platform's cache folder of the user."""
    from platformdirs import user_cache_path

    return user_cache_path("dalm", appauthor=False) / "vectors"


def folder_of(cache: bool, folder: str | None) -> Path | None:
    """Return the folder of the cache by `--cache` and `--cache-dir`; None without a cache.

    Raises:
        UserError: the folder is a file.
    """
    if not cache:
        return None
    if folder and Path(folder).is_file():
        raise UserError(f"--cache-dir {folder}: a file; name a folder")
    return user_path(folder) if folder else default_folder()


def encode_passages_cached(
    retriever: Retriever,
    texts: Sequence[str],
    folder: Path | None,
    encoder: CountingEncoder | None = None,
) -> Float[Tensor, "texts dim"]:
    """Return the vectors of passages, fp32, from the cache in `folder` where it has them.

    `folder/<fingerprint of the encoder>/` holds shards of vectors with the hashes of their texts,
    not the texts. Missing vectors are encoded and written shard by shard: of a knowledge base that
    grew only the new passages are encoded, and a killed run resumes. The order of the texts doesn't
    matter. A damaged shard is encoded again; a folder that can't be written to is a warning. None:
    nothing is read or written. How many of the texts encoded are cut is logged. `encoder` may
    encode in a pool.
    """
    encoder = encoder or CountingEncoder(retriever)
    folder = folder and folder / fingerprint(retriever)
    keys = [_key(text) for text in texts]
    places: dict[bytes, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    vectors = torch.empty(len(texts), retriever.dim)
    for found, shard in _shards(folder, places.keys(), retriever.dim) if folder else ():
        for key, vector in zip(found, shard, strict=True):
            vectors[places.pop(key)] = vector
    missing = list(places)
    parts = [missing[start : start + SHARD] for start in range(0, len(missing), SHARD)]
    blocks = ([texts[places[key][0]] for key in part] for part in parts)
    with closing(encoder.encode_blocks(blocks)) as encoded:
        done = zip(parts, encoded, strict=True)
        for part, block in track(done, len(missing), "encoding passages", "passages", _size):
            for key, vector in zip(part, block, strict=True):
                vectors[places[key]] = vector
            if folder:
                _write(folder, part, block)
    if folder:
        logger.info(
            "vectors    %d passages: %d from the cache, %d encoded (%s)",
            *(len(set(keys)), len(set(keys)) - len(missing), len(missing), folder),
        )
    encoder.tell_cut()
    return vectors


def _size(block: tuple[Sequence[bytes], Tensor]) -> int:
    return len(block[0])


class CachedEncoder:
    """A retriever whose vectors of passages are cached in a folder; None: no cache."""

    def __init__(self, retriever: Retriever, folder: Path | None) -> None:
        self.retriever = retriever
        self.folder = folder
        self.encode_queries = retriever.encode_queries

    def encode_passages(self, texts: Sequence[str]) -> Float[Tensor, "texts dim"]:
        """Return the vectors of passages, as `encode_passages_cached` does."""
        return encode_passages_cached(self.retriever, texts, self.folder)


def fingerprint(retriever: Retriever, *, with_precision: bool = True) -> str:
    """Return a hash of everything that a passage's vector depends on except its text.

    That is the bytes of the weights, architecture, adapters with their scaling, pooling, tokenizer,
    prompt, length and, unless told otherwise, precision and backend. For a retriever with adapters
    for queries only it is that of its base, which embeds the passages.
    """
    hashed = hashlib.blake2b(digest_size=KEY_BYTES)
    for part in _configuration(retriever, with_precision):
        hashed.update(json.dumps(part, sort_keys=True, default=str).encode())
    hash_weights(hashed, _weights(retriever))
    return hashed.hexdigest()


def query_fingerprint(retriever: Retriever) -> str:
    """Return a hash of the adapters that only queries pass; empty: there are none."""
    found = [(name, weight) for name, weight, for_queries in _parts(retriever) if for_queries]
    if not found:
        return ""
    return hash_of(adapter_scalings(retriever.model), found)


def _configuration(retriever: Retriever, with_precision: bool) -> Iterator[Any]:
    side = retriever.sides["passage"]
    placement = retriever.placement
    precision: list[Any] = [placement.precision, placement.four_bit] if with_precision else []
    if with_precision and retriever.backend != "torch":
        precision.append(retriever.backend)
    yield [FORMAT, side.prompt, side.max_len, *precision]
    router = adapter_router(retriever.model)
    of_queries = set() if router is None else {*router.modules()}
    for module in retriever.model.modules():
        if isinstance(module, Module) and module not in of_queries:
            yield [type(module).__name__, module.get_config_dict()]
    if retriever.model.truncate_dim is not None:
        yield ["truncate_dim", retriever.model.truncate_dim]
    backbone = retriever.model.transformers_model
    if backbone is not None:
        yield plain_config(backbone.config)
    yield tokenizer_configuration(retriever.tokenizer("passage"))
    if not retriever.adapts_queries_alone:
        yield from adapter_scalings(retriever.model)


def _weights(retriever: Retriever) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that passages pass, by their names in the base."""
    for name, weight, for_queries in _parts(retriever):
        if not for_queries:
            alone = retriever.adapts_queries_alone
            yield name.replace(".base_layer.", ".") if alone else name, weight


def _parts(retriever: Retriever) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield each weight with its name, and whether only queries pass it."""
    router = adapter_router(retriever.model)
    modules = retriever.model.named_children()
    adapter = tuple(f"{name}." for name, module in modules if module is router)
    for name, weight in retriever.model.state_dict().items():
        lora = retriever.adapts_queries_alone and ".lora_" in name
        yield name, weight, lora or name.startswith(adapter)


def _key(text: str) -> bytes:
    """Hash a text exactly: a passage's id ignores case, and an encoder may not."""
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
        except (SafetensorError, OSError, IndexError, ValueError, TypeError) as error:
            logger.warning("%s is damaged (%s): its passages are encoded again", file, error)
            continue
        if vectors.shape != (len(rows), dim) or not bool(vectors.isfinite().all()):
            logger.warning("%s is damaged (no vectors): its passages are encoded again", file)
            continue
        yield [keys[row] for row in rows], vectors


def _write(folder: Path, keys: Sequence[bytes], vectors: Tensor) -> None:
    """Write a shard, whole or not at all; its name is a hash of its texts."""
    name = hashlib.blake2b(b"".join(keys), digest_size=KEY_BYTES).hexdigest()
    rows = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), KEY_BYTES)
    tensors = {"keys": torch.from_numpy(rows.copy()), "vectors": vectors.float().cpu().contiguous()}
    try:
        with artifacts.write_file(folder / f"{name}.safetensors", "wb") as out:
            out.write(save(tensors))  # `save_file` gives other users no right to read
    except UserError as error:
        logger.warning("vectors are not cached (%s); name another --cache-dir", error)
