"""Put a passage and its exercises together into one text."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from dalm.records import Passage
from dalm.synth.exercises import Exercise, Kind, mine, split_for_completion


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


# FOLDED wording.py: How exercises are put: several ways for each kind, so that no phrase is learnt by heart.

TEMPLATES: Mapping[Kind, tuple[tuple[str, str], ...]] = {
    "title": (
        ("What would be a fitting title for this text?", "{wanted}"),
        ("Name the subject of the text above.", "{wanted}"),
        ("Under which heading could this text stand?", "{wanted}"),
    ),
    "completion": (
        ("How does this text go on?", "{wanted}"),
        ("Continue the text.", "{wanted}"),
        ("Write what could come next.", "{wanted}"),
    ),
    "entailment": (
        ("Suppose that: {given}\nDoes it follow that: {wanted}", "Yes, it follows."),
        ('Given "{given}", is this a sound conclusion? "{wanted}"', "Yes."),
        ("What can be concluded from this? {given}", "{wanted}"),
    ),
    "contradiction": (
        (
            "Suppose that: {given}\nDoes it follow that: {wanted}",
            "No, the two stand against each other.",
        ),
        ('Do these two statements agree? "{given}" "{wanted}"', "No, the second limits the first."),
        ("What speaks against this, or limits it? {given}", "{wanted}"),
    ),
    "neutral": (
        (
            "Suppose that: {given}\nDoes it follow that: {wanted}",
            "That is left open: it adds to it.",
        ),
        ("What does the text add to this? {given}", "{wanted}"),
    ),
    "cause": (
        ("What is the reason for this? {given}", "{wanted}"),
        ("{given} Why?", "The reason: {wanted}"),
        ("Explain by the text how this comes about: {given}", "{wanted}"),
    ),
    "effect": (
        ("What is the consequence of this? {given}", "{wanted}"),
        ("{given} What comes of it?", "{wanted}"),
        ("Name the effect. Cause: {given}", "Effect: {wanted}"),
    ),
    "paraphrase": (
        ("Put this in other words: {given}", "{wanted}"),
        (
            'Do these two mean the same? "{given}" "{wanted}"',
            "Yes, one says the other in other words.",
        ),
    ),
    "difference": (
        ("What is set against this in the text? {given}", "{wanted}"),
        (
            'Do these two mean the same? "{given}" "{wanted}"',
            "No, they are set against each other.",
        ),
    ),
    "definition": (
        ("How is {given} defined?", "{wanted}"),
        ('Explain the term "{given}".', "{wanted}"),
        ("What is meant by {given}?", "{wanted}"),
    ),
    "word-to-text": (
        ("Write a sentence with these terms of the field: {given}", "{wanted}"),
        ("How are these terms related? {given}", "{wanted}"),
        ("Make a statement that uses: {given}", "{wanted}"),
    ),
    "question": (("{given}", "{wanted}"),),
}

FRAMES = (
    ("Question: ", "\nAnswer: "),
    ("Q: ", "\nA: "),
    ("", "\n"),
)
"""What stands before a question and before its answer; one frame throughout a text."""
