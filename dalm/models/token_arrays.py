"""Turn texts into arrays of token ids by a fast tokenizer's own library.

transformers' call makes lists and masks beside the ids, and sentence-transformers' pads them to
tensors; none of it is needed here (`benchmarks/tokenizing.py` has what is left).
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

AT_ONCE = 1024
"""Texts that are tokenised at once: the library holds much more than the ids of all of them."""

Rows = list[np.ndarray]


def library_tokenizer(tokenizer: Any) -> Tokenizer | None:
    """Return the library's tokenizer if it gives the ids of transformers' call, else None.

    Slow tokenizers have none; others put something around the call, as those of translation do.
    """
    kind = type(tokenizer)
    plain = (
        isinstance(tokenizer, PreTrainedTokenizerFast)
        and kind.__call__ is PreTrainedTokenizerBase.__call__
        and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
        and not hasattr(tokenizer, "_switch_to_input_mode")
    )
    return tokenizer.backend_tokenizer if plain else None


def token_arrays(tokenizer: Any, texts: Sequence[str], max_length: int | None = None) -> Rows:
    """Return the ids of each text, int32.

    With `max_length`, each text is cut to so many tokens, those that begin and end it included;
    without, it is whole and has none of these.
    """
    library = library_tokenizer(tokenizer)
    if library is None:
        options: dict[str, Any] = {"add_special_tokens": False}
        if max_length is not None:
            options = {"truncation": True, "max_length": max_length}
        found = tokenizer(list(texts), verbose=False, return_attention_mask=False, **options)
        return [np.array(ids, np.int32) for ids in found.input_ids]
    # What transformers' call sets before each batch.
    library.encode_special_tokens = tokenizer.split_special_tokens
    library.no_padding()
    if max_length is None:
        library.no_truncation()
    else:
        library.enable_truncation(max_length, direction=tokenizer.truncation_side)
    ends = max_length is not None
    encodings = library.encode_batch_fast(list(texts), add_special_tokens=ends)
    return [np.array(encoding.ids, np.int32) for encoding in encodings]


def in_parts(texts: Sequence[str], encode: Callable[[list[str]], Rows]) -> Rows:
    """Return what `encode` makes of the texts, a part of them at a time, equal ones once."""
    distinct = list(dict.fromkeys(texts))
    rows: Rows = []
    for start in range(0, len(distinct), AT_ONCE):
        rows += encode(distinct[start : start + AT_ONCE])
    if len(distinct) == len(texts):
        return rows
    places = dict(zip(distinct, range(len(distinct)), strict=True))
    return [rows[places[text]] for text in texts]
