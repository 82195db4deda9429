"""What passes between a command and a model: requests, replies, and the call that joins them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Protocol

from dalm.prompts import Message


class Request(Protocol):
    """Something to ask a model; a reply to a request with the same `key` is a reply to this one."""

    @property
    def key(self) -> str:
        """A hash of all that a reply depends on, `key_of`."""

    @property
    def about(self) -> Mapping[str, str]:
        """What the journal says of the request beside its key, for whoever reads it."""

    @property
    def messages(self) -> list[Message]:
        """The prompt."""

    @property
    def response_format(self) -> dict[str, Any]:
        """The JSON schema that the reply should have."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A model's answer; tokens are 0 where the server doesn't count them."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


Answered = Callable[[Any, Reply], None]
Failed = Callable[[Any, str], None]
Ask = Callable[[Sequence[Any], Answered, Failed], None]
"""Put requests to a model; calls back with each reply, or with the reason why there is none."""


def key_of(*parts: Any) -> str:
    """Return a hash of what a reply depends on: 32 hexadecimal digits of the parts as JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def response_format(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as servers of chat completions take it."""
    return {
        "type": "json_schema",
        "json_schema": {"name": name, "strict": True, "schema": dict(schema)},
    }


def object_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields and no others."""
    return {
        "type": "object",
        "properties": dict(fields),
        "required": list(fields),
        "additionalProperties": False,
    }
