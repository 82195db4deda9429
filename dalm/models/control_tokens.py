"""Tokenise texts in which the spelling of a control token is text, not the token.

`</s>` ends a text for Llama 2 and a struck-out word in HTML; a document on chat models is full of
`<|im_end|>`. Read as the tokens that they spell, they would end a prompt amid a passage. A text
without them has the tokens that the tokenizer gives it.
"""

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from dalm.models.token_arrays import token_arrays

_IS_TEXT = re.compile(r"\s*|<0x[0-9A-F]{2}>")
"""Blanks and line breaks, which templates write as the text they are, and bytes, to which a
tokenizer falls back where it knows no character."""

Render = Callable[[list[dict[str, str]]], str]


class TextTokenizer:
    """A tokenizer for texts, in none of which there is a control token.

    Control tokens are the special ones, and added ones that the chat template writes, such as
    `<think>`; others, such as runs of blanks, remain what the model's authors made of texts.
    `kept` may spell control tokens that stay what they are, as those of an embedding prompt. Added
    tokens with ids from `beyond` on have no embeddings: they are text, too.

    Where a text would get a control token, it is encoded again by a copy of the tokenizer in which
    these have names that no text spells. transformers' `split_special_tokens` isn't enough: it
    leaves added tokens, and vocabularies that find `</s>` as a word (Unigram).
    """

    def __init__(self, tokenizer: Any, kept: str = "", beyond: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.kept = kept
        found = _control(tokenizer, beyond)
        spelled = {token: number for token, number in found if token not in kept}
        self.control: Mapping[str, int] = spelled
        self._numbers = frozenset(spelled.values()) - {tokenizer.unk_token_id}
        self._unknown = tokenizer.unk_token if tokenizer.unk_token in spelled else None
        longest_first = sorted(spelled, key=len, reverse=True)
        self.spelled = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the ids of each text, int32, without those that begin and end a text."""
        rows = token_arrays(self.tokenizer, texts)
        for place in self._with_control(texts, rows, 0):
            rows[place] = np.array(self._spelled_out(texts[place]), np.int32)
        return rows

    def _spelled_out(self, text: str) -> list[int]:
        if not self.tokenizer.is_fast:
            options = {"add_special_tokens": False, "split_special_tokens": True}
            return list(self.tokenizer(text, verbose=False, **options).input_ids)
        return list(self.renamed.encode(text, add_special_tokens=False).ids)

    def spells_control(self, texts: Sequence[str], rows: Sequence[np.ndarray]) -> list[int]:
        """Return the places of texts with control tokens that the tokenizer didn't add itself.

        `rows` are the texts' tokens with a prompt and with those that begin and end every text.
        """
        own = self.tokenizer(self.kept + "a", verbose=False).input_ids
        return self._with_control(texts, rows, len([ids for ids in own if ids in self._numbers]))

    def _with_control(
        self, texts: Sequence[str], rows: Sequence[np.ndarray], own: int
    ) -> list[int]:
        """Return the places of texts with more than `own` control tokens."""
        if not texts:
            return []
        numbers = np.fromiter(self._numbers, np.int32, len(self._numbers))
        found = np.flatnonzero(np.isin(np.concatenate(rows), numbers))
        ends = np.cumsum([len(row) for row in rows])
        counts = np.bincount(np.searchsorted(ends, found, side="right"), minlength=len(rows))
        places = set(np.flatnonzero(counts > own).tolist())
        if self._unknown is not None:
            places |= {place for place, text in enumerate(texts) if self._unknown in text}
        return sorted(places)

    def whole(self, text: str, max_length: int) -> list[int]:
        """Return at most `max_length` tokens of a text, with those that begin and end every one."""
        if not self.tokenizer.is_fast:
            options = {"split_special_tokens": True, "truncation": True, "max_length": max_length}
            return list(self.tokenizer(text, **options).input_ids)
        self.renamed.enable_truncation(max_length, direction=self.tokenizer.truncation_side)
        try:
            return list(self.renamed.encode(text).ids)
        finally:
            self.renamed.no_truncation()

    def chat(self, render: Render, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the tokens of a rendered chat: control tokens are those of the template alone."""
        contents = [message["content"] for message in messages]
        if not self.tokenizer.is_fast or not any(map(self.spelled.search, contents)):
            text = render([dict(message) for message in messages])
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids
            return list(ids)
        # What contents spell is marked before the template writes its own, and put back after.
        key = secrets.token_hex(8)
        spelled = list(self.control)
        marks = {token: f"{key}-{place}-" for place, token in enumerate(spelled)}
        marked = [
            {**message, "content": self.spelled.sub(lambda m: marks[m[0]], message["content"])}
            for message in messages
        ]
        text = self.spelled.sub(lambda m: self._names[m[0]], render(marked))
        text = re.sub(rf"{key}-(\d+)-", lambda m: spelled[int(m[1])], text)
        return list(self.renamed.encode(text, add_special_tokens=False).ids)

    @cached_property
    def _names(self) -> dict[str, str]:
        """Names of the control tokens that no text spells: they are drawn in each process."""
        key = secrets.token_hex(8)
        return {token: f"<{key}-{number}>" for token, number in self.control.items()}

    @cached_property
    def renamed(self) -> Tokenizer:
        """The tokenizer with its control tokens renamed, the same ids for everything else."""
        return Tokenizer.from_str(
            json.dumps(_renamed(json.loads(self.tokenizer.backend_tokenizer.to_str()), self._names))
        )


def _control(tokenizer: Any, beyond: int | None) -> list[tuple[str, int]]:
    """Return a tokenizer's control tokens with their ids."""
    template = tokenizer.chat_template or ""
    written = "\0".join(template.values()) if isinstance(template, dict) else template
    listed = getattr(tokenizer, "chat_control_tokens", None) or ()
    found = dict(zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True))
    for number, token in tokenizer.added_tokens_decoder.items():
        without_row = beyond is not None and number >= beyond
        if token.special or without_row or token.content in listed or token.content in written:
            found[token.content] = number
    return [(token, number) for token, number in found.items() if not _IS_TEXT.fullmatch(token)]


def _renamed(content: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a tokenizer's JSON with other names for some tokens."""
    for added in content["added_tokens"]:
        if added["content"] in names:
            added |= {"content": names[added["content"]], "normalized": False}
    model = content["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, dict):
        model["vocab"] = {names.get(token, token): number for token, number in vocabulary.items()}
    else:  # Unigram: pieces with their scores
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if _stays(merge, names)]
    return {**content, "truncation": None, "padding": None}


def _stays(merge: Any, names: Mapping[str, str]) -> bool:
    """Return whether a merge neither makes nor uses a renamed token."""
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return names.keys().isdisjoint((left, right, left + right))
