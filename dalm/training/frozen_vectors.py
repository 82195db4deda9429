"""Encode once, before training, the texts whose vectors training leaves as they are.

With a frozen passage encoder those are the passages', with a query adapter the questions' as well,
as they enter it: a step is then a product of a few matrices.
"""

import logging
import time
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from dalm.display import duration
from dalm.models.batching import Ragged
from dalm.models.retriever_sides import Kind
from dalm.training.data.batches import Rows, spread_rows
from dalm.training.dry_run import many

logger = logging.getLogger(__name__)

SAMPLE = 64
"""Texts of each kind that a dry run encodes."""


Encode = Callable[[Sequence[str]], Float[Tensor, "texts dim"]]


def encode(rows: Rows, encode_passages: Encode, *, dry_run: bool) -> None:
    """Let batches hold the vectors that training doesn't change, beside the tokens.

    A dry run encodes a sample, says how long all would take, and has other texts' vectors stand for
    those that are missing.
    """
    retriever = rows.retriever
    if retriever.trains_passages:
        return
    if dry_run:
        rows.base.vectors = _sampled(rows, rows.base.tokens, "passage")
    else:
        texts = [passage.text for passage in rows.base.passages]
        rows.base.vectors = encode_passages(texts)
    if retriever.trains_adapter_alone:
        tokens = rows.query_tokens
        if dry_run:
            rows.query_vectors = _sampled(rows, tokens, "query")
        else:
            every = [tokens[row] for row in range(len(tokens))]
            rows.query_vectors = retriever.encode_frozen(every, "query")


def _sampled(rows: Rows, tokens: Ragged, kind: Kind) -> Float[Tensor, "texts dim"]:
    count = len(tokens)
    places = spread_rows(count, SAMPLE)
    start = time.perf_counter()
    vectors = rows.retriever.encode_frozen([tokens[place] for place in places], kind)
    share = tokens.lengths[places].sum() / max(1, tokens.lengths.sum())
    what = {"query": "questions", "passage": "passages"}[kind]
    logger.info(
        "encoding   %s %s once, before the first update: about %s, by %d of them",
        *(many(count), what),
        *(duration((time.perf_counter() - start) / share), len(places)),
    )
    return vectors[torch.arange(count) * len(vectors) // count]
