"""Measure held-out texts in bits per byte, a figure that doesn't depend on the tokenizer.

Bits per byte = Σ −log₂ p(token | its document's tokens before it) / bytes of the texts in UTF-8.
The end of a document has no bytes and isn't counted. Long documents are cut into windows, as in
training.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch

from dalm.collectives import total
from dalm.distributed import share
from dalm.models.generator import Generator
from dalm.models.loading import evaluating
from dalm.models.packed_attention import Way, packed_log_probs
from dalm.progress import track
from dalm.training.data.packing import PackedBatch, PackedRows


class HeldOutTexts:
    """Hold texts that aren't trained on; every rank measures its share of them."""

    def __init__(self, name: str, rows: PackedRows, texts: Sequence[str]) -> None:
        self.name = name
        """domain or general."""
        self.rows = rows
        self.documents = len(texts)
        self.bytes = sum(len(text.encode()) for text in texts)

    @torch.no_grad()
    def bits_per_byte(self, generator: Generator, way: Way, batch: int) -> float:
        """Return the bits per byte, computed on `batch` rows at a time."""
        rows = share(range(len(self.rows)))
        nats = 0.0
        with evaluating(generator), generator.placement.autocast():
            starts = range(0, len(rows), batch)
            for start in track(starts, len(starts), f"{self.name} text", "batch"):
                packed = cast(PackedBatch, self.rows.collate(rows[start : start + batch]))
                tokens, positions, scored = (
                    each.to(generator.device)
                    for each in (packed["tokens"], packed["positions"], packed["scored"])
                )
                found = packed_log_probs(generator, tokens, positions, scored, way)
                nats -= float(found.double().sum())
        return total(nats, generator.device) / math.log(2) / self.bytes
