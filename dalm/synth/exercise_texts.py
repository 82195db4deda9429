"""Join a passage and its exercises into one text, and write a table of such texts."""

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.examples import read_rows
from dalm.io.tables import read_table
from dalm.io.writers import write_table
from dalm.records import Passage
from dalm.synth.exercises import KINDS, Exercise, Kind, mine, split_for_completion

logger = logging.getLogger(__name__)

# Several templates for each kind, so that no phrase is memorised.
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

ASKING = ("question", "follow-up", "multi-passage", "")
"""Types of queries that are whole questions; other tables name no type."""
FRAMES = (
    ("Question: ", "\nAnswer: "),
    ("Q: ", "\nA: "),
    ("", "\n"),
)
"""Marks before a question and before its answer; one frame throughout a text."""


@dataclass(frozen=True, slots=True)
class ComprehensionText:
    """A text to train on: a passage and what is asked about it."""

    passage: Passage
    text: str
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class ExerciseWriter:
    """Write texts that depend on nothing but the passage, the seed and the options.

    Generated questions come before exercises mined by patterns, and of these titles last; at most
    `max_exercises` in all.
    """

    max_exercises: int
    seed: int
    patterns: bool = True
    domain: Collection[str] = frozenset()

    def write(self, passage: Passage, questions: Sequence[tuple[str, str]]) -> ComprehensionText:
        """Return the text of one passage with the questions and answers generated from it."""
        exercises = [Exercise("question", query, answer) for query, answer in questions]
        exercises = exercises[: self.max_exercises]
        if self.patterns:
            mined = sorted(mine(passage, self.domain), key=lambda each: self._rank(passage, each))
            exercises += _of_different_kinds(mined)[: self.max_exercises - len(exercises)]
        opening, exercises = self._opening(passage, exercises)
        mark, answer = FRAMES[self._draw(len(FRAMES), passage, "frame")]
        parts = [opening]
        for place, each in enumerate(exercises):
            choices = TEMPLATES[each.kind]
            templates = choices[self._draw(len(choices), passage, f"{place} {each.kind}")]
            fields = {"given": each.given, "wanted": each.wanted}
            question, reply = (template.format_map(fields) for template in templates)
            parts.append(f"{mark}{question}{answer}{reply}")
        return ComprehensionText(passage, "\n\n".join(parts), tuple(e.kind for e in exercises))

    def _opening(self, passage: Passage, exercises: list[Exercise]) -> tuple[str, list[Exercise]]:
        """Return the passage, or its beginning with the completion as the first exercise.

        The completion comes first, so that later exercises ask only about text that has been read.
        """
        wanted = self.patterns and len(exercises) < self.max_exercises
        halves = split_for_completion(passage.text) if wanted else None
        if halves is None or self._draw(2, passage, "completion"):
            return passage.text, exercises
        beginning, end = halves
        return beginning, [Exercise("completion", "", end), *exercises]

    def _rank(self, passage: Passage, exercise: Exercise) -> tuple[bool, int]:
        """Order exercises at random, titles last: nearly every passage has one."""
        content = f"{exercise.kind} {exercise.given} {exercise.wanted}"
        return exercise.kind == "title", self._draw(1 << 32, passage, content)

    def _draw(self, sides: int, passage: Passage, what: str) -> int:
        drawn = blake2b(f"{self.seed} {passage.id} {what}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") % sides


def _of_different_kinds(exercises: Sequence[Exercise]) -> list[Exercise]:
    """Put the first of each kind before the second ones."""
    seen: Counter[Kind] = Counter()
    rounds = []
    for each in exercises:
        rounds.append(seen[each.kind])
        seen[each.kind] += 1
    return [each for _, each in sorted(zip(rounds, exercises, strict=True), key=lambda p: p[0])]


def read_questions(
    table: str | None, passages: Sequence[Passage]
) -> Mapping[str, list[tuple[str, str]]]:
    """Read questions and answers, by the id of the passage they were generated from.

    Queries of other types (keywords, titles ...) are no exercise, and left out.

    Raises:
        UserError: none of them is about one of the passages.
    """
    if table is None:
        return {}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    source = read_table(table)
    rows = read_rows(source, Columns(), needs=("passage", "answer"))
    typed = source.texts("QueryType") if "QueryType" in source.columns else None
    examples = [e for row, e in rows.items() if typed is None or typed[row] in ASKING]
    for example in examples:
        assert example.passage is not None
        assert example.answer is not None
        found[example.passage.id].append((example.query, example.answer))
    known = sum(len(found[passage.id]) for passage in passages if passage.id in found)
    if not known:
        raise UserError(
            f"none of the questions in {table} is about one of the passages; "
            "name the table that was made of them"
        )
    logger.info("questions  %d, %d of other passages", known, len(examples) - known)
    return found


def write_texts(output: Path, texts: Sequence[ComprehensionText]) -> None:
    """Write the texts as a table, and log what is in them."""
    write_table(
        output,
        {
            "id": [each.passage.id for each in texts],
            "Title": [each.passage.title for each in texts],
            "Text": [each.text for each in texts],
            "Exercises": [list(each.kinds) for each in texts],
        },
    )
    counts = Counter(kind for each in texts for kind in each.kinds)
    listed = ", ".join(f"{kind} {counts[kind]}" for kind in KINDS if counts[kind])
    bare = sum(not each.kinds for each in texts)
    logger.info("texts      %d, of which %d without an exercise", len(texts), bare)
    logger.info("exercises  %d%s", counts.total(), f": {listed}" if listed else "")
    logger.info("written    %s; its column Text is what to train a generator on", output)
