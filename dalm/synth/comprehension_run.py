"""A run of `dalm reading-comprehension` from the outside: what is refused, its last lines."""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from dalm.config import Columns, PairColumns, ReadingComprehension, check
from dalm.errors import UserError
from dalm.io.examples import read_examples
from dalm.io.writers import check_output_file, write_table
from dalm.records import Passage
from dalm.synth.domain_words import domain_words, general_words
from dalm.synth.exercise_texts import ComprehensionText
from dalm.synth.exercises import KINDS

logger = logging.getLogger(__name__)


def start(settings: ReadingComprehension) -> Path:
    """Refuse what can't work, and return where the texts go.

    Raises:
        UserError: a value out of range, no source of exercises, or a file in the way.
    """
    check(settings)
    if not settings.patterns and settings.questions is None:
        raise UserError("--no-patterns leaves no exercises; name a table of --questions")
    output = Path(settings.output).expanduser()
    check_output_file(output, settings.overwrite_output)
    return output


def columns(settings: ReadingComprehension) -> PairColumns:
    """Return the names of the passages' columns."""
    return PairColumns(
        passage_column=settings.passage_column,
        title_column=settings.title_column,
        encoding=settings.encoding,
    )


def questions(
    settings: ReadingComprehension, passages: Sequence[Passage]
) -> Mapping[str, list[tuple[str, str]]]:
    """Return the questions with their answers by the ids of the passages that they were made of.

    Raises:
        UserError: none of them is about one of the passages.
    """
    if settings.questions is None:
        return {}
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    examples = read_examples(settings.questions, Columns(), needs=("passage", "answer"))
    for example in examples:
        assert example.passage is not None
        assert example.answer is not None
        found[example.passage.id].append((example.query, example.answer))
    known = sum(len(found[passage.id]) for passage in passages if passage.id in found)
    if not known:
        raise UserError(
            f"none of the questions in {settings.questions} is about one of the passages; "
            "name the table that was made of them"
        )
    logger.info("questions  %d, %d of other passages", known, len(examples) - known)
    return found


def domain(settings: ReadingComprehension, passages: Sequence[Passage]) -> frozenset[str]:
    """Return the domain's own words, for sentences to be made from them."""
    if not settings.patterns:
        return frozenset()
    if settings.general_vocabulary is None:
        logger.info("vocabulary none to compare with: no sentences from words of the domain")
        return frozenset()
    general = general_words(settings.general_vocabulary)
    found = domain_words((passage.text for passage in passages), general)
    logger.info("vocabulary %d words that %s lacks", len(found), settings.general_vocabulary)
    return found


def finish(output: Path, texts: Sequence[ComprehensionText]) -> None:
    """Write the texts, and say what is in them."""
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
