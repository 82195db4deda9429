"""A judge that goes by rules, on a real server."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.llm.stub_server import Stub, serving


@dataclass
class Rules:
    """What the judge goes by; `odd` are replies to the prompts that hold their keys."""

    odd: dict[str, str] = field(default_factory=dict)
    swayed: bool = False
    """Prefers whatever is called A, and finds right what comes first."""

    def reply(self, asked: str) -> str:
        for part, text in self.odd.items():
            if part in asked:
                return text
        return json.dumps({"reason": "by the rules", "verdict": self.verdict(asked)})

    def verdict(self, asked: str) -> str:
        shown = sections(asked)
        if "Answer A" in shown:
            return self.preferred(shown)
        ground = "Passages" if "Passages" in shown else "Reference answers"
        names = list(shown)
        if self.swayed and names.index("Answer") < names.index(ground):
            return "partly"
        return "yes" if shown["Answer"] in shown[ground] else "no"

    def preferred(self, shown: dict[str, str]) -> str:
        if self.swayed:
            return "A"
        right = {letter: shown[f"Answer {letter}"] in shown["Reference answers"] for letter in "AB"}
        if right["A"] == right["B"]:
            return "tie"
        return "A" if right["A"] else "B"


def sections(asked: str) -> dict[str, str]:
    """Return what a prompt shows, by its headings, in its order."""
    shown = re.split(r"\n\n(?:Do the passages|Does the answer|Which answer)", asked)[0]
    parts = re.split(r"(?:^|\n\n)(Question|Passages|Reference answers|Answer(?: [AB])?):\n", shown)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture
def rules() -> Rules:
    return Rules()


@pytest.fixture
def stub(rules: Rules) -> Iterator[Stub]:
    with serving() as served:
        served.write = rules.reply
        yield served
