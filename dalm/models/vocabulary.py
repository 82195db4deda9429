"""Extend a byte-pair tokenizer and its model with tokens for a domain's words.

Byte-pair encoding is continued on the domain's texts: the most frequent pair of neighbouring tokens
within words becomes a token, again and again, so that each saves the most tokens. New merges rank
after all old ones: a text without new tokens is tokenised as before.
"""

import heapq
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from dalm.errors import UserError
from dalm.models.generator import Generator

logger = logging.getLogger(__name__)

Pair = tuple[str, str]
CHUNK = 512
MIN_COUNT = 2
"""A pair that occurs once is no word."""


def extended(generator: Generator, texts: Sequence[str], count: int) -> Generator:
    """Return the generator with up to `count` new tokens; its model and tokenizer are changed.

    A new token's embedding, and its row of the output head, is the mean of those of the old tokens
    that it consists of (Hewitt 2021; Yao et al. 2021, arXiv:2106.13474).

    Raises:
        UserError: the tokenizer isn't a byte-pair tokenizer.
    """
    tokenizer = generator.tokenizer
    config = json.loads(tokenizer.backend_tokenizer.to_str())
    _check(config["model"], type(tokenizer).__name__)
    pairs = new_pairs(words(tokenizer, texts), set(config["model"]["vocab"]), count)
    first = len(tokenizer)
    pieces = _pieces(pairs, tokenizer)
    _add(config["model"], pairs, first)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(config))
    _resize(generator.model, first, [pieces[left + right] for left, right in pairs])
    result = Generator(
        *(generator.model, tokenizer, generator.placement, generator.max_length),
        generator.template,
        date=generator.date,
    )
    result.reader_passages = generator.reader_passages
    result.longest, result.padding = generator.longest, generator.padding
    return result


def _check(model: dict[str, Any], name: str) -> None:
    if model["type"] != "BPE":
        raise UserError(
            f"--extend-vocabulary: {name} is a {model['type']} tokenizer, and only byte-pair "
            "tokenizers can be extended; leave it out"
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise UserError(
            f"--extend-vocabulary: {name} marks the inside or the end of words, which can't be "
            "extended; leave it out"
        )


def words(tokenizer: Any, texts: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Count the words of the texts, each as its tokens."""
    found: Counter[tuple[str, ...]] = Counter()
    added = set(tokenizer.added_tokens_encoder)
    for start in range(0, len(texts), CHUNK):
        chunk = list(texts[start : start + CHUNK])
        for encoding in tokenizer.backend_tokenizer.encode_batch(chunk, add_special_tokens=False):
            found.update(_words(encoding.tokens, encoding.word_ids, added))
    return found


def _words(
    tokens: list[str], word_ids: list[int | None], added: set[str]
) -> Iterator[tuple[str, ...]]:
    """Yield the words of more than one token."""
    word: list[str] = []
    last: int | None = None
    for token, word_id in zip(tokens, word_ids, strict=True):
        # Without a pre-tokenizer a text is one word; a space begins the next one all the same.
        if word_id != last or token in added or token[:1] in ("▁", "Ġ"):
            if len(word) > 1:
                yield tuple(word)
            word = []
        last = word_id
        if token not in added:
            word.append(token)
    if len(word) > 1:
        yield tuple(word)


def new_pairs(counted: Counter[tuple[str, ...]], known: set[str], count: int) -> list[Pair]:
    """Return up to `count` pairs of tokens to merge, in the order in which to merge them.

    The most frequent one comes first; of equally frequent ones, the first in alphabetical order.
    """
    pairs = _Pairs(counted)
    known = set(known)
    merged: list[Pair] = []
    while len(merged) < count and (pair := pairs.most_frequent()) is not None:
        # A known token made of other pieces: a second merge to it would change tokenisation.
        if "".join(pair) not in known:
            known.add("".join(pair))
            merged.append(pair)
            pairs.merge(pair)
    return merged


class _Pairs:
    """Counts of neighbouring tokens within words, updated where a pair is merged."""

    def __init__(self, counted: Counter[tuple[str, ...]]) -> None:
        self.words = [list(word) for word in counted]
        self.times = list(counted.values())
        self.counts: Counter[Pair] = Counter()
        self.holders: dict[Pair, set[int]] = defaultdict(set)
        for word in range(len(self.words)):
            self._count(word, 1)
        self.heap = [(-number, pair) for pair, number in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> Pair | None:
        """Remove and return the most frequent pair; None if the others are too rare."""
        while self.heap and -self.heap[0][0] >= MIN_COUNT:
            number, pair = heapq.heappop(self.heap)
            if self.counts[pair] == -number:  # else it is outdated: the new count comes later
                return pair
        return None

    def merge(self, pair: Pair) -> None:
        """Merge a pair to one token in all words."""
        changed = set[Pair]()
        for word in self.holders.pop(pair):
            changed.update(self._count(word, -1))
            self.words[word] = _merge(self.words[word], pair)
            changed.update(self._count(word, 1))
        for each in changed:
            if self.counts[each] > 0:
                heapq.heappush(self.heap, (-self.counts[each], each))

    def _count(self, word: int, sign: int) -> list[Pair]:
        """Add (1) or subtract (-1) a word's pairs, and return them."""
        pairs = list(pairwise(self.words[word]))
        for pair in pairs:
            self.counts[pair] += sign * self.times[word]
            if sign > 0:
                self.holders[pair].add(word)
        return pairs


def _merge(word: list[str], pair: Pair) -> list[str]:
    merged: list[str] = []
    for token in word:
        if merged and (merged[-1], token) == pair:
            merged[-1] += token
        else:
            merged.append(token)
    return merged


def _pieces(pairs: Sequence[Pair], tokenizer: Any) -> dict[str, list[int]]:
    """Return the old tokens that each new one consists of."""
    pieces: dict[str, list[int]] = {}
    for left, right in pairs:
        pieces[left + right] = [
            token
            for part in (left, right)
            for token in pieces.get(part) or [tokenizer.convert_tokens_to_ids(part)]
        ]
    return pieces


def _add(model: dict[str, Any], pairs: Sequence[Pair], first: int) -> None:
    """Append the pairs to the merges, in the same format."""
    as_lists = not model["merges"] or isinstance(model["merges"][0], list)
    for number, (left, right) in enumerate(pairs, first):
        model["vocab"][left + right] = number
        model["merges"].append([left, right] if as_lists else f"{left} {right}")


@torch.no_grad()
def _resize(model: Any, first: int, pieces: Sequence[Sequence[int]]) -> None:
    """Resize the embeddings if needed, and give each new token the mean of its pieces."""
    needed = first + len(pieces)
    if needed > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(needed, mean_resizing=False)
    head = model.get_output_embeddings()
    tables: dict[int, Tensor] = {}
    for table in (model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)):
        if table is not None:
            tables[table.data_ptr()] = table  # tied weights once
    for table in tables.values():
        for row, tokens in enumerate(pieces, first):
            table[row] = table[list(tokens)].mean(0)
