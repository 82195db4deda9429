"""How exercises are put: several ways for each kind, so that no phrase is learnt by heart.

`{given}` and `{wanted}` are an exercise's two texts; a template is a question and an answer.
"""

from collections.abc import Mapping

from dalm.datasets.reading_comprehension.exercises import Kind

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
