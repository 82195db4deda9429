"""Limit the length of a passage, in words or in a tokenizer's tokens."""

from collections.abc import Sequence
from typing import Any, Protocol

from dalm.errors import UserError, reason_of


class LengthLimit(Protocol):
    """The maximum length of a passage, and how long words are."""

    maximum: int

    def cumulative(self, text: str, starts: Sequence[int], /) -> Sequence[int]:
        """Return sums: the words `[a, b)` that start at `starts` have length sums[b] - sums[a]."""
        ...

    def excess(self, texts: Sequence[str], /) -> int:
        """Return by how much the longest of the texts, each on its own, is over the limit."""
        ...


class WordLimit:
    """At most `maximum` words."""

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum

    def cumulative(self, _text: str, starts: Sequence[int]) -> Sequence[int]:
        """Return 0, 1, 2, ..."""
        return range(len(starts) + 1)

    def excess(self, _texts: Sequence[str]) -> int:
        """Return 0: splitting a text between words doesn't change their number."""
        return 0


class TokenLimit:
    """At most `max_tokens` of a tokenizer's tokens, including the special ones it adds."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.maximum = max_tokens - tokenizer.num_special_tokens_to_add(False)

    @classmethod
    def from_pretrained(
        cls, name: str, max_tokens: int, *, trust_remote_code: bool = False
    ) -> "TokenLimit":
        """Load a tokenizer by folder or hub name.

        Raises:
            UserError: it can't be loaded, or doesn't return the offsets of its tokens.
        """
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code)
        except Exception as error:  # network, name, a broken folder …
            if "trust_remote_code" in str(error):
                raise UserError(
                    f"--tokenizer {name} brings code of its own, which isn't run unless you ask "
                    "for it: read it, then add --trust-remote-code"
                ) from error
            raise UserError(
                f"--tokenizer {name} could not be loaded: {reason_of(error)}; "
                "name a folder or a model"
            ) from error
        if not loaded.is_fast:
            raise UserError(
                f"--tokenizer {name} is a slow tokenizer, without offsets; name a fast one, "
                "or use --max-words"
            )
        tokenizer = loaded.backend_tokenizer
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True  # `</s>` in a passage is text, as in training
        return cls(tokenizer, max_tokens)

    def cumulative(self, text: str, starts: Sequence[int]) -> Sequence[int]:
        """Count tokens by the words in which they end, with the text tokenized as a whole."""
        import numpy as np

        offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        ends = np.fromiter((end for _, end in offsets), np.int64, len(offsets))
        word = np.searchsorted(np.asarray(starts), ends - 1, side="right") - 1
        counts = np.bincount(np.clip(word, 0, None), minlength=len(starts))
        sums: list[int] = np.concatenate([[0], np.cumsum(counts)]).tolist()
        return sums

    def excess(self, texts: Sequence[str]) -> int:
        """Tokenize the texts on their own: a word at the start may split differently."""
        # One by one: a batch would start threads, and be slower for the few texts of a section.
        lengths = (len(self.tokenizer.encode(text).ids) for text in texts)
        return max(lengths, default=0) - self.max_tokens
