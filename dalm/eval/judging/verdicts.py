"""A judge's reply in, its verdict out, or None where there is none to read."""

import re
from dataclasses import dataclass

from dalm.eval.judging.wording import VERDICTS, Kind
from dalm.llm.json_replies import Object, by_name, objects, one_line, without_thoughts

NAMES = {  # models choose names of their own, too
    "verdict": ("verdict", "judgement", "judgment", "label", "decision", "rating"),
    "reason": ("reason", "reasoning", "explanation", "rationale", "justification"),
}
OTHER_WORDS = {
    "true": "yes",
    "false": "no",
    "partial": "partly",
    "partially": "partly",
    "answer a": "a",
    "answer b": "b",
    "both": "tie",
    "equal": "tie",
}
MIRRORED = {"A": "B", "B": "A", "tie": "tie"}
"""What a preference means once the answers have changed their letters."""
_LINE = re.compile(r"^\W*(?:final )?verdict\W*[:：]\W*(answer [ab]|\w+)\W*$", re.IGNORECASE | re.M)
LONGEST_REASON = 1_000
"""Characters of a reason that are kept; the journal has all of them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the words that a judge may say, and why."""

    word: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pair:
    """The verdicts on one case, in the first order and swapped; None: no reply, or unreadable."""

    kind: Kind
    first: Verdict | None
    swapped: Verdict | None

    @property
    def words(self) -> tuple[str, str] | None:
        """What was said of the same thing in both orders; None if either verdict is missing."""
        if self.first is None or self.swapped is None:
            return None
        second = self.swapped.word
        return self.first.word, MIRRORED[second] if self.kind == "preference" else second

    @property
    def agree(self) -> bool | None:
        """Whether the order made no difference; None if either verdict is missing."""
        return None if self.words is None else self.words[0] == self.words[1]

    @property
    def value(self) -> float | None:
        """What the verdicts are worth, in [0, 1]: their mean; None if either is missing.

        An answer is preferred only if it is in both orders; else it is a tie, 0.5.
        """
        if self.words is None:
            return None
        if self.kind == "preference" and not self.agree:
            return VERDICTS[self.kind]["tie"]
        first, second = (VERDICTS[self.kind][word] for word in self.words)
        return (first + second) / 2


def read_verdict(text: str, kind: Kind) -> Verdict | None:
    """Read a reply: JSON wherever it stands in it, else a line such as `Verdict: yes`.

    The last verdict counts, for some models show an example before it. A word that isn't one of
    those that were asked for is none.
    """
    text = without_thoughts(text)
    words = {word.lower(): word for word in VERDICTS[kind]}

    def word_of(said: str) -> str | None:
        plain = one_line(said).lower().strip(" .!\"'*`")
        return words.get(OTHER_WORDS.get(plain, plain)) or words.get(plain)

    found = objects(text, lambda each: word_of(_field(each, "verdict")) is not None)
    for last in reversed(list(found)):
        word = word_of(_field(last, "verdict"))
        assert word is not None
        return Verdict(word, one_line(_field(last, "reason"))[:LONGEST_REASON])
    lines = _LINE.findall(text)
    word = word_of(lines[-1] if lines else text)
    return Verdict(word) if word else None


def _field(found: Object, name: str) -> str:
    values = by_name(found)
    for each in NAMES[name]:
        value = values.get(each)
        if isinstance(value, str | bool):
            return str(value)
    return ""
