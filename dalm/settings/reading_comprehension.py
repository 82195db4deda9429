"""Options of `dalm reading-comprehension`."""

from dataclasses import dataclass

from dalm.settings.declaring import option, panel
from dalm.settings.qa_gen import PassageColumns


@panel("Exercises")
@dataclass(frozen=True, kw_only=True)
class Exercises:
    """What is asked about a passage."""

    patterns: bool = True
    """Mine exercises from a passage's sentences by patterns: for English texts."""
    questions: str | None = None
    """Table of questions and answers that `dalm qa-gen` made of the passages, by any backend."""
    general_vocabulary: str | None = option(None, needs={"patterns": None})
    """File of general words, or a tokenizer; words that it lacks are the domain's own."""
    exercises_per_passage: int = option(4, least=1)
    """Exercises in a text, at most."""
    seed: int = option(42, least=0, most=2**32 - 1)
    """Seed of the choice of exercises and of their wording."""


@panel("Output")
@dataclass(frozen=True, kw_only=True)
class TextOutput:
    """Where the texts go."""

    output: str
    """File to write: .jsonl, .csv, .tsv or .parquet."""
    overwrite_output: bool = option(False, kept=False)
    """Replace the file if it is there."""


@dataclass(frozen=True, kw_only=True)
class ReadingComprehension(PassageColumns, Exercises, TextOutput):
    """Options of `dalm reading-comprehension`."""
