"""A tokenizer and a domain's texts in, the tokenizer with new tokens for the domain's words out.

Byte pairs go on where the tokenizer's makers stopped: the pair of neighbouring tokens that is met
most often within words becomes a token, again and again, so that each is the one that saves the
most. New merges rank behind all old ones: a text without new tokens is cut as before.
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
LEAST = 2
"""A pair that is met once is no word."""


def extended(generator: Generator, texts: Sequence[str], count: int) -> Generator:
    """Return the generator with up to `count` new tokens; its model and tokenizer are changed.

    A new token's embedding, and its row of the head, is the mean of those of the old tokens that it
    is made of (Hewitt 2021; Yao et al. 2021, arXiv:2106.13474).

    Raises:
        UserError: the tokenizer isn't one of byte pairs.
    """
    old = generator.tokenizer
    written = json.loads(old.backend_tokenizer.to_str())
    _check(written["model"], type(old).__name__)
    pairs = new_pairs(words(old, texts), set(written["model"]["vocab"]), count)
    first = len(old)
    pieces = _pieces(pairs, old)
    _add(written["model"], pairs, first)
    old._tokenizer = Tokenizer.from_str(json.dumps(written))
    _grow(generator.model, first, [pieces[left + right] for left, right in pairs])
    again = Generator(generator.model, old, generator.placement, generator.max_length)
    again.reader_passages = generator.reader_passages
    return again


def _check(model: dict[str, Any], name: str) -> None:
    if model["type"] != "BPE":
        raise UserError(
            f"--extend-vocabulary: {name} is a {model['type']} tokenizer, and only byte pairs can "
            "be extended; leave it out"
        )
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise UserError(
            f"--extend-vocabulary: {name} marks the inside or the end of words, which can't be "
            "extended; leave it out"
        )


def words(tokenizer: Any, texts: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Count the words of the texts, each as the tokens that it is made of."""
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
    for token, place in zip(tokens, word_ids, strict=True):
        # Without a pre-tokenizer a text is one word; a blank begins the next one all the same.
        if place != last or token in added or token[:1] in ("▁", "Ġ"):
            if len(word) > 1:
                yield tuple(word)
            word = []
        last = place
        if token not in added:
            word.append(token)
    if len(word) > 1:
        yield tuple(word)


def new_pairs(counted: Counter[tuple[str, ...]], known: set[str], count: int) -> list[Pair]:
    """Return up to `count` pairs of tokens to merge, in the order in which to merge them.

    The most frequent one comes first; of equals, the least in the order of their signs.
    """
    pairs = _Pairs(counted)
    known = set(known)
    merged: list[Pair] = []
    while len(merged) < count and (pair := pairs.most_frequent()) is not None:
        # Made of other pieces it is known already: a second way to it would cut texts anew.
        if "".join(pair) not in known:
            known.add("".join(pair))
            merged.append(pair)
            pairs.merge(pair)
    return merged


class _Pairs:
    """Neighbouring tokens within words, counted, and counted anew where two were merged."""

    def __init__(self, counted: Counter[tuple[str, ...]]) -> None:
        self.words = [list(word) for word in counted]
        self.times = list(counted.values())
        self.counts: Counter[Pair] = Counter()
        self.holders: dict[Pair, set[int]] = defaultdict(set)
        for place in range(len(self.words)):
            self._count(place, 1)
        self.heap = [(-number, pair) for pair, number in self.counts.items()]
        heapq.heapify(self.heap)

    def most_frequent(self) -> Pair | None:
        """Take the most frequent pair that hasn't been taken; None: the others are too rare."""
        while self.heap and -self.heap[0][0] >= LEAST:
            number, pair = heapq.heappop(self.heap)
            if self.counts[pair] == -number:  # else an older count: the new one comes later
                return pair
        return None

    def merge(self, pair: Pair) -> None:
        """Make one token of a pair wherever it stands."""
        changed = set[Pair]()
        for place in self.holders.pop(pair):
            changed.update(self._count(place, -1))
            self.words[place] = _merge(self.words[place], pair)
            changed.update(self._count(place, 1))
        for each in changed:
            if self.counts[each] > 0:
                heapq.heappush(self.heap, (-self.counts[each], each))

    def _count(self, place: int, sign: int) -> list[Pair]:
        """Count a word's pairs in (1) or out (-1), and return them."""
        pairs = list(pairwise(self.words[place]))
        for pair in pairs:
            self.counts[pair] += sign * self.times[place]
            if sign > 0:
                self.holders[pair].add(place)
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
    """Return the old tokens that each new one is made of."""
    made: dict[str, list[int]] = {}
    for left, right in pairs:
        made[left + right] = [
            token
            for part in (left, right)
            for token in made.get(part) or [tokenizer.convert_tokens_to_ids(part)]
        ]
    return made


def _add(model: dict[str, Any], pairs: Sequence[Pair], first: int) -> None:
    """Write the pairs behind the merges that are there, in the manner of these."""
    as_lists = not model["merges"] or isinstance(model["merges"][0], list)
    for place, (left, right) in enumerate(pairs):
        model["vocab"][left + right] = first + place
        model["merges"].append([left, right] if as_lists else f"{left} {right}")


@torch.no_grad()
def _grow(model: Any, first: int, pieces: Sequence[Sequence[int]]) -> None:
    """Make room for the new tokens, if there is none, and give each the mean of its pieces."""
    needed = first + len(pieces)
    if needed > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(needed, mean_resizing=False)
    head = model.get_output_embeddings()
    tables: dict[int, Tensor] = {}
    for table in (model.get_input_embeddings().weight, head.weight, getattr(head, "bias", None)):
        if table is not None:
            tables[table.data_ptr()] = table  # tied ones once
    for table in tables.values():
        for place, made_of in enumerate(pieces):
            table[first + place] = table[list(made_of)].mean(0)
