"""Keep questions with an index that it certainly finds the passages of, as examples for its users.

They are questions of the table by which the index was calibrated; a page shows some of them.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalm import artifacts
from dalm.file_reading import DamagedError, read_json
from dalm.retrieval.base import Searcher, VectorStore

logger = logging.getLogger(__name__)

FILE = "examples.json"
MOST = 24
"""Questions that are kept: passages may be deleted, and a few are shown."""
AMONG_FIRST = 3
"""Hits among which a question's passage has to be."""
WORDS = range(4, 21)
"""Numbers of words that an example may have."""
REMEDY = "calibrate again: dalm index --index-dir INDEX --calibrate QUESTIONS"


@dataclass(frozen=True, slots=True)
class ExampleQuestion:
    """A question, and the ids of the passages that answer it."""

    question: str
    passages: tuple[str, ...]


def is_presentable(question: str) -> bool:
    """Return whether a question is one line of a length that people read at a glance."""
    fits = len(question.split()) in WORDS or 12 <= len(question) <= 60
    return fits and len(question) <= 160 and question.isprintable() and question[-1:] in "?？؟"


def save(folder: Path, examples: Sequence[ExampleQuestion]) -> None:
    """Write the examples into a generation's folder, at most `MOST`, in place of earlier ones."""
    rows = [{"question": e.question, "passages": list(e.passages)} for e in examples[:MOST]]
    artifacts.write_json(folder / FILE, {"examples": rows})


def read(folder: Path) -> list[ExampleQuestion]:
    """Return the examples of a generation; none without a file, or if it is damaged, with a log."""
    file = folder / FILE
    if not file.exists():
        return []
    try:
        rows: Any = read_json(file, REMEDY).get("examples")
        return [ExampleQuestion(each["question"], tuple(each["passages"])) for each in rows]
    except (DamagedError, AttributeError, TypeError, KeyError):  # nothing depends on them
        logger.warning("examples   %s is damaged: no questions are shown; %s", file, REMEDY)
        return []


def found_by(
    searcher: Searcher, examples: Iterable[ExampleQuestion], store: VectorStore, most: int
) -> list[ExampleQuestion]:
    """Return the first examples whose passages a search finds, each of another document if it can.

    One whose passages are known not to answer it, by the index's threshold, isn't found.
    """
    found: list[ExampleQuestion] = []
    documents = set[str]()
    spare: list[ExampleQuestion] = []
    for example in examples:
        if not store.texts_of(list(example.passages)):
            continue
        (hits,) = searcher.search([example.question], AMONG_FIRST)
        right = next((hit for hit in hits if hit.id in example.passages), None)
        if right is None or right.relevant is False:
            continue
        document = right.passage.document or right.passage.source or right.id
        (spare if document in documents else found).append(example)
        documents.add(document)
        if len(found) == most:
            break
    return [*found, *spare][:most]
