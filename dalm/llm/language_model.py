"""Define the protocol of a language model, whether it is loaded here or runs on a server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dalm.prompts import Message


class ModelError(Exception):
    """Report why there is no reply.

    The message states facts. Which option of which command would change them is for the caller to
    add, see `dalm.llm.chat_completions.Endpoint`.
    """


class Request(Protocol):
    """What is sent to a model."""

    @property
    def messages(self) -> list[Message]:
        """The prompt."""

    @property
    def response_format(self) -> dict[str, Any] | None:
        """The JSON schema that the reply should have, for models that can be held to one."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A request for free text."""

    messages: list[Message]
    response_format: None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer; tokens are 0 where a server doesn't count them."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    finish_reason: str = "stop"
    """`stop`, or `length` where the reply was cut off."""


R = TypeVar("R", bound=Request)
OnReply = Callable[[R, Reply], None]
OnFailure = Callable[[R, ModelError], None]


class LanguageModel(Protocol):
    """Generate replies to conversations: in batches, or one as a stream."""

    @property
    def name(self) -> str:
        """The name that records and results give it."""

    @property
    def identity(self) -> str:
        """What identifies it in cache keys: its name on a server, or a hash of its weights."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """How replies are sampled, and how long they may be; part of cache keys."""

    @property
    def length_option(self) -> str:
        """The option that limits the length of replies, for messages."""

    @property
    def concurrency(self) -> int:
        """Requests under way at the same time, for estimates of the total time."""

    def generate(
        self, requests: Sequence[R], on_reply: OnReply[R], on_failure: OnFailure[R]
    ) -> None:
        """Generate a reply to each request, in any order.

        Exactly one of the callbacks is called for each request, as soon as its outcome is known.

        Raises:
            ModelError: no further request can succeed; replies already reported are valid.
        """

    def stream(self, messages: Sequence[Message]) -> Iterator[str]:
        """Yield the pieces of one reply as they are generated.

        Raises:
            ModelError: there is no reply, or it broke off.
        """


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in the form that servers of chat completions take."""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": dict(schema)},
    }


def object_schema(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }
