"""Find how many tokens a model has positions for, by one short forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ENDLESS = 1_000_000
"""A tokenizer's maximum above this means that it has none."""

FEW = 4
"""Tokens of a text too short to tell positions from other ids."""


class _TableLookups(TorchDispatchMode):
    """Note each embedding table's number of rows with the rows that a forward pass reads."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.ops.aten.embedding.default:
            self.seen.append((args[0].shape[0], args[1]))
        return func(*args, **(kwargs or {}))


def position_limit(run: Callable[[], Any], tokens: int) -> int | None:
    """Return how many tokens fit into the model's table of positions; None: it has no table.

    `run` is a forward pass of one text of `tokens` tokens, without padding; its token ids must not
    ascend one by one. The rows that it reads of the table of positions do, and the first one shows
    where counting begins: of RoBERTa's 514 rows two are never read, so it takes 512 tokens.
    """
    with torch.no_grad(), _TableLookups() as lookups:
        run()
    if tokens < FEW:
        return None
    limits = []
    for count, rows in lookups.seen:
        line = rows.reshape(-1)[:tokens]  # some architectures pad the text themselves
        if len(line) == tokens and bool((line.diff() == 1).all()):
            limits.append(count - int(line[0]))
    return min(limits, default=None)


def least(*limits: float | None) -> int | None:
    """Return the lowest of several limits, each None or endless where there is none."""
    known = [int(limit) for limit in limits if limit is not None and 0 < limit < ENDLESS]
    return min(known, default=None)
