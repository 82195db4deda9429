"""Define the options of making training tables of feedback."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from dalm.config.options import option, panel


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class FeedbackOutput:
    """Tables to write."""

    output: str | None = None
    """File for the training table: .csv, .tsv, .jsonl or .parquet. It has a row for each right
    passage of a question, with the answer, passages found wrong, weight and judgments; a row stands
    in it as often as its weight says. Without a file only the summary is printed."""
    held_out: str | None = option(None, needs={"output": None})
    """File for questions held out for evaluation. A question is held out by its hash: one that is
    held out once always is."""
    held_out_share: float = option(0.2, over=0, most=0.9, needs={"held_out": None})
    """Fraction of questions to hold out."""
    ratings: str | None = None
    """File for a rating of each judged passage, from -1 to 1, as `dalm score-candidates --teacher
    feedback --feedback` reads it; questions held out are left out of it."""
    overwrite_output: bool = option(False, kept=False)
    """Replace existing files."""


@panel("Deletion")
@dataclass(frozen=True, kw_only=True)
class FeedbackDeletion:
    """What is deleted from the feedback before anything else."""

    forget_person: str | None = None
    """Delete the judgments of this person, for good."""
    forget_question: str | None = None
    """Delete the answers to this question with their judgments, for good."""


@dataclass(frozen=True, kw_only=True)
class FeedbackExport(FeedbackOutput, FeedbackDeletion):
    """Options of `dalm feedback`."""

    list_people: Annotated[bool, Parameter(negative=(), group="Output")] = False
    """Show each person's judgments, reliability and weight."""
