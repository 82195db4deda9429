"""Describe how one reply is generated: its length, where it stops, and how tokens are chosen."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a reply is generated; by default greedily, up to the model's own end."""

    max_tokens: int | None = None
    """Tokens at most; None: as the command's options say."""
    temperature: float = 0.0
    """0: the most likely token; else the logits are divided by it and a token is drawn."""
    top_p: float = 1.0
    """Draw from the most likely tokens whose probabilities sum to at least this (nucleus)."""
    seed: int | None = None
    """Makes the draw repeatable."""
    stop: tuple[str, ...] = ()
    """Texts before which the reply ends."""

    def parameters(self) -> dict[str, Any]:
        """Return what a server of chat completions is sent, beside the command's own parameters."""
        sent: dict[str, Any] = {}
        if self.max_tokens is not None:
            sent["max_tokens"] = self.max_tokens
        if self.temperature > 0:
            sent |= {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        if self.stop:
            sent["stop"] = list(self.stop)
        return sent


@dataclass(slots=True)
class Outcome:
    """What is known of a reply beside its text."""

    finish_reason: str = "stop"
    """`stop`, or `length` where the reply was cut off."""
    tokens_in: int | None = None
    tokens_out: int | None = None
