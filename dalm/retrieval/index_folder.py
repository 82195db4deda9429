"""Write an in-memory index to a folder, and read it back."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dalm import artifacts
from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.exact import ExactIndex
from dalm.retrieval.hnsw import HnswIndex

FORMAT = 1
DESCRIPTION = "index.json"
PASSAGES = "passages.jsonl"
VECTORS = "vectors.safetensors"
GRAPH = "graph.usearch"
REMEDY = "build the index again"


def save_index(
    index: ExactIndex, folder: str | os.PathLike[str], fingerprint: str | None = None
) -> None:
    """Write an index to `folder`, whole or not at all; an index that is there is replaced.

    `fingerprint` identifies the retriever that made the vectors; `load_index` compares it.

    Raises:
        UserError: the folder holds something else, or can't be written to.
    """
    target = Path(folder)
    if target.exists() and not _replaceable(target):
        raise UserError(f"{folder} exists and is not an index; choose another folder")
    with artifacts.write_folder(target) as staging:
        save_file({"vectors": index.vectors.contiguous()}, staging / VECTORS)
        with artifacts.write_file(staging / PASSAGES) as lines:
            for passage in index.passages:
                lines.write(json.dumps(passage.to_dict(), ensure_ascii=False) + "\n")
        if isinstance(index, HnswIndex):
            index.save_graph(staging / GRAPH)
        description = {
            "format": FORMAT,
            "kind": index.kind,
            "count": index.count(),
            "dim": index.dim,
            "fingerprint": fingerprint,
        }
        artifacts.write_json(staging / DESCRIPTION, description)


def load_index(folder: str | os.PathLike[str], fingerprint: str | None = None) -> ExactIndex:
    """Read an index of either in-memory kind, on the CPU.

    Raises:
        UserError: a file is missing or damaged, counts or dimensions disagree, or `fingerprint` is
            given and is not the one that the index was saved with.
    """
    path = Path(folder)
    try:
        artifacts.verify(path)
        description = artifacts.read_json(path / DESCRIPTION)
        index = _read(path, description)
    except artifacts.DamagedError as error:
        raise UserError(f"{folder} is not a complete index: {error}; {REMEDY}") from error
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"{folder} is not a complete index: {type(error).__name__}: {error}; {REMEDY}"
        ) from error
    made_by = description["fingerprint"]
    if fingerprint is not None and fingerprint != made_by:
        raise UserError(
            f"the index in {folder} was built by the retriever {made_by!r}, not by "
            f"{fingerprint!r}; use that retriever, or {REMEDY}"
        )
    return index


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / DESCRIPTION).is_file() or not any(folder.iterdir()))


def _read(folder: Path, description: dict[str, Any]) -> ExactIndex:
    if description["format"] != FORMAT:
        raise ValueError(f"format {description['format']}, but this version reads {FORMAT}")
    passages = [Passage.from_dict(each) for _, each in artifacts.read_jsonl(folder / PASSAGES)]
    vectors = load_file(folder / VECTORS)["vectors"]
    expected = description["count"], description["dim"]
    if len(passages) != expected[0] or tuple(vectors.shape) != expected:
        raise ValueError(
            f"{len(passages)} passages and vectors {tuple(vectors.shape)}, but expected {expected}"
        )
    if description["kind"] == HnswIndex.kind:
        return HnswIndex.with_graph(passages, vectors, folder / GRAPH)
    if description["kind"] == ExactIndex.kind:
        return ExactIndex(passages, vectors)
    raise ValueError(f"an index of unknown kind {description['kind']!r}")
