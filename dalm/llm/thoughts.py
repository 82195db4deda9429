"""Tell a model's reasoning from its reply, whatever marks the reasoning has."""

import re
from collections.abc import Sequence

from dalm.llm.json_replies import spans

_NAMES = r"(?:\w+:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad)"
_CLOSING = re.compile(
    rf"<\s*/\s*{_NAMES}\s*>"  # DeepSeek, Qwen, EXAONE, Seed (<seed:think>)
    r"|\[\s*/\s*think(?:ing)?\s*\]"  # Magistral
    r"|◁\s*/\s*think\s*▷"  # Kimi
    r"|<\|(?:/\s*think|end_thinking)\|>"  # Cohere's Command
    r"|<\|end_of_(?:thought|thinking|reasoning)\|>"  # OpenThinker
    r"|<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>"  # gpt-oss
    r"|<channel\|>"  # Gemma
    r"|<unused95>",  # MedGemma
    re.IGNORECASE,
)
_OPENING = re.compile(
    rf"<\s*{_NAMES}\s*>|\[\s*think(?:ing)?\s*\]|◁\s*think\s*▷"
    r"|<\|(?:think|begin_of_(?:thought|thinking|reasoning)|start_thinking)\|>"
    r"|(?:<\|start\|>\s*assistant\s*)?<\|channel\|>\s*(?:analysis|commentary)\b"
    r"|<\|channel>|<unused94>",
    re.IGNORECASE,
)
_SPELLED_OUT = re.compile(
    r"\A\s*(?:analysis.*assistantfinal|here is my thought process:.*here is my response:)",
    re.DOTALL | re.IGNORECASE,
)
"""What is left of gpt-oss's channels where its special tokens were dropped; and Granite's words."""
_END = re.compile(r"(?:\s*<\|(?:return|end|end_response|im_end|eot_id)\|>)+\s*\Z", re.IGNORECASE)
_START = re.compile(r"\A\s*<\|start_response\|>", re.IGNORECASE)
_OPENINGS = (
    *("<think>", "<thinking>", "<thought>", "<reasoning>", "<seed:think>", "[think]", "◁think▷"),
    *("<|channel|>analysis", "<|start_thinking|>", "<|begin_of_thought|>", "<|channel>"),
)
_QUOTES = "`\"'“”‘’«»"


def without_thoughts(text: str) -> str:
    """Return a reply without the model's reasoning: what follows the last closing mark.

    The opening mark may be missing (many chat templates put it into the prompt). Reasoning without
    a closing mark was cut off, and nothing follows it. Marks in the strings of JSON objects, or in
    quotation marks, are the reply's own words.
    """
    if spelled_out := _SPELLED_OUT.match(text):
        return text[spelled_out.end() :]
    objects = spans(text) if _CLOSING.search(text) or _OPENING.search(text) else []
    closings = _marks(_CLOSING, text, objects)
    openings = _marks(_OPENING, text, objects)
    end = closings[-1].end() if closings else 0
    unclosed = next((mark.start() for mark in openings if mark.start() >= end), len(text))
    rest = text[end:unclosed]
    if not rest.strip() and openings and (not closings or openings[0].end() <= closings[0].start()):
        rest = text[: openings[0].start()]  # reasoning after the reply
    return _START.sub("", _END.sub("", rest)) if closings or openings else rest


def thinking(text: str) -> bool:
    """Return whether a reply, as far as it is there, is still the model's reasoning."""
    begun = text.lstrip().lower()
    if any(mark.startswith(begun) for mark in _OPENINGS):
        return True
    opening = _OPENING.match(begun)
    return opening is not None and _CLOSING.search(begun, opening.end()) is None


def _marks(
    kind: re.Pattern[str], text: str, objects: Sequence[tuple[int, int]]
) -> list[re.Match[str]]:
    """Return the marks that are no part of an object or a quotation."""

    def quoted(mark: re.Match[str]) -> bool:
        before, after = (
            text[max(0, mark.start() - 1) : mark.start()],
            text[mark.end() : mark.end() + 1],
        )
        if before and after and before in _QUOTES and after in _QUOTES:
            return True
        return any(start <= mark.start() < end for start, end in objects)

    return [mark for mark in kind.finditer(text) if not quoted(mark)]
