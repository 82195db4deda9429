"""Read the reply in a chat completion, whole or in events, and say why there is none."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dalm.llm.json_replies import is_unclosed, is_whole
from dalm.llm.server_errors import BusyError, NoAnswerError, TruncatedError
from dalm.llm.thoughts import without_thoughts

BROKEN = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
"""What reading a body raises that isn't what it should be."""
LENGTH = {"length", "max_tokens", "model_length", "max_output_tokens"}
FILTERED = {"content_filter", "safety", "recitation", "blocklist", "prohibited_content", "spii"}
FILTERED |= {"sensitive"}
FAILED = {"error", "abort", "insufficient_system_resource"}
"""What servers say of a reply that was cut off, filtered, or broke off, in lower case."""
REASONING = ("reasoning_content", "reasoning", "thinking")
"""Fields in which servers put the reasoning that they take out of a reply."""


class ReportedError(Exception):
    """A body or an event with an error in the place of a completion; `error` is what it says."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error)[:300])
        self.error = error


@dataclass(slots=True)
class Completion:
    """A chat completion, as far as it is there: feed it bodies or events."""

    text: str = ""
    reasoning: str = ""
    field: str = ""
    """The field that the reasoning is in."""
    refusal: str = ""
    tool: str = ""
    """The tool that the model calls."""
    arguments: str = ""
    """What it calls it with, as JSON."""
    finish_reason: str = ""
    tokens_in: int = 0
    tokens_out: int = 0

    def add(self, body: Mapping[str, Any]) -> str:
        """Take a body, or an event of a stream, and return the text in it.

        Raises:
            ReportedError: it is an error.
            ValueError and others of BROKEN: it is no chat completion.
        """
        if error := reported(body):
            raise ReportedError(error)
        used = body.get("usage") or {}
        self.tokens_in = _count(used, "prompt_tokens") or self.tokens_in
        self.tokens_out = _count(used, "completion_tokens") or self.tokens_out
        if not body["choices"]:  # as in a last event that counts tokens
            return ""
        choice = body["choices"][0]
        if finish := choice.get("finish_reason"):
            self.finish_reason = str(finish).lower()
        if not {"message", "delta", "text"} & set(choice):
            raise LookupError("a choice without a message")
        message = choice.get("message") or choice.get("delta") or {}
        self._add_fields(message)
        content = message.get("content")
        text = _text(choice.get("text") if content is None else content)
        self.text += text
        return text

    def read_events(self, lines: Iterable[str]) -> Iterator[str]:
        """Yield the text in each event of a stream (server-sent events), up to its end.

        Raises:
            BusyError: it broke off; other errors are those of `add`.
        """
        for line in lines:
            name, _, data = line.partition(":")
            if name != "data" or not data.strip():
                continue
            if data.strip() == "[DONE]":
                return
            yield self.add(json.loads(data))
        if not self.finish_reason:
            raise BusyError("the stream broke off")

    def _add_fields(self, message: Mapping[str, Any]) -> None:
        for name in REASONING:
            if text := _text(message.get(name)):
                self.reasoning, self.field = self.reasoning + text, name
                break
        self.refusal += _text(message.get("refusal"))
        if isinstance(parts := message.get("content"), list):
            self.refusal += "".join(_text(p.get("refusal")) for p in parts if isinstance(p, dict))
        calls = message.get("tool_calls") or []
        for call in [each["function"] for each in calls] or [message.get("function_call") or {}]:
            self.tool += call.get("name") or ""
            arguments = call.get("arguments") or ""
            self.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def answer(self, limit: int | None, *, structured: bool) -> str:
        """Return the text of the reply, with its reasoning if that is in the text.

        `limit` is the number of tokens it was allowed. A structured reply (JSON was asked for) may
        be cut off: the whole objects in it can be used. It is also found among a tool's arguments
        or, if it is nothing but JSON, in the reasoning, where servers that split a reply put it if
        the model doesn't reason.

        Raises:
            BusyError: the server broke the reply off.
            TruncatedError: it is cut off, before its answer or within a free text by the server.
            NoAnswerError: it was filtered, refused, or is empty.
        """
        if self.finish_reason in FAILED:
            raise BusyError(f"the reply broke off (finish_reason {self.finish_reason})", most=2)
        if self.finish_reason in FILTERED:
            raise NoAnswerError(
                f"the server's content filter stopped the reply (finish_reason "
                f"{self.finish_reason})"
            )
        visible = without_thoughts(self.text).strip()
        if structured and not self.finish_reason and is_unclosed(visible):
            self.finish_reason = "length"
        if self.is_cut:
            ours = limit is not None and (not self.tokens_out or self.tokens_out >= limit)
            if not visible or not (structured or ours):
                thought = not visible and bool(self.text.strip() or self.reasoning)
                raise TruncatedError(limit if ours else None, thinking=thought)
        if visible:
            return self.text
        if structured and not self.refusal:
            for other in (self.arguments, without_thoughts(self.reasoning)):
                if is_whole(other):
                    return other
        raise NoAnswerError(self._nothing())

    @property
    def is_cut(self) -> bool:
        """Whether the reply ends at a limit of tokens."""
        return self.finish_reason in LENGTH

    def _nothing(self) -> str:
        """Return why there is no text in a reply that ended by itself."""
        if self.refusal:
            return f"the model refuses: {' '.join(self.refusal.split())[:200]}"
        if self.tool:
            return f"the model calls the tool {self.tool[:50]} in place of an answer"
        if self.reasoning:
            return (
                f"the reply is empty, all of its text is in the field {self.field}; turn off the "
                "server's reasoning parser (vLLM and SGLang: --reasoning-parser, llama.cpp: "
                "--reasoning-format none), or the model's reasoning"
            )
        if self.text.strip():
            return "the reply ends with the model's reasoning"
        return "the reply is empty"


def completion_of(content: str) -> Completion:
    """Return the completion in the body of a response, whether JSON or server-sent events.

    Raises:
        ReportedError: it is an error.
        BusyError: the events broke off.
        NoAnswerError: it has no choices.
        ValueError and others of BROKEN: it is no chat completion.
    """
    found = Completion()
    if content.lstrip()[:6].startswith(("data:", "event:", ":")):
        for _ in found.read_events(content.splitlines()):
            pass
        return found
    body = json.loads(content)
    found.add(body)
    if not body["choices"]:
        raise NoAnswerError("the reply has no choices: it is empty")
    return found


def reported(body: Any) -> Any:
    """Return the error that a body reports, in the shapes that servers and proxies give it."""
    if isinstance(body, list) and body:  # Gemini
        body = body[0]
    if not isinstance(body, dict) or body.get("choices"):
        return None
    if error := body.get("error") or body.get("errors"):
        return error[0] if isinstance(error, list) else error
    if "choices" in body:
        return None
    if isinstance(body.get("message"), str):  # vLLM, SGLang, gateways
        return body
    detail = body.get("detail")  # FastAPI
    return detail[0] if isinstance(detail, list) and detail else detail


def _text(content: Any) -> str:
    """Return a content's text: a string, parts of which some are text, or a parsed object."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content if _is_text(part))
    if isinstance(content, dict):
        text = content.get("text")
        return _text(text) if text is not None else json.dumps(content, ensure_ascii=False)
    return ""


def _is_text(part: Any) -> bool:
    if isinstance(part, dict):
        return part.get("type", "text") in ("text", "output_text") and "text" in part
    return isinstance(part, str)


def _count(used: Any, name: str) -> int:
    count = used.get(name) if isinstance(used, dict) else None
    return count if type(count) is int and count > 0 else 0
