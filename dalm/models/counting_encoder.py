"""Encode passages, here or in a pool of workers, and count those that a maximum length cuts."""

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor

from dalm.models.cut_texts import characters_read, tell_cut_texts
from dalm.models.retriever import Retriever
from dalm.scaling.pool import InProcess, Pool

Encode = Callable[[Sequence[str]], tuple[Float[Tensor, "texts dim"], int]]
"""Return the vectors of passages, and how many of them are cut."""


def encode_counting(
    retriever: Retriever, texts: Sequence[str]
) -> tuple[Float[Tensor, "texts dim"], int]:
    """Return the vectors of passages, without gradient, and how many of them are cut."""
    rows = retriever.tokenise(texts, "passage")
    cut = characters_read(retriever, texts, [len(row) for row in rows], "passage")
    return retriever.encode_tokens(rows, "passage"), len(cut)


class CountingEncoder:
    """Encode passages with a retriever, here or in a pool, and count those that it cuts.

    `make` loads the same retriever in a worker of the pool, and returns its `Encode`.
    """

    def __init__(
        self,
        retriever: Retriever,
        pool: Pool | None = None,
        make: Callable[[], Encode] | None = None,
    ) -> None:
        self.retriever = retriever
        self.pool = pool or InProcess()
        self.make = make or (lambda: partial(encode_counting, retriever))
        self.total = self.cut = 0

    def encode_blocks(
        self, blocks: Iterable[Sequence[str]]
    ) -> Generator[Float[Tensor, "texts dim"]]:
        """Yield the vectors of each block of passages, without gradient."""
        for vectors, cut in self.pool.map(self.make, blocks):
            self.total += len(vectors)
            self.cut += cut
            yield vectors

    def tell_cut(self) -> None:
        """Log how many of the passages encoded are cut."""
        if self.total:
            tell_cut_texts(self.retriever, "passage", self.cut, self.total)
