"""Passages with their vectors: searched, saved, loaded."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.topk import top_k

FORMAT = 1
DESCRIPTION = "index.json"
PASSAGES = "passages.jsonl"
VECTORS = "vectors.safetensors"


class Index:
    """Search passages exactly, by inner product.

    `vectors`, (N, dim), may be stored in any float type and on any device; scores are computed,
    accumulated and returned in fp32. `fingerprint` is the caller's name for the encoder that made
    the vectors; it is saved with them and compared when they are loaded.
    """

    kind: ClassVar[str] = "exact"

    def __init__(
        self,
        passages: Sequence[Passage],
        vectors: Float[Tensor, "N dim"],
        fingerprint: str | None = None,
    ) -> None:
        if vectors.ndim != 2 or len(vectors) != len(passages):
            raise ValueError(f"{len(passages)} passages, but vectors {tuple(vectors.shape)}")
        self.passages = list(passages)
        self.vectors = vectors.detach()
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    @property
    def dim(self) -> int:
        """The number of dimensions of a vector."""
        return self.vectors.shape[1]

    def search(
        self, queries: Float[Tensor, "B dim"], k: int
    ) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
        """Return each query's K = min(k, N) best passages: scores, fp32, and rows, best first.

        Equal scores stand in the order of their rows. Both results lie where the vectors lie.
        Raises UserError if the queries' dimension is another, ValueError for k < 1 and for a
        score that is not a number.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise UserError(
                f"queries of shape {tuple(queries.shape)} don't fit an index of {self.dim} "
                "dimensions: search with the retriever that built the index, or build it again"
            )
        if k < 1:
            raise ValueError(f"k must be at least 1, not {k}")
        scores, rows = self._search(queries.detach().to(self.vectors.device).float(), k)
        if scores.isnan().any():
            raise ValueError("a score is not a number: a query's or a passage's vector holds NaN")
        return scores, rows

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        return top_k(queries, self.vectors, k)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the index to `folder`, whole or not at all; an index that is there is replaced.

        Raises UserError if the folder holds something else.
        """
        target = Path(folder).absolute()
        if target.exists() and not _replaceable(target):
            raise UserError(f"{folder} exists and is not an index: choose another folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        # Beside the target, not in /tmp: a rename is atomic within one file system only.
        new, old = (target.with_name(f".{target.name}.{os.getpid()}.{x}") for x in ("new", "old"))
        try:
            new.mkdir()
            self._write(new)
            if target.exists():
                target.rename(old)
            new.rename(target)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        description = {
            "format": FORMAT,
            "kind": self.kind,
            "count": len(self),
            "dim": self.dim,
            "fingerprint": self.fingerprint,
        }
        save_file({"vectors": self.vectors.contiguous()}, folder / VECTORS)
        with (folder / PASSAGES).open("w", encoding="utf-8", newline="\n") as lines:
            for passage in self.passages:
                lines.write(json.dumps(asdict(passage), ensure_ascii=False) + "\n")
        (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n", "utf-8")

    @classmethod
    def _restore(
        cls,
        folder: Path,  # noqa: ARG003 (a kind of index may read more from it)
        passages: list[Passage],
        vectors: Tensor,
        fingerprint: str | None,
    ) -> "Index":
        return cls(passages, vectors, fingerprint)

    @staticmethod
    def load(folder: str | os.PathLike[str], fingerprint: str | None = None) -> "Index":
        """Read an index of any kind, on the CPU.

        Raises UserError if a file is missing or broken, if counts or dimensions disagree, and if
        `fingerprint` is given and is not the one that the index was saved with.
        """
        try:
            index = _read(Path(folder))
        except UserError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{folder} is not a whole index ({type(error).__name__}: {error}): build it again"
            ) from error
        if fingerprint is not None and fingerprint != index.fingerprint:
            raise UserError(
                f"the index in {folder} was built by the retriever {index.fingerprint!r}, not by "
                f"{fingerprint!r}: use that retriever, or build the index again"
            )
        return index


def index_kind(name: str) -> type[Index]:
    """Return the class of the index called `name`: `exact` or `hnsw`."""
    if name == Index.kind:
        return Index
    from dalm.retrieval.hnsw import HnswIndex  # it builds on this module

    if name == HnswIndex.kind:
        return HnswIndex
    raise UserError(f"no index is called {name!r}: choose {Index.kind!r} or {HnswIndex.kind!r}")


def _replaceable(folder: Path) -> bool:
    return folder.is_dir() and ((folder / DESCRIPTION).is_file() or not any(folder.iterdir()))


def _read(folder: Path) -> Index:
    description = json.loads((folder / DESCRIPTION).read_text("utf-8"))
    if description["format"] != FORMAT:
        raise ValueError(f"format {description['format']}, but this version reads {FORMAT}")
    with (folder / PASSAGES).open(encoding="utf-8", newline="\n") as lines:
        passages = [Passage(**json.loads(line)) for line in lines]
    vectors = load_file(folder / VECTORS)["vectors"]
    expected = description["count"], description["dim"]
    if len(passages) != expected[0] or tuple(vectors.shape) != expected:
        raise ValueError(
            f"{len(passages)} passages and vectors {tuple(vectors.shape)}, but expected {expected}"
        )
    kind = index_kind(description["kind"])
    return kind._restore(folder, passages, vectors, description["fingerprint"])
