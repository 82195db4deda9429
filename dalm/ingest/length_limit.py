"""How long a passage may be: in words, or in a tokenizer's tokens."""

from collections.abc import Sequence
from typing import Any, Protocol

from dalm.errors import UserError


class Budget(Protocol):
    """The longest passage, and what words cost of it."""

    limit: int

    def costs(self, text: str, starts: Sequence[int], /) -> Sequence[int]:
        """Return sums: the words `[a, b)` that start at `starts` cost `sums[b] - sums[a]`."""
        ...

    def excess(self, texts: Sequence[str], /) -> int:
        """Return by how much the longest of the texts is too long, once it stands alone."""
        ...


class WordBudget:
    """Every word costs 1."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def costs(self, _text: str, starts: Sequence[int]) -> Sequence[int]:
        """Return 0, 1, 2, ..."""
        return range(len(starts) + 1)

    def excess(self, _texts: Sequence[str]) -> int:
        """Return 0: words don't change when a text is cut between them."""
        return 0


class TokenBudget:
    """A tokenizer's tokens, with the special ones that it adds to a text."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.limit = max_tokens - tokenizer.num_special_tokens_to_add(False)

    @classmethod
    def of(cls, name: str, max_tokens: int) -> "TokenBudget":
        """Load a tokenizer by folder or hub name.

        Raises:
            UserError: there is none of the name, or it can't tell where its tokens stand.
        """
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(name)
        except Exception as error:  # network, name, a broken folder …
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"--tokenizer {name} could not be loaded: {reason}; name a folder or a model"
            ) from error
        if not loaded.is_fast:
            raise UserError(
                f"--tokenizer {name} is of the slow kind, without offsets; name another, "
                "or use --max-words"
            )
        tokenizer = loaded.backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, max_tokens)

    def costs(self, text: str, starts: Sequence[int]) -> Sequence[int]:
        """Count tokens by the words in which they end, in the text as a whole."""
        import numpy as np

        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        ends = np.fromiter((end for _, end in offsets), np.int64, len(offsets))
        word = np.searchsorted(np.asarray(starts), ends - 1, side="right") - 1
        counts = np.bincount(np.clip(word, 0, None), minlength=len(starts))
        sums: list[int] = np.concatenate([[0], np.cumsum(counts)]).tolist()
        return sums

    def excess(self, texts: Sequence[str]) -> int:
        """Tokenise the texts as they will be: a beginning can cost another token than a middle."""
        # One by one: a batch would start threads, and be slower for the few texts of a section.
        lengths = (len(self.tokenizer.encode(text).ids) for text in texts)
        return max(lengths, default=0) - self.max_tokens
