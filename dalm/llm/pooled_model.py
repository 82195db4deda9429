"""Generate with copies of a local instruct model in a pool of workers."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

from dalm.llm.language_model import (
    Conversation,
    ModelError,
    OnFailure,
    OnReply,
    R,
    Reply,
)
from dalm.llm.local_model import LocalModel
from dalm.prompts import Message
from dalm.scaling.pool import Pool, check_same

Outcomes = list[Reply | str]
"""Replies to conversations, or the reasons why there are none."""


class PooledModel:
    """Generate in a pool what a local model generates, in the batches that it would make.

    The model itself is loaded here, too: its weights identify the replies in a journal.
    """

    def __init__(self, model: LocalModel, pool: Pool, load: Callable[[], LocalModel]) -> None:
        self.model, self.pool = model, pool
        self.name, self.length_option = model.name, model.length_option
        self.concurrency = model.concurrency
        self.make = partial(_replies, load, model.identity)

    @property
    def identity(self) -> str:
        """That of the model."""
        return self.model.identity

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Those of the model."""
        return self.model.parameters

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Reply batch by batch; a batch is reported when it and those before it are done."""
        batches = self.model.batches([request.messages for request in requests])
        messages = ([requests[place].messages for place in batch] for batch in batches)
        with closing(self.pool.map(self.make, messages)) as replied:
            for batch, outcomes in zip(batches, replied, strict=True):
                for place, outcome in zip(batch, outcomes, strict=True):
                    if isinstance(outcome, Reply):
                        on_reply(requests[place], outcome)
                    else:
                        on_failure(requests[place], ModelError(outcome))

    def stream(self, messages: Sequence[Message]) -> Any:
        """Yield the pieces of a reply, which is generated here."""
        return self.model.stream(messages)


def _replies(
    load: Callable[[], LocalModel], identity: str
) -> Callable[[Sequence[list[Message]]], Outcomes]:
    """Load a model in a worker, check that it is the command's own, and return how it replies."""
    model = load()
    check_same(f"generator {model.name}", model.identity, identity)
    return partial(_reply, model)


def _reply(model: LocalModel, conversations: Sequence[list[Message]]) -> Outcomes:
    requests = [Conversation(messages) for messages in conversations]
    found: dict[int, Reply | str] = {}
    model.generate(
        requests,
        lambda request, reply: found.update({id(request): reply}),
        lambda request, error: found.update({id(request): str(error)}),
    )
    return [found[id(request)] for request in requests]
