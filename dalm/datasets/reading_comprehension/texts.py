"""Put a passage and its exercises together into one text."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from dalm.datasets.reading_comprehension.exercises import (
    Exercise,
    Kind,
    mine,
    split_for_completion,
)
from dalm.datasets.reading_comprehension.wording import FRAMES, TEMPLATES
from dalm.records import Passage


@dataclass(frozen=True, slots=True)
class ComprehensionText:
    """A text to train on: a passage and what is asked about it."""

    passage: Passage
    text: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Writer:
    """Write texts: the same for the same passage, seed and options, whatever else there is.

    Questions that were made of a passage come before those mined by patterns, and of these the
    rarer kinds first; at most `most` in all.
    """

    most: int
    seed: int
    patterns: bool = True
    domain: Collection[str] = frozenset()

    def write(self, passage: Passage, questions: Sequence[tuple[str, str]]) -> ComprehensionText:
        """Return the text of one passage with the questions and answers that are known of it."""
        exercises = [Exercise("question", query, answer) for query, answer in questions]
        exercises = exercises[: self.most]
        if self.patterns:
            mined = sorted(mine(passage, self.domain), key=lambda each: self._rank(passage, each))
            exercises += _of_different_kinds(mined)[: self.most - len(exercises)]
        opening, exercises = self._opening(passage, exercises)
        mark, answer = FRAMES[self._draw(len(FRAMES), passage, "frame")]
        parts = [opening]
        for place, each in enumerate(exercises):
            ways = TEMPLATES[each.kind]
            asked, wanted = ways[self._draw(len(ways), passage, f"{place} {each.kind}")]
            fields = {"given": each.given, "wanted": each.wanted}
            question, reply = (_filled(template, fields) for template in (asked, wanted))
            parts.append(f"{mark}{question}{answer}{reply}")
        return ComprehensionText(passage, "\n\n".join(parts), tuple(e.kind for e in exercises))

    def _opening(self, passage: Passage, exercises: list[Exercise]) -> tuple[str, list[Exercise]]:
        """Return what is read first: all of the passage, or for a completion its beginning.

        The completion comes first, so that whatever is asked later has been read.
        """
        wanted = self.patterns and len(exercises) < self.most
        parted = split_for_completion(passage.text) if wanted else None
        if parted is None or self._draw(2, passage, "completion"):
            return passage.text, exercises
        beginning, end = parted
        return beginning, [Exercise("completion", "", end), *exercises]

    def _rank(self, passage: Passage, exercise: Exercise) -> tuple[bool, int]:
        """Order exercises by chance, titles last: nearly every passage has one."""
        said = f"{exercise.kind} {exercise.given} {exercise.wanted}"
        return exercise.kind == "title", self._draw(1 << 32, passage, said)

    def _draw(self, sides: int, passage: Passage, what: str) -> int:
        drawn = blake2b(f"{self.seed} {passage.id} {what}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") % sides


def _filled(template: str, fields: Mapping[str, str]) -> str:
    """Fill a template; braces in the texts stay what they are."""
    return template.format_map(fields)


def _of_different_kinds(exercises: Sequence[Exercise]) -> list[Exercise]:
    """Put the first of each kind before the second ones."""
    met: Counter[Kind] = Counter()
    rounds = []
    for each in exercises:
        rounds.append(met[each.kind])
        met[each.kind] += 1
    return [each for _, each in sorted(zip(rounds, exercises, strict=True), key=lambda p: p[0])]
