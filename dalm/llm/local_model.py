"""Generate with an instruct model that is loaded here, by its own chat template."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from dalm.errors import UserError
from dalm.llm.language_model import ModelError, OnFailure, OnReply, R, Reply
from dalm.llm.sampling import Outcome
from dalm.llm.server_errors import TruncatedError
from dalm.llm.thoughts import without_thoughts
from dalm.models import generator_checks, loading
from dalm.models.batching import by_length
from dalm.models.chat_rendering import ChatTemplateError, render
from dalm.models.generator import (
    GENERATE_TOKENS,
    Generator,
    load_generator,
    unusable_chat_template,
)
from dalm.prompts import Message

StreamTokens = Callable[[Generator, Sequence[int], int, Outcome], Iterator[str]]
"""Yield what a generator continues a row of tokens with, of so many new tokens at most; then the
outcome says how it ended."""
MAX_BATCH = 64  # conversations in a batch: replies arrive, and are kept, batch by batch


class LocalModel:
    """Generate replies greedily, of at most `max_new_tokens` tokens.

    A request's JSON schema is ignored. In half precision a reply may depend on what else is in its
    batch, in the choice between two nearly equal words.
    """

    concurrency = 1
    length_option = "--max-new-tokens"
    """The option that limits the length of replies, for messages."""

    def __init__(self, generator: Generator, name: str, max_new_tokens: int) -> None:
        if not getattr(generator.tokenizer, "chat_template", None):
            raise UserError(
                f"generator {name} has no chat template, so it follows no instructions; "
                "name an instruct model"
            )
        self.generator = generator
        self.tokenizer = generator.tokenizer
        self.name = name
        self.max_new_tokens = max_new_tokens
        self.max_length = generator.longest
        self.stream_tokens: StreamTokens = stream_tokens
        probe = "What is asked?"
        if probe not in self.tokenizer.decode(self.tokenise([{"role": "user", "content": probe}])):
            raise unusable_chat_template(name, "it leaves out what is asked")

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The length limit: there is nothing else to choose."""
        return {"max_tokens": self.max_new_tokens}

    @cached_property
    def identity(self) -> str:
        """A hash of the weights, bit by bit, and of the chat template."""
        hashed = hashlib.blake2b(self.tokenizer.chat_template.encode(), digest_size=16)
        loading.hash_weights(hashed, self.generator.model.state_dict().items())
        return hashed.hexdigest()

    def tokenise(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation's tokens up to where the reply begins."""
        chat = self.generator.text_tokenizer.chat
        try:
            return chat(self._render, messages)
        except ChatTemplateError:  # a template is a program; some know no system message
            *others, last = messages
            joined = "\n\n".join(message["content"] for message in (*others, last))
        try:
            return chat(self._render, [{"role": "user", "content": joined}])
        except ChatTemplateError as error:
            raise unusable_chat_template(self.name, str(error)) from error

    def _render(self, messages: Sequence[Message]) -> str:
        date = self.generator.date
        return render(self.tokenizer, messages, date=date, add_generation_prompt=True)

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Reply in batches of similar length, the longest first; report each batch when it is done.

        A request that leaves the model no room for `max_new_tokens` fails.
        """
        rows = [self.tokenise(request.messages) for request in requests]
        fitting, others = self._groups(rows)
        for place in others:
            on_failure(requests[place], ModelError("the prompt leaves no room for an answer"))
        for places in fitting:
            start = time.perf_counter()
            batch = [rows[place] for place in places]
            replies = self.generator.generate_tokens(batch, self.max_new_tokens)
            seconds = round((time.perf_counter() - start) / len(places), 3)
            for place, ids in zip(places, replies, strict=True):
                reply = self._reply(len(rows[place]), ids, seconds)
                if reason := self._no_answer(reply):
                    on_failure(requests[place], ModelError(reason))
                else:
                    on_reply(requests[place], reply)

    def batches(self, conversations: Sequence[Sequence[Message]]) -> list[list[int]]:
        """Return the places of the conversations that `generate` batches together.

        The last batch are those that leave no room for a reply, if there are any.
        """
        fitting, others = self._groups([self.tokenise(messages) for messages in conversations])
        return [*fitting, others] if others else fitting

    def _groups(self, rows: Sequence[Sequence[int]]) -> tuple[list[list[int]], list[int]]:
        """Return the places of rows by batch, and of those that leave no room for a reply."""
        lengths = np.array([len(row) for row in rows], np.int64)
        fits = lengths <= self._room()
        fitting = np.flatnonzero(fits)
        most = MAX_BATCH if self.generator.padding.when_answering else 1
        groups = by_length(lengths[fitting] + self.max_new_tokens, GENERATE_TOKENS, most)
        return [fitting[group].tolist() for group in groups], np.flatnonzero(~fits).tolist()

    def _reply(self, tokens_in: int, ids: Sequence[int], seconds: float) -> Reply:
        text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        finish = "length" if len(ids) >= self.max_new_tokens else "stop"
        return Reply(text, tokens_in, len(ids), seconds, finish)

    def _no_answer(self, reply: Reply) -> str | None:
        """Return why a reply is no answer, if it is none."""
        if without_thoughts(reply.text).strip():
            return None
        if reply.finish_reason == "length":
            cut = TruncatedError(self.max_new_tokens, thinking=bool(reply.text))
            return f"{cut}; raise {self.length_option}"
        return "the reply is empty"

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield a reply in whole words as they are generated; closing the iterator stops it.

        The pieces joined are what `generate` returns, but for white space at both ends.

        Raises:
            ModelError: the prompt leaves no room for a reply.
        """
        row = self.tokenise(messages)
        if len(row) > self._room():
            raise ModelError("the prompt leaves no room for an answer")
        yield from self.stream_tokens(self.generator, row, self.max_new_tokens, Outcome())

    def _room(self) -> int:
        return (self.max_length or 2**62) - self.max_new_tokens


def stream_tokens(
    generator: Generator, row: Sequence[int], most: int, outcome: Outcome
) -> Iterator[str]:
    """Yield what a generator continues a row with, in whole words, as they are generated.

    `most` is the number of new tokens at most; `outcome` is filled at the end. Closing the iterator
    stops the generator.
    """
    streamer = TextIteratorStreamer(generator.tokenizer, skip_prompt=True, skip_special_tokens=True)
    abandoned, errors = Event(), list[BaseException]()
    outcome.tokens_in = len(row)

    def work() -> None:
        try:
            stop = StoppingCriteriaList([_Abandoned(abandoned)])
            hooks = {"streamer": streamer, "stopping_criteria": stop}
            (ids,) = generator.generate_tokens([row], most, **hooks)
            outcome.tokens_out = len(ids)
            outcome.finish_reason = "length" if len(ids) >= most else "stop"
        except BaseException as error:  # raised where the pieces are read
            errors.append(error)
            streamer.end()

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from (piece for piece in streamer if piece)
    finally:
        abandoned.set()
        thread.join()
    if errors:
        raise errors[0]


class _Abandoned(StoppingCriteria):
    """Stop generating once the stream is closed."""

    def __init__(self, event: Event) -> None:
        self.event = event

    def __call__(self, input_ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        stop = self.event.is_set()
        return torch.full((len(input_ids),), stop, dtype=torch.bool, device=input_ids.device)


def load_local_model(name: str, placement: loading.Placement, max_new_tokens: int) -> LocalModel:
    """Load an instruct model; `name` is a folder, or a name on the hub.

    Raises:
        UserError: no such model, not a causal one, or one without a chat template.
    """
    generator = load_generator(name, replace(placement, frozen=True))
    # The length of training prompts bounds nothing here: that of the model does.
    generator.max_length = generator.longest or generator_checks.ANY_LENGTH
    loading.tell("generator", name, generator_checks.description(generator))
    return LocalModel(generator, name, max_new_tokens)
